"""What starts this program, so that the commands in its help and messages can be copied."""

from __future__ import annotations

import sys
from pathlib import Path


def program_name() -> str:
    """Return `aijobs`, or the Python that was started and `-m aijobs`."""
    started = Path(sys.argv[0])
    is_module = (started.parent.name, started.name) == ("aijobs", "__main__.py")
    return f"{sys.orig_argv[0]} -m aijobs" if is_module else "aijobs"


def command(line: str) -> str:
    """Return a command line of this program, between backticks."""
    return f"`{program_name()} {line}`"
