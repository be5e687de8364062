"""Reads a customer's key from a hidden prompt, stdin or a file; never from an argument."""

from __future__ import annotations

import contextlib
import getpass
import sys
from pathlib import Path

from aijobs.console import interruptible
from aijobs.diagnostics import CommandError, cant_be_read
from shared.contract.pasted import unquote
from shared.secret import Secret


def read_key(file: Path | None, purpose: str) -> Secret:
    """
    Return the key without surrounding white space and quotes. `purpose` completes the prompt, "Key of …".

    Raises CommandError. Its message doesn't name the file: the file's name may be a key, typed in the wrong place.
    """
    text = _prompt(purpose) if file is None else _read(file)
    key = unquote(text)
    if not key:
        raise CommandError("No key was given.")
    if "\n" in key:
        raise CommandError("A key must be a single line.")
    with contextlib.suppress(UnicodeEncodeError):
        key.encode()
        return Secret(key)
    raise CommandError("The key is not UTF-8 text.")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as exc:
        raise cant_be_read("The file in --key-file", exc) from None
    except ValueError:
        raise CommandError("The file in --key-file is not UTF-8 text.") from None


def _prompt(purpose: str) -> str:
    if sys.stdin is None:  # the caller has closed it
        return ""
    try:
        with interruptible():
            return getpass.getpass(f"Key of {purpose} (hidden): ") if sys.stdin.isatty() else sys.stdin.read()
    except EOFError:
        return ""
    except UnicodeDecodeError:  # `from None`: the cause holds what was read
        raise CommandError("The key is not UTF-8 text, such as a file that PowerShell wrote as UTF-16.") from None
