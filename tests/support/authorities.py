"""
The certificate authorities that tests trust by default: one, whose key nobody has.

No test calls a server that needs the system's, and reading those takes 25 ms for each TLS context: some seconds of a
run's time for every hundred clients.
"""

from __future__ import annotations

import os
from pathlib import Path

FEW = Path(__file__).parent / "authority.pem"
_VARIABLE = "SSL_CERT_FILE"
_of_the_system = {name: text for name, text in os.environ.items() if name == _VARIABLE}


def environment() -> dict[str, str]:
    """Return the environment with the system's authorities, for a process that installs something."""
    return {name: text for name, text in os.environ.items() if name != _VARIABLE} | _of_the_system
