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
from pathlib import Path
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

from shared.errors import ProviderUnavailable
from shared.secret import Secret, may_contain, redact

T = TypeVar("T")

MAX_MEMORY_BYTES = 1024 * 1024 * 1024
"""Of the process. What needs more can't be read."""
MAX_RESULT_BYTES = 192 * 1024 * 1024
"""Of what it returns: control characters, for instance, are six times as long in JSON."""
_MAX_CPU_S = 60
_PIECE_BYTES = 1024 * 1024
_NICENESS = 10
"""It has the processor if the worker does not need it."""
_FIRST_TO_END = b"1000"
"""Its score when memory is short: the system ends it before the worker."""
_TOO_MUCH = 77
"""Its exit code if it needs more than a limit."""
_COMMAND = f"from {__name__} import main; main()"


class SideProcess:
    """Calls functions of modules with large arguments. Make it within the running loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)
        self._turns = WeakValueDictionary[str, asyncio.Lock]()
        """One for each customer, so that customers take turns, however many calls one of them waits for."""

    async def call(self, customer: str, function: Callable[..., T], *args: Any) -> T:
        """
        Return what `function` returns, called in the other process. Both ways, everything is pickled.

        Raises what the function raises, and ProviderUnavailable if it needs more memory or time than a body may take.
        """
        own_turn = self._turns.setdefault(customer, asyncio.Lock())
        async with own_turn, self._turn:
            result, error = await _call_in_process(function, args)
        await asyncio.sleep(0)  # unpickling has taken a moment, and what is done with the result takes another one
        if error is not None:
            raise error
        return cast(T, result)

    async def redact(self, body: bytes, secret: Secret, customer: str) -> bytes:
        """Return `body` as `shared.secret.redact` does. Raises ProviderUnavailable as `call`."""
        overlap = 2 * len(secret.reveal())  # in UTF-16, a key has twice as many bytes
        for start in range(0, len(body), _PIECE_BYTES):
            if may_contain(body[max(0, start - overlap) : start + _PIECE_BYTES], secret):
                return await self.call(customer, _redact, body, secret.reveal())
            await asyncio.sleep(0)
        return body


async def _call_in_process(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    # It imports from where the worker does, and from nowhere else; it does not run the worker's main module.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = sys.executable, "-S", "-P", "-c", _COMMAND
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, env=environment, limit=_PIECE_BYTES
        )
    except OSError:  # the system has no process left: what was paid for is read all the same
        return await asyncio.to_thread(function, *args), None
    try:
        output = await _exchange(process, memoryview(pickle.dumps((function, args), pickle.HIGHEST_PROTOCOL)))
    finally:
        await _end(process)
    if process.returncode == _TOO_MUCH or (process.returncode or 0) < 0:
        # It was answered, and would need as much the next time: it is not transient.
        return None, ProviderUnavailable("The endpoint's answer takes more memory or time to read than an answer may.")
    if process.returncode:
        raise RuntimeError(f"The process ended with {process.returncode}.")
    result, error = pickle.loads(output)  # noqa: S301  # our own process wrote it
    return result, error


async def _exchange(process: Process, data: memoryview) -> bytes:
    assert process.stdin is not None  # noqa: S101
    assert process.stdout is not None  # noqa: S101
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # its exit code says why
        for start in range(0, len(data), _PIECE_BYTES):
            process.stdin.write(data[start : start + _PIECE_BYTES])
            await process.stdin.drain()
        process.stdin.close()
    output = await process.stdout.read()
    await process.wait()
    return output


def _redact(body: bytes, key: str) -> bytes:
    return redact(body, Secret(key))


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def main() -> None:
    """Read one call from stdin and write its result to stdout: in the other process."""
    _limit_process()
    # What anything else prints is no result.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as results:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        try:
            output = pickle.dumps(_called(), pickle.HIGHEST_PROTOCOL)
        except MemoryError:
            os._exit(_TOO_MUCH)
        if len(output) > MAX_RESULT_BYTES:
            os._exit(_TOO_MUCH)
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
        Path("/proc/self/oom_score_adj").write_bytes(_FIRST_TO_END)
