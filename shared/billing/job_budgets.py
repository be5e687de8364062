"""
What one attempt of a job has reserved of its customer's budgets, and how its usage records settle it.

Every transaction that changes the job's row goes through `write`, which adds a row for each budget: a bucket with what
the transaction's usage records spend, and with less reserved. So a reservation and what it is for can't come apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec
from msgspec.structs import replace

from shared.billing.bookings import Booking, BookingRefused, Settled, Target, reserved_amount, settled_of
from shared.billing.bucket_moves import LimitReached
from shared.billing.bucket_rows import PoolKey, pool_key
from shared.billing.buckets import ZERO, Change, Terms, budget_of
from shared.billing.budget_pool import BudgetPool, Writes
from shared.billing.budgets import Budgets
from shared.billing.measures import Measure
from shared.billing.money import EXACT
from shared.billing.reserved_amounts import ReservedAmount, ReservedFor
from shared.contract.budget import Budget
from shared.storage.base import MAX_TRANSACTION_ROWS, Row, RowChanged

_Changes = tuple[BudgetPool, dict[int, Change]]
"""What changes in the buckets of a budget, by their numbers."""


@dataclass(slots=True)
class JobBudgets:
    """The reservations of one attempt. `in_doubt`: what an attempt has reserved whose worker has died."""

    budgets: Budgets
    customer: str
    in_doubt: Sequence[ReservedAmount] = ()
    held: list[Booking] = field(default_factory=list)
    is_restored: bool = False
    """Whether what is held was reserved by an earlier attempt, and nothing more has been requested."""
    keeps: bool = False
    """Whether a job that waits keeps what it holds, because calls of it are at their provider."""
    requested: list[Booking] = field(default_factory=list)
    """What the next transaction reserves."""
    reserved_for: ReservedFor | None = None
    output_limit: int | None = None
    """The limit to be sent with calls that have none of their own, because budgets cover no more."""
    _uncertain: str = ""
    """The id of an operation whose outcome is not known."""

    def request(self, bookings: Sequence[Booking], at: datetime) -> None:
        """Have the next transaction reserve this, each in the period of that time."""
        for booking in bookings:
            pool = self.budgets.pool(pool_key(self.customer, booking.name, booking.budget, at))
            booking.target = pool, pool.choose(booking.amount)
        self.requested = list(bookings)

    def hold(self, reserved: Sequence[ReservedAmount], measure: Callable[[ReservedAmount], Measure]) -> None:
        """Hold what an earlier attempt has reserved, in its own buckets. `measure`: returns what counts its records."""
        for each in reserved:
            key = PoolKey(self.customer, each.budget, each.unit, each.period)
            unknown = budget_of(Terms(ZERO), each.unit, key.kind)
            booking = Booking(each.budget, unknown, each.amount, measure(each), is_defined=False)
            booking.target = self.budgets.pool(key), each.bucket
            self.held.append(booking)
        self.is_restored = True

    def held_of(self, name: str, budget: Budget) -> Booking | None:
        """Return what is held of a budget, unless it had another unit or period then."""
        own = (name, budget.unit, budget.period)
        keys = [(booking, booking.target[0].key) for booking in self.held]
        return next((booking for booking, key in keys if (key.budget, key.unit, key.kind) == own), None)

    def fits(self) -> bool:
        """Return whether there is probably enough for what is requested. Reads nothing."""
        targets = [(*booking.target, booking.amount) for booking in self.requested]
        return all(pool.has(number, amount) for pool, number, amount in targets)

    async def write(self, changed: Row, added: Sequence[Row], *, operation_id: str = "") -> Sequence[str]:
        """
        Write the job's row and others, as `Table.merge_and_insert`, and the budgets' rows in the same transaction.

        Return the new etag of the job's row. Raises RowChanged because of these rows, BookingRefused.
        """
        state = changed.values.get("state")
        ended = state == "done" or (state == "waiting" and not self.keeps)
        settled = [settled_of(booking, added, ended=ended) for booking in self.held]
        changes = self._changes(settled, ended=ended)
        if not (changes or (ended and self.held)):
            return await self.budgets.table.merge_and_insert(changed, added, operation_id=operation_id)
        kept = [] if ended else [reserved_amount(booking, left) for booking, _, left in settled]
        kept += [reserved_amount(booking, booking.amount) for booking in self.requested]
        values = {**changed.values, "reservation": msgspec.json.encode(kept).decode() if kept else ""}
        if self.requested and self.reserved_for is not None:
            values["reserved_for"] = msgspec.json.encode(self.reserved_for).decode()
        row = Row(changed.partition, changed.key, values, changed.etag)
        etag = await self._write(row, added, operation_id, changes)
        for booking, spent, left in settled:
            booking.spent, booking.amount = EXACT.add(booking.spent, spent), left
        self.held = [] if ended else [*self.held, *self.requested]
        self.requested, self.in_doubt = [], ()
        return [etag]

    def _changes(self, settled: Sequence[Settled], *, ended: bool) -> Sequence[_Changes]:
        changes: list[tuple[Target, Change]] = []
        for held in self.in_doubt:
            # A job is counted when it ends; all else may have been consumed.
            amount = ZERO if held.unit == "jobs" else held.amount
            pool = self.budgets.pool(PoolKey(self.customer, held.budget, held.unit, held.period))
            changes.append(((pool, held.bucket), Change(EXACT.minus(held.amount), amount)))
        for booking, spent, left in settled:
            change = Change(EXACT.subtract(left, booking.amount), spent)
            if ended and booking.kind:
                change = replace(change, kind=booking.kind, total=EXACT.add(booking.spent, spent))
            if change.reserved or change.spent or change.kind:
                changes.append((booking.target, change))
        for booking in self.requested:
            changes.append((booking.target, Change(booking.amount, wanted=booking.amount)))
        return _by_pool(changes)

    async def _write(self, row: Row, added: Sequence[Row], operation_id: str, changes: Sequence[_Changes]) -> str:
        repeated, self._uncertain = self._uncertain == operation_id, operation_id
        locked: list[Target] = []
        try:
            for pool, own in changes:
                for number in own:
                    await pool.lock(number)
                    locked.append((pool, number))
            etag = await self._write_locked(row, added, operation_id, changes)
        except BookingRefused:
            # If it had been made, the budget refuses it because of itself.
            etag = await self._etag_of_own(row) if repeated else ""
            if not etag:
                self._uncertain = ""
                raise
        except RowChanged:
            self._uncertain = ""
            raise
        finally:
            for pool, number in locked:
                pool.unlock(number)
        self._uncertain = ""
        return etag

    async def _write_locked(
        self, row: Row, added: Sequence[Row], operation_id: str, changes: Sequence[_Changes]
    ) -> str:
        room = (MAX_TRANSACTION_ROWS - 1 - len(added)) // max(len(changes), 1)
        while True:
            locks: list[asyncio.Lock] = []
            try:
                parts = [(pool, await self._writes(pool, own, locks, room)) for pool, own in changes]
                rows = [*added, *(each for _, part in parts for each in part.rows)]
                try:
                    etag, *etags = await self.budgets.table.merge_and_insert(row, rows, operation_id=operation_id)
                except RowChanged as exc:
                    if (exc.row.etag if exc.row else "") != row.etag:
                        raise  # the job's row is another's, or has changed
                    changed = [await pool.is_changed(part.buckets) for pool, part in parts]
                    if not any(changed):
                        raise
                    continue
                except BaseException:  # it may have been made
                    for pool, part in parts:
                        pool.wrote(part.buckets, ())
                    raise
                first = len(added)
                for pool, part in parts:
                    pool.wrote(part.buckets, etags[first : first + len(part.buckets)])
                    first += len(part.rows)
                return etag
            finally:
                for lock in locks:
                    lock.release()

    async def _writes(
        self, pool: BudgetPool, changes: Mapping[int, Change], locks: list[asyncio.Lock], room: int
    ) -> Writes:
        bookings = (*self.requested, *self.held)
        booking = next((each for each in bookings if each.target[0].key == pool.key), None)
        try:
            return await pool.writes(
                changes, booking.budget if booking and booking.is_defined else None, locks, room=room
            )
        except LimitReached as exc:
            assert booking is not None  # noqa: S101  # only a request is refused
            raise BookingRefused(booking, exc.left, is_reserved=exc.is_reserved) from None

    async def _etag_of_own(self, row: Row) -> str:
        """Return the etag of the job's row if it has the reservation."""
        current = await self.budgets.table.read(row.partition, row.key)
        is_own = current is not None and current.values.get("reservation") == row.values["reservation"]
        return current.etag if current is not None and is_own else ""


def _by_pool(changes: Sequence[tuple[Target, Change]]) -> Sequence[_Changes]:
    """Return the changes in one order, so that no two attempts wait for each other."""
    pools: dict[PoolKey, _Changes] = {}
    for (pool, number), change in changes:
        _, own = pools.setdefault(pool.key, (pool, {}))
        own[number] = own[number] + change if number in own else change
    return [(pools[key][0], dict(sorted(pools[key][1].items()))) for key in sorted(pools)]
