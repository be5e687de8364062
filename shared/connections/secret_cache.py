"""
Secrets in memory, as whoever uses them parsed them.

A secret is read once at a time, however many wait for it. It is used for FRESH_S, and for STALE_S while the vault
does not answer, but never outside its own dates. One that its endpoint refuses is read again before a job fails for it.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Generic, TypeVar

from shared.clock import now
from shared.connections.store import StoredCredential
from shared.errors import VaultUnavailable
from shared.lru import LRU
from shared.single_flight import SingleFlight

FRESH_S = 300.0
"""How long a usable secret is served before it is read again."""
STALE_S = 3600.0
"""How long it is served while the vault does not answer."""
OUTAGE_S = 30.0
"""Time between two reads of a secret that is served while the vault does not answer."""
REREAD_S = 5.0
"""
Time between two reads of a secret that is missing, unusable, outside its dates, or that the vault did not answer for: a
corrected secret serves soon, and a flood of jobs does not become a flood of reads. It counts for one secret, not for
the vault, because a role may be granted on a single secret.
"""
REFUSED_PAUSE_S = 1.0
"""
Time between two reads of a secret that its endpoint refuses. Jobs wait for the next one: what was read before a refusal
does not show whether the secret has been rotated since.
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
    number: int = 0
    """The reads and refusals of all secrets are numbered in their order."""

    def is_valid(self) -> bool:
        """Whether it is within its dates now."""
        return self.secret is None or self.secret.is_valid(now())


Load = Callable[[], Awaitable[Entry[V]]]
"""Reads one secret and parses it. Raises VaultUnavailable."""


class SecretCache(Generic[K, V]):
    """Secrets by key. `clock` returns monotonic seconds."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries = LRU[K, Entry[V]](MAX_ENTRIES)
        self._failures = LRU[K, tuple[float, VaultUnavailable]](MAX_ENTRIES)
        """Secrets that the vault did not answer for since they were last read, and when."""
        self._reads = SingleFlight[K, Entry[V]]()
        self._rereads = SingleFlight[K, Entry[V]]()
        self._numbers = count(1)

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

    async def reread(self, key: K, load: Load[V], *, is_refused: Callable[[V], bool]) -> Entry[V]:
        """
        Return the entry if it is another one than the one that was refused just now; else read it from now on.

        Secrets are so read every REFUSED_PAUSE_S at most, for all who wait. Raises VaultUnavailable if the vault does
        not answer whether the secret has changed.
        """
        number, entry = next(self._numbers), self._entries.get(key)
        while entry is None or (is_refused(entry.value) and entry.number < number):
            entry = await self._rereads.run(key, partial(self._reread_now, key, load))
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
            raise copy.copy(failed[1])
        return await self._reads.run(key, partial(self._read_now, key, load))

    async def _reread_now(self, key: K, load: Load[V]) -> Entry[V]:
        entry = self._entries.get(key)
        if entry is not None and (pause_s := entry.reread_at + REFUSED_PAUSE_S - self._clock()) > 0:
            await asyncio.sleep(pause_s)
        entry = await self._read(key, load, pause_s=REREAD_S)
        entry.reread_at = self._clock()
        return entry

    async def _read_now(self, key: K, load: Load[V]) -> Entry[V]:
        number = next(self._numbers)
        try:
            entry = await load()
            entry.number = number
        except VaultUnavailable as exc:
            if self._reads.is_current(key):
                self._failures.set(key, (self._clock(), copy.copy(exc)))
            raise
        return self.put(key, entry) if self._reads.is_current(key) else entry
