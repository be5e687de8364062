"""
Secrets in memory, as whoever uses them parsed them.

A secret is read once at a time, however many wait for it. It is used for FRESH_S, and for STALE_S while the vault
does not answer, but never outside its own dates.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from shared.clock import now
from shared.connections.store import StoredCredential
from shared.errors import VaultUnavailable
from shared.lru import LRU

FRESH_S = 300.0
"""How long a usable secret is served before it is read again."""
STALE_S = 3600.0
"""How long it is served while the vault does not answer."""
OUTAGE_S = 30.0
"""Time between two reads of a secret that is served while the vault does not answer."""
REREAD_S = 5.0
"""
Time between two reads of a secret that is missing, unusable, outside its dates, refused by its endpoint, or that the
vault did not answer for: a corrected secret serves soon, and a flood of jobs does not become a flood of reads. It
counts for one secret, not for the vault, because a role may be granted on a single secret.
"""
MAX_ENTRIES = 10_000
"""Secrets kept in memory by one cache."""

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class Entry(Generic[V]):
    """One secret, as it was read. A loader sets the first three members, the cache the others."""

    value: V
    secret: StoredCredential | None
    """The version that was read; None if there is none, or none that can be read."""
    is_usable: bool
    """Whether `value` can serve within the dates of `secret`."""
    read_at: float = 0
    was_valid: bool = True
    """Whether it was within its dates when it was read."""
    reread_at: float = float("-inf")

    def is_valid(self) -> bool:
        """Whether it is within its dates now."""
        return self.secret is None or self.secret.is_valid(now())


Load = Callable[[], Awaitable[Entry[V]]]
"""Reads one secret and parses it. Raises VaultUnavailable."""


class SingleFlight(Generic[K, V]):
    """One task for each key at a time: whoever comes while it runs gets its result."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V | VaultUnavailable]] = {}

    async def run(self, key: K, work: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return what `work` returns, or what it returns for those who came first. Raises VaultUnavailable."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(_settled(work()))
            task.add_done_callback(lambda done: self._tasks.get(key) is done and self._tasks.pop(key))
        result = await asyncio.shield(task)  # a caller that is cancelled does not cancel the others' task
        if isinstance(result, VaultUnavailable):
            raise _copy(result)  # a shared exception would collect the tracebacks of all callers
        return result

    def forget(self, key: K) -> None:
        """Let the next caller start a new task; the one that runs goes on for those who wait for it."""
        self._tasks.pop(key, None)

    def is_current(self, key: K) -> bool:
        """Whether the task that calls this is the one of `key`, and was not forgotten."""
        return self._tasks.get(key) is asyncio.current_task()


class SecretCache(Generic[K, V]):
    """Secrets by key. `clock` returns monotonic seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries = LRU[K, Entry[V]](MAX_ENTRIES)
        self._failures = LRU[K, tuple[float, VaultUnavailable]](MAX_ENTRIES)
        """Secrets that the vault did not answer for since they were last read, and when."""
        self._reads = SingleFlight[K, Entry[V]]()

    def peek(self, key: K) -> Entry[V] | None:
        """Return the entry as it was last read, of whatever age, or None."""
        return self._entries.get(key)

    async def get(self, key: K, load: Load[V]) -> Entry[V]:
        """
        Return the entry, read with `load` if it is not fresh; its dates may have ended.

        Raises VaultUnavailable if the vault does not answer and there is no usable entry that is young enough.
        """
        entry = self._entries.get(key)
        if entry is not None and self._is_fresh(entry):
            return entry
        is_bridge = entry is not None and self._is_bridge(entry)
        try:
            return await self._read(key, load, pause_s=OUTAGE_S if is_bridge else REREAD_S)
        except VaultUnavailable:
            if entry is None or not is_bridge:
                raise
            return entry

    async def reread(self, key: K, load: Load[V]) -> Entry[V]:
        """
        Return the entry, read again even if it is fresh, but at most every REREAD_S.

        Raises VaultUnavailable if the vault does not answer whether the secret has changed.
        """
        entry = self._entries.get(key)
        just_reread = entry is not None and self._clock() - entry.reread_at < REREAD_S
        if entry is None or not just_reread or key in self._failures:
            entry = await self._read(key, load, pause_s=REREAD_S)
            entry.reread_at = self._clock()
        return entry

    def put(self, key: K, entry: Entry[V]) -> Entry[V]:
        """Keep an entry that has just been read, and return it."""
        entry.read_at, entry.was_valid = self._clock(), entry.is_valid()
        self._entries.set(key, entry)
        self._failures.pop(key)
        return entry

    def forget(self, key: K) -> None:
        """Have the secret read again by the next `get`. A read that is under way is not kept."""
        self._entries.pop(key)
        self._failures.pop(key)
        self._reads.forget(key)

    def _is_fresh(self, entry: Entry[V]) -> bool:
        if entry.was_valid and not entry.is_valid():  # its dates have ended, so there may be a new version
            return False
        life_s = FRESH_S if entry.is_usable and entry.was_valid else REREAD_S
        return self._clock() - entry.read_at < life_s

    def _is_bridge(self, entry: Entry[V]) -> bool:
        """Whether it may be served while the vault does not answer."""
        return entry.is_usable and entry.is_valid() and self._clock() - entry.read_at <= STALE_S

    async def _read(self, key: K, load: Load[V], *, pause_s: float) -> Entry[V]:
        failed = self._failures.get(key)
        if failed is not None and self._clock() - failed[0] < pause_s:
            raise _copy(failed[1])
        return await self._reads.run(key, partial(self._read_now, key, load))

    async def _read_now(self, key: K, load: Load[V]) -> Entry[V]:
        try:
            entry = await load()
        except VaultUnavailable as exc:
            if self._reads.is_current(key):
                self._failures.set(key, (self._clock(), _copy(exc)))
            raise
        return self.put(key, entry) if self._reads.is_current(key) else entry


async def _settled(work: Coroutine[Any, Any, V]) -> V | VaultUnavailable:
    # Returned, not raised: a task whose callers have all gone would log an exception that nobody retrieved.
    try:
        return await work
    except VaultUnavailable as exc:
        return exc


def _copy(exc: VaultUnavailable) -> VaultUnavailable:
    return VaultUnavailable(str(exc), exc.delay_s)
