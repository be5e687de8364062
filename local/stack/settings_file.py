"""
`local.settings.json` while the stack runs: written when all is ready, gone when it stops, so that a
file that is there means a stack that can be used. `func start` and the tests read it.

A file that somebody else wrote is never touched. Ours bears the number of our process, for people, and is
locked as long as that lives: the kernel ends the lock with the process, whoever gets its number after it.
"""

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

MARK = "LOCAL_STACK_PID"  # a setting like the others, since Core Tools knows no further members


class Taken(Exception):
    """The file belongs to somebody else. The message says to whom, and what to do."""


def check(path: Path) -> None:
    """
    Makes sure that `path` may be written: nothing is there, or what a stack that was killed left behind.

    Raises Taken.
    """
    if not path.exists():
        return
    owner = _owner(path)
    if owner is None:
        raise Taken(
            f"{path} was not written by the local stack, so it is left alone. "
            "Move it away, or name another file with --settings."
        )
    if _locked(path):
        raise Taken(f"A local stack is running already, as process {owner}. Stop it first, or use --settings.")


@contextlib.contextmanager
def written(path: Path, settings: Mapping[str, str], port: int) -> Iterator[None]:
    """
    The file, in the format of Core Tools, until the block ends; written at once or not at all.

    Raises Taken.
    """
    check(path)
    document = {
        "IsEncrypted": False,
        "Values": {**settings, MARK: str(os.getpid())},
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
    """The process that a file says it belongs to, if it is one of ours."""
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["Values"][MARK])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _locked(path: Path) -> bool:
    """Whether the stack that wrote a file still runs."""
    with path.open(encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # let go with the file
        except BlockingIOError:
            return True
    return False
