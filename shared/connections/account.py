"""Which account of its provider a connection leads to."""

from __future__ import annotations

import hashlib
import re

from shared.connections.connection import Connection

_API = re.compile(r"(/openai)?(/v1|/deployments)?$")
"""How a base ends, whichever of its API's styles a connection uses."""


def account_of(connection: Connection) -> str:
    """
    Return what identifies the account that a connection leads to.

    Its key is not part of it, because keys are rotated: an account with the same endpoint looks like it.
    """
    parts = _API.sub("", connection.endpoint.base), connection.organization or "", connection.project or ""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
