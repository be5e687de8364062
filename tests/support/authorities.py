"""
The certificate authorities that tests trust by default: one, whose key nobody has.

No test calls a server that needs the system's, and reading those takes 25 ms for each TLS context: some seconds of a
run's time for every hundred clients. aiohttp makes contexts when it is imported, so this is imported before it.
"""

from __future__ import annotations

import os
from pathlib import Path

FEW = Path(__file__).parent / "authority.pem"
_VARIABLE, _SYSTEM_S = "SSL_CERT_FILE", "SSL_CERT_FILE_OF_THE_SYSTEM"


def trust_few() -> None:
    """Trust the one authority, here and in the processes that this one starts."""
    os.environ.setdefault(_SYSTEM_S, os.environ.get(_VARIABLE, ""))
    os.environ[_VARIABLE] = str(FEW)


def environment() -> dict[str, str]:
    """Return the environment with the system's authorities, for a process that installs something."""
    others = {name: text for name, text in os.environ.items() if name not in {_VARIABLE, _SYSTEM_S}}
    return others | ({_VARIABLE: file} if (file := os.environ.get(_SYSTEM_S)) else {})


trust_few()
