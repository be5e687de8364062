"""
`local.settings.json` while the stack runs: written when all parts are ready and removed when they stop, so a file
that exists means a stack that can be used. `func start` and the tests read it.

A file from another source is never changed. Ours contains the number of our process, for people to read, and stays
locked as long as the process lives: the kernel releases the lock, even if another process gets the same number.
"""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

PID_SETTING = "LOCAL_STACK_PID"  # a setting like the others: Core Tools accepts no further members


class SettingsFileInUse(Exception):
    """The file belongs to someone else. The message says to whom, and what to do."""


def check(path: Path) -> None:
    """
    Make sure that `path` may be written: it does not exist, or a stack that was killed left it behind.

    Raises SettingsFileInUse.
    """
    if not path.exists():
        return
    owner = _owner(path)
    if owner is None:
        raise SettingsFileInUse(
            f"{path} was not written by the local stack, so it is left unchanged. "
            "Move it away, or name another file with --settings."
        )
    if _locked(path):
        raise SettingsFileInUse(
            f"A local stack is already running, as process {owner}. Stop it, or name another file with --settings."
        )


@contextlib.contextmanager
def written(path: Path, settings: Mapping[str, str], port: int) -> Iterator[None]:
    """
    The file, in Core Tools' format, until the block ends. It is written atomically.

    Raises SettingsFileInUse.
    """
    check(path)
    document = {
        "IsEncrypted": False,
        "Values": {**settings, PID_SETTING: str(os.getpid())},
        "Host": {"LocalHttpPort": port},
    }
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            json.dump(document, file, indent=2)
            file.write("\n")
            file.flush()
            Path(draft).replace(path)
        finally:
            Path(draft).unlink(missing_ok=True)
        try:
            yield
        finally:
            if _owner(path) == os.getpid():
                path.unlink()


def _owner(path: Path) -> int | None:
    """The number of the process that wrote a file, if a local stack wrote it."""
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["Values"][PID_SETTING])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _locked(path: Path) -> bool:
    """Whether the stack that wrote a file is still running."""
    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # released when the file is closed
        except BlockingIOError:
            return True
    return False
