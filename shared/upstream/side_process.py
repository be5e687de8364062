"""
A process beside the worker, which does what takes long with one large body: decode it, or redact it.

A worker's event loop serves all customers, and Python's decoders hold the interpreter's lock, so that a thread would
not help: 64 MiB of hostile JSON would stop every job of the worker for seconds. There is one such process at a time,
for one body, in bounded memory (`side_child`).
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
from weakref import WeakValueDictionary

from shared.errors import ProviderUnavailable
from shared.secret import Secret
from shared.upstream.side_child import TOO_MUCH, redact_key

T = TypeVar("T")

_PIECE_BYTES = 1024 * 1024
_COMMAND = "from shared.upstream.side_child import main; main()"


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
            if secret.may_be_in(body[max(0, start - overlap) : start + _PIECE_BYTES]):
                return await self.call(customer, redact_key, body, secret.reveal())
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
    if process.returncode == TOO_MUCH or (process.returncode or 0) < 0:
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


async def _end(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
