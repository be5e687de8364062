"""
A process beside the worker, which does what takes long with one large body: decode it, or redact it.

A worker's event loop serves all customers, and Python's decoders hold the interpreter's lock, so that a thread would
not help: 64 MiB of hostile JSON would stop every job of the worker for seconds. There is one such process at a time,
for one body, in bounded memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from typing import Any, TypeVar, cast

from shared.errors import ProviderUnavailable
from shared.secret import Secret, may_contain, redact

T = TypeVar("T")

MAX_MEMORY_BYTES = 1024 * 1024 * 1024
"""Of the process. What needs more can't be read."""
_PIECE_BYTES = 1024 * 1024
_NICENESS = 10
"""It has the processor if the worker does not need it."""
_COMMAND = f"from {__name__} import main; main()"


class SideProcess:
    """Calls functions of modules with large arguments. Make it within the running loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)

    async def call(self, function: Callable[..., T], *args: Any) -> T:
        """
        Return what `function` returns, called in the other process. Both ways, everything is pickled.

        Raises what the function raises, and ProviderUnavailable if it needs more memory than a body may take.
        """
        async with self._turn:
            result, error = await _call_in_process(function, args)
        if error is not None:
            raise error
        return cast(T, result)

    async def redact(self, body: bytes, secret: Secret) -> bytes:
        """Return `body` as `shared.secret.redact` does. Raises ProviderUnavailable as `call`."""
        overlap = 2 * len(secret.reveal())  # in UTF-16, a key has twice as many bytes
        for start in range(0, len(body), _PIECE_BYTES):
            if may_contain(body[max(0, start - overlap) : start + _PIECE_BYTES], secret):
                return await self.call(_redact, body, secret.reveal())
            await asyncio.sleep(0)
        return body


async def _call_in_process(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    # It imports from where the worker does, and does not run the worker's main module.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = sys.executable, "-c", _COMMAND
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, env=environment)
    try:
        output, _ = await process.communicate(pickle.dumps((function, args), pickle.HIGHEST_PROTOCOL))
    finally:
        await _end(process)
    if process.returncode:
        # It was answered, and would need as much the next time: it is not transient.
        return None, ProviderUnavailable("The endpoint's answer takes more memory to read than an answer may.")
    result, error = pickle.loads(output)  # noqa: S301  # our own process wrote it
    return result, error


def _redact(body: bytes, key: str) -> bytes:
    return redact(body, Secret(key))


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def main() -> None:
    """Read one call from stdin and write its result to stdout: in the other process."""
    _limit_process()
    function, args = pickle.load(sys.stdin.buffer)  # noqa: S301  # the worker wrote it
    result, error = None, None
    try:
        result = function(*args)
    except MemoryError:
        os._exit(1)
    except Exception as exc:  # noqa: BLE001  # the worker raises it
        error = exc
    pickle.dump((result, error), sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)


def _limit_process() -> None:
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):  # not every system has each of them
        os.nice(_NICENESS)
        import resource  # noqa: PLC0415

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
