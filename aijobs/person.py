"""Who runs the command line, for the audit trail."""

from __future__ import annotations

import getpass
from contextlib import suppress


def person() -> str:
    """Return the name of this machine's user, such as `ann`."""
    with suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return "unknown"
