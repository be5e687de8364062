"""One request at a time for what many want at once, such as a secret or a token."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from shared.errors import JobError, RetryLater

K = TypeVar("K")
V = TypeVar("V")


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


async def _settled(work: Coroutine[Any, Any, V]) -> V | JobError | RetryLater:
    # Returned, not raised: a task whose callers have all gone would log an exception that nobody retrieved.
    try:
        return await work
    except (JobError, RetryLater) as exc:
        return exc
