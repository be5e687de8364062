"""
One budget in one period, as a worker knows it: reads and writes its buckets.

A worker remembers the buckets that it has written last, so that most transactions need no read before. It relies on
nothing that it remembers: the etag shows whether it still holds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from msgspec.structs import replace

from shared.billing.bucket_moves import Pool
from shared.billing.bucket_rows import PoolKey
from shared.billing.buckets import BUCKETS, ZERO, Bucket, Change, Terms, budget_of, new_buckets, quantum_of, terms_of
from shared.contract.budget import Budget
from shared.errors import StorageUnavailable
from shared.storage.base import Row, RowConflict, Table

_MAX_TRIES = 200
"""Of a change of several buckets, while other workers change them."""
_SHORT_S = 2.0
_MAX_STRIKES, _FORGIVEN = 4, 0.25
"""After so many conflicts a worker leaves a bucket; each write without one makes up for a part of one."""
_MANY = 4
"""Transactions of one bucket, with which a worker uses more buckets than it prefers."""
_PREFERRED = 2
"""Buckets that a worker uses as long as they have enough. It leaves those that others turn out to use."""

Fresh = Callable[[Budget], Awaitable[Budget]]
"""Returns a budget's definition, freshly read; the given one if it was deleted."""
Events = Callable[[Sequence[int], Decimal, Decimal], Awaitable[Sequence[Row]]]
"""Returns the rows of the events of thresholds, by the limit and what is spent by then."""


class Writes(NamedTuple):
    """What a transaction writes: first the row of each bucket, then others."""

    rows: Sequence[Row]
    buckets: Sequence[Bucket]


@dataclass(slots=True, eq=False)
class BudgetPool:
    """The buckets of one budget in one period. Every method raises StorageUnavailable."""

    key: PoolKey
    table: Table
    fresh: Fresh
    events: Events
    conflicts: int = 0
    """Transactions that were refused because another worker had changed a bucket."""
    _locks: Sequence[asyncio.Lock] = field(default_factory=lambda: [asyncio.Lock() for _ in range(BUCKETS)])
    """A worker writes each bucket one transaction after the other."""
    _all: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while all buckets are read and some of them written, which others' transactions make futile."""
    _buckets: dict[int, Bucket] = field(default_factory=dict)
    _shared: set[int] = field(default_factory=set)
    """The buckets that another worker has changed: this worker uses them only if it prefers them."""
    _writing: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    """How many transactions write a bucket, or wait for that."""
    _turn: int = 0
    _strikes: list[float] = field(default_factory=lambda: [0.0] * BUCKETS)
    """How often a bucket was changed by another worker lately."""
    _order: list[int] = field(default_factory=lambda: random.sample(range(BUCKETS), BUCKETS))
    """The buckets that this worker prefers come first, so that workers seldom write the same one."""

    def choose(self, amount: Decimal) -> int:
        """
        Return the number of a bucket for a reservation: one of the few that this worker prefers.

        It is one that probably has enough and, if there is one, that nothing of this worker's is writing. If each has
        many transactions, it may be any other that no other worker has changed.
        """
        preferred = self._order[:_PREFERRED]
        having = [number for number in preferred if self.has(number, amount)]
        if having and min(self._writing[number] for number in having) >= _MANY:
            having += [each for each in self._order if each not in self._shared and self.has(each, amount)]
        having = having or [number for number in self._order if self.has(number, amount)] or preferred
        idle = [number for number in having if not self._writing[number]] or having
        self._turn += 1
        return idle[self._turn % len(idle)]

    async def lock(self, number: int) -> None:
        """Wait until nothing else of this worker's writes a bucket."""
        self._writing[number] += 1
        try:
            await self._locks[number].acquire()
        except BaseException:
            self._writing[number] -= 1
            raise

    def unlock(self, number: int) -> None:
        """Let the next transaction write a bucket."""
        self._writing[number] -= 1
        self._locks[number].release()

    def has(self, number: int, amount: Decimal) -> bool:
        """Return whether a bucket probably has enough. Reads nothing."""
        bucket = self._buckets.get(number)
        return bucket is not None and bucket.free >= amount

    async def writes(
        self, changes: Mapping[int, Change], budget: Budget | None, locks: list[asyncio.Lock], *, room: int
    ) -> Writes:
        """
        Return the rows of a transaction that changes buckets so, whose locks the caller holds.

        They are at most `room`: those of the buckets, of others that they get something from, and of events. No row of
        a bucket that is gone. A lock that is added to `locks` is released after the transaction. Without a `budget`,
        the definition is the one that the buckets were made or adapted for. Raises LimitReached.
        """
        before = [self._buckets.get(number) or await self._read_one(number) for number in changes]
        first = self._buckets.get(0)
        head = first.head if first else None
        if head is not None and (budget is None or head.terms == terms_of(budget)):
            fitting = [
                bucket.changed(changes[bucket.number])
                for bucket in before
                if bucket and bucket.holds(changes[bucket.number], head)
            ]
            if len(fitting) == len(changes):
                return Writes([self.key.used_row(bucket, changes[bucket.number]) for bucket in fitting], fitting)
        total = sum(changes.values(), Change())
        if not (total.wanted or any(before)):
            return Writes((), ())
        await self._all.acquire()
        locks.append(self._all)
        for _ in range(_MAX_TRIES):
            pool = await self.read(budget)
            pool.check_limit(total)
            changed = pool.with_changes(changes)
            if changed is None:
                await asyncio.sleep(random.uniform(0, 0.01))  # noqa: S311
                continue
            passed = [threshold for threshold in changed.head.passed if threshold not in pool.head.passed]
            if len(changed.touched) + len(passed) > room and (gathered := pool.gathered(changes).changed):
                await self._write(gathered)
                continue
            events = await self.events(passed, changed.head.terms.limit, changed.spent) if passed else ()
            return Writes([*map(self.key.row, changed.changed), *events], changed.changed)
        raise self._busy()

    def wrote(self, buckets: Sequence[Bucket], etags: Sequence[str]) -> None:
        """Remember buckets as a transaction has written them. Without etags, forget them."""
        if not etags:
            for bucket in buckets:
                self._buckets.pop(bucket.number, None)
        for bucket, etag in zip(buckets, etags, strict=False):
            number = bucket.number
            self._buckets[number] = replace(bucket, etag=etag)
            if self._strikes[number]:
                self._strikes[number] = max(self._strikes[number] - _FORGIVEN, 0)

    async def is_changed(self, buckets: Sequence[Bucket]) -> bool:
        """Return whether others have changed buckets since a refused transaction was made of them; read those again."""
        changed = False
        for number, etag in [(bucket.number, bucket.etag) for bucket in buckets]:
            current = await self.table.read(self.key.customer, self.key.bucket_key(number))
            if current is None or current.etag != etag:
                changed = True
                self._buckets.pop(number, None)
                self._add_strike(number)
            if current is not None:
                self._buckets[number] = self.key.read(current)
        if changed:  # the terms may have changed, too
            self._buckets.pop(0, None)
            await self._read_one(0)
        self.conflicts += changed
        return changed

    async def read(self, budget: Budget | None) -> Pool:
        """
        Return all buckets, freshly read. Make them if they are missing; adapt them if the budget was changed.

        The definition is read after the buckets and before they are written at their etags. So the last change of a
        definition is also the last that the buckets get, whoever makes it.
        """
        for _ in range(_MAX_TRIES):
            pool = await self.find()
            if pool is None:
                budget = await self.fresh(budget or budget_of(Terms(ZERO), self.key.unit, self.key.kind))
                await self._write(new_buckets(terms_of(budget), quantum_of(budget.unit)))
                continue
            budget = budget or budget_of(pool.head.terms, self.key.unit, self.key.kind)
            if pool.head.terms != terms_of(budget):
                budget = await self.fresh(budget)
            if pool.head.terms != terms_of(budget):
                adapted = pool.with_terms(terms_of(budget))
                due = adapted.due()
                events = await self.events(due, budget.limit, pool.spent) if due else ()
                await self._write((adapted.with_passed(0, due) if due else adapted).changed, events)
            elif not pool.head.is_balanced and (changed := pool.balanced().changed):
                await self._write(changed)
            else:
                return pool
        raise self._busy()

    async def find(self) -> Pool | None:
        """Return all buckets, freshly read; None if no job has used the budget in this period."""
        first, last = self.key.prefix, f"{self.key.prefix}~"
        buckets = [self.key.read(row) async for row in self.table.scan(self.key.customer, first, last)]
        if len(buckets) < BUCKETS:
            return None
        self._buckets = {bucket.number: bucket for bucket in buckets}
        return Pool(buckets, quantum_of(self.key.unit))

    async def _read_one(self, number: int) -> Bucket | None:
        if number not in self._buckets:
            row = await self.table.read(self.key.customer, self.key.bucket_key(number))
            if row is None:
                return None
            self._buckets[number] = self.key.read(row)
            if number:  # the terms may have changed since the first one was read, and are written into all
                self._buckets.pop(0, None)
                await self._read_one(0)
        return self._buckets.get(number)

    async def _write(self, buckets: Sequence[Bucket], others: Sequence[Row] = ()) -> None:
        """Write buckets and rows beside them, unless somebody else has changed one of them."""
        first, *rest = map(self.key.row, buckets)
        try:
            if first.etag:
                await self.table.merge_and_insert(first, [*rest, *others])
            else:
                await self.table.insert(first, beside=[*rest, *others])
        except RowConflict:
            self.conflicts += 1

    def _add_strike(self, number: int) -> None:
        """
        Another worker has changed a bucket. If that happens often, leave the bucket to it.

        Not at once: jobs settle where they have reserved, so each worker that leaves goes on writing for a while.
        """
        self._shared.add(number)
        self._strikes[number] += 1
        if self._strikes[number] >= _MAX_STRIKES:
            self._strikes[number] = 0
            self._order.remove(number)
            self._order.append(number)

    def _busy(self) -> StorageUnavailable:
        return StorageUnavailable(f"The budget {self.key.budget} is being changed by others all the time.", _SHORT_S)
