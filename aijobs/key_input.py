"""Where a customer's key comes from: a person who types it unseen, stdin, or a file; never an argument."""

from __future__ import annotations

import contextlib
import getpass
import sys
from pathlib import Path

from aijobs.console import interruptible
from aijobs.diagnostics import Refused
from shared.secret import Secret


def read_key(file: Path | None, what: str) -> Secret:
    """
    The key, without white space around it. `what` it is for, where a person is asked.

    Raises Refused; the message names no file, since a key may have been given in place of one.
    """
    if file is not None:
        try:
            text = file.read_text(encoding="utf-8-sig")
        except OSError as exc:
            raise Refused(f"The file that --key-file names can't be read: {exc.strerror}.") from None
        except ValueError:
            raise Refused("The file that --key-file names is not UTF-8 text.") from None
    else:
        text = _asked(what)
    key = text.strip()
    if not key:
        raise Refused("No key was given.")
    if "\n" in key:
        raise Refused("A key is one line, and more were given.")
    return Secret(key)


def _asked(what: str) -> str:
    if sys.stdin is None:  # closed by whoever started this
        return ""
    with interruptible(), contextlib.suppress(EOFError):
        return getpass.getpass(f"Key of {what} (it is not shown): ") if sys.stdin.isatty() else sys.stdin.read()
    return ""
