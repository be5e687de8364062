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


def is_at(connection: Connection, account: str) -> bool:
    """
    Return whether a connection of a customer's own leads to that account.

    The operator's never does, though its endpoint may be the same: it serves once the customer's own is deleted.
    """
    return connection.source != "static" and account_of(connection) == account
