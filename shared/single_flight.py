"""One request at a time for what many want at once, such as a secret or a token."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from shared.errors import JobError, RetryLater

K = TypeVar("K")
V = TypeVar("V")
W = TypeVar("W")

PAUSE_S = 0.2
"""
Between two requests of a key that each are for all that is wanted by then. A worker's jobs come one after the other, so
that without it, few of them would want something at once.
"""


class SingleFlight(Generic[K, V]):
    """One task for each key at a time: whoever comes while it runs gets its result."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V | JobError | RetryLater]] = {}

    async def run(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return what `work` returns, or what it returns for those who came first. Raises what it raises."""
        result = await asyncio.shield(self.start(key, work))  # a cancelled caller does not cancel the others' task
        if isinstance(result, JobError | RetryLater):
            raise copy.copy(result)  # a shared exception would collect the tracebacks of all callers
        return result

    def start(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> asyncio.Task[V | JobError | RetryLater]:
        """Have `work` begin for a `run` that comes soon. Return its task, which returns errors."""
        task = self._tasks.get(key)
        if task is None or task.done():  # its callback has not run yet
            task = self._tasks[key] = asyncio.create_task(_settled(work()))
            task.add_done_callback(lambda done: self._tasks.get(key) is done and self._tasks.pop(key))
        return task

    def forget(self, key: K) -> None:
        """Let the next caller start a new task; the one that runs goes on for those who wait for it."""
        self._tasks.pop(key, None)

    def is_current(self, key: K) -> bool:
        """Whether the task that calls this is the one of `key`, and was not forgotten."""
        return self._tasks.get(key) is asyncio.current_task()


class Grouped(Generic[K, W, V]):
    """
    One request at a time for each key, for all that is wanted together, by jobs that nobody waits for.

    The first is sent at once. What is wanted while it is under way, and PAUSE_S after that, goes into the next one,
    sooner if that is full: `size` returns how much of its `limit` something takes. `send` returns an outcome for each,
    which may be an error.
    """

    def __init__(
        self,
        send: Callable[[K, Sequence[W]], Awaitable[Sequence[V | BaseException]]],
        *,
        limit: int,
        size: Callable[[W], int] = lambda _: 1,
    ) -> None:
        self._send, self._limit, self._size = send, limit, size
        self._keys: dict[K, _Wanted[W, V]] = {}

    async def run(self, key: K, wanted: W) -> V:
        """Return what is wanted of a key. Raises its error."""
        state = self._keys.get(key)
        if state is None:
            state = self._keys[key] = _Wanted()
            state.task = asyncio.create_task(self._run(key, state))
        own: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        state.waiting.append((wanted, own))
        state.size += self._size(wanted)
        if state.size >= self._limit:
            state.is_full.set()
        return await own

    async def _run(self, key: K, state: _Wanted[W, V]) -> None:
        try:
            while state.waiting:
                taken = self._take(state)
                outcomes: Sequence[V | BaseException]
                try:
                    outcomes = await self._send(key, [wanted for wanted, _ in taken])
                except Exception as exc:  # noqa: BLE001  # whoever waits for it raises it
                    outcomes = [exc] * len(taken)
                for (_, own), outcome in zip(taken, outcomes, strict=True):
                    if own.done():  # its task was cancelled
                        continue
                    if isinstance(outcome, BaseException):
                        own.set_exception(outcome)
                    else:
                        own.set_result(outcome)
                await _pause(state.is_full)
        finally:
            del self._keys[key]

    def _take(self, state: _Wanted[W, V]) -> list[tuple[W, asyncio.Future[V]]]:
        size = number = 0
        for wanted, _ in state.waiting:
            own = self._size(wanted)
            if number and size + own > self._limit:
                break
            size, number = size + own, number + 1
        taken = state.waiting[:number]
        del state.waiting[:number]
        state.size -= size
        if state.size < self._limit:
            state.is_full.clear()
        return taken


class _Wanted(Generic[W, V]):
    """What is wanted of a key, and not requested yet."""

    def __init__(self) -> None:
        self.waiting: list[tuple[W, asyncio.Future[V]]] = []
        self.size = 0
        self.is_full = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


async def _pause(is_full: asyncio.Event) -> None:
    if PAUSE_S and not is_full.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(PAUSE_S):
                await is_full.wait()


async def _settled(work: Coroutine[Any, Any, V]) -> V | JobError | RetryLater:
    # Returned, not raised: a task whose callers have all gone would log an exception that nobody retrieved.
    try:
        return await work
    except (JobError, RetryLater) as exc:
        return exc
