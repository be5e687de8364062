"""
What runs in the process beside the worker (`side_process`). Imports no more than the function does that it calls: the
process is started for each large body, and half of its start would be the import of an event loop.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from typing import Any

MAX_MEMORY_BYTES = 1024 * 1024 * 1024
"""Of the process. What needs more can't be read."""
MAX_RESULT_BYTES = 192 * 1024 * 1024
"""Of what it returns: control characters, for instance, are six times as long in JSON."""
TOO_MUCH = 77
"""Its exit code if it needs more than a limit."""
_MAX_CPU_S = 60
_NICENESS = 10
"""It has the processor if the worker does not need it."""
_FIRST_TO_END = b"1000"
"""Its score when memory is short: the system ends it before the worker."""


def main() -> None:
    """Read one call from stdin and write its result to stdout: all that the process does."""
    _limit_process()
    # What anything else prints is no result.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as results:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        try:
            output = pickle.dumps(_called(), pickle.HIGHEST_PROTOCOL)
        except MemoryError:
            os._exit(TOO_MUCH)
        if len(output) > MAX_RESULT_BYTES:
            os._exit(TOO_MUCH)
        results.write(output)


def _called() -> tuple[Any, Exception | None]:
    function, args = pickle.load(sys.stdin.buffer)  # noqa: S301  # the worker wrote it
    try:
        return function(*args), None
    except MemoryError:
        raise
    except Exception as exc:  # noqa: BLE001  # the worker raises it
        return None, exc


def _limit_process() -> None:
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):  # not every system has each of them
        os.nice(_NICENESS)
        import resource  # noqa: PLC0415

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (_MAX_CPU_S, _MAX_CPU_S))
        with open("/proc/self/oom_score_adj", "wb") as file:  # noqa: PTH123  # pathlib takes as long as all else
            file.write(_FIRST_TO_END)


def redact_key(body: bytes, key: str) -> bytes:
    """Return `body` as `shared.secret.redact` does."""
    from shared.secret import Secret, redact  # noqa: PLC0415  # other functions need neither

    return redact(body, Secret(key))
