"""
What one attempt of a job has reserved of its customer's budgets, and how its usage records settle it.

Every transaction that changes the job's row goes through `write`, which adds a row for each budget: a bucket with what
the transaction's usage records spend, and with less reserved. So a reservation and what it is for can't come apart.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from shared.billing.bucket_rows import PoolKey, pool_key
from shared.billing.buckets import ZERO, Change
from shared.billing.budget_pool import BudgetPool, LimitReached
from shared.billing.budgets import Budgets
from shared.billing.money import EXACT, exact_sum
from shared.billing.usage_records import is_placeholder
from shared.contract.budget import Budget
from shared.contract.result import ConnectionLabel
from shared.storage.base import MAX_TRANSACTION_ROWS, Row, RowChanged

_RECORDS = ("u_", "c_")
_ENDED = frozenset({"done", "waiting"})
"""States of a job whose attempt has ended."""
_Target = tuple[PoolKey, int]
"""A bucket."""
_Changes = defaultdict[PoolKey, defaultdict[int, Change]]
"""What changes in which bucket."""


class ReservedAmount(msgspec.Struct, array_like=True, frozen=True):
    """What a job's row says that it has reserved of one budget."""

    budget: str
    unit: str
    period: str
    bucket: int
    amount: Decimal


class ReservedFor(msgspec.Struct, frozen=True):
    """What a job's row says of the calls that it has reserved for. The sweep needs it if no attempt follows."""

    model: str
    connection: ConnectionLabel
    deployment_scope: str | None = None


@dataclass(slots=True)
class Booking:
    """What a job reserves of one budget."""

    name: str
    budget: Budget
    amount: Decimal
    """What is reserved and not settled yet."""
    measure: Callable[[Mapping[str, Any]], Decimal]
    """Returns what a usage record counts."""
    kind: str = ""
    """The kind of job, if its amount could not be estimated."""
    target: _Target | None = None
    spent: Decimal = ZERO
    """What it has settled."""


class BookingRefused(Exception):
    """A budget has too little left for a booking. `left`, `is_reserved`: see LimitReached."""

    def __init__(self, booking: Booking, left: Decimal, *, is_reserved: bool) -> None:
        super().__init__()
        self.booking, self.left, self.is_reserved = booking, left, is_reserved


@dataclass(slots=True)
class JobBudgets:
    """The reservations of one attempt. `in_doubt`: what an attempt has reserved whose worker has died."""

    budgets: Budgets
    customer: str
    in_doubt: Sequence[ReservedAmount] = ()
    held: list[Booking] = field(default_factory=list)
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
            key = pool_key(self.customer, booking.name, booking.budget, at)
            booking.target = key, self.budgets.pool(key).choose(booking.amount)
        self.requested = list(bookings)

    def fits(self) -> bool:
        """Return whether there is probably enough for what is requested. Reads nothing."""
        targets = [(_target(booking), booking.amount) for booking in self.requested]
        return all(self.budgets.pool(key).has(number, amount) for (key, number), amount in targets)

    async def write(self, changed: Row, added: Sequence[Row], *, operation_id: str = "") -> Sequence[str]:
        """
        Write the job's row and others, as `Table.merge_and_insert`, and the budgets' rows in the same transaction.

        Return the new etag of the job's row. Raises RowChanged because of these rows, BookingRefused.
        """
        ended = changed.values.get("state") in _ENDED
        spent = [_spent(booking, added) for booking in self.held]
        left = [
            ZERO if ended else max(EXACT.subtract(booking.amount, amount), ZERO)
            for booking, amount in zip(self.held, spent, strict=True)
        ]
        changes = self._changes(spent, left, ended=ended)
        if not (changes or (ended and self.held)):
            return await self.budgets.table.merge_and_insert(changed, added, operation_id=operation_id)
        kept = [_held(booking, amount) for booking, amount in zip(self.held, left, strict=True) if not ended]
        kept += [_held(booking, booking.amount) for booking in self.requested]
        text = msgspec.json.encode(kept).decode() if kept else ""
        values = {**changed.values, "reservation": text}
        if self.requested and self.reserved_for is not None:
            values["reserved_for"] = msgspec.json.encode(self.reserved_for).decode()
        row = replace(changed, values=values)
        etag = await self._write(row, added, operation_id, changes)
        for booking, amount, rest in zip(self.held, spent, left, strict=True):
            booking.spent, booking.amount = EXACT.add(booking.spent, amount), rest
        self.held = [] if ended else [*self.held, *self.requested]
        self.requested, self.in_doubt = [], ()
        return [etag]

    def _changes(self, spent: Sequence[Decimal], left: Sequence[Decimal], *, ended: bool) -> _Changes:
        changes: _Changes = defaultdict(lambda: defaultdict(Change))
        for held in self.in_doubt:
            # A job is counted when it ends; all else may have been consumed.
            amount = ZERO if held.unit == "jobs" else held.amount
            key = PoolKey(self.customer, held.budget, held.unit, held.period)
            changes[key][held.bucket] += Change(EXACT.minus(held.amount), amount)
        for booking, amount, rest in zip(self.held, spent, left, strict=True):
            change = Change(EXACT.subtract(rest, booking.amount), amount)
            if ended and booking.kind:
                change = replace(change, kind=booking.kind, total=EXACT.add(booking.spent, amount))
            if change != Change():
                key, number = _target(booking)
                changes[key][number] += change
        for booking in self.requested:
            key, number = _target(booking)
            changes[key][number] += Change(booking.amount, wanted=booking.amount)
        return changes

    async def _write(self, row: Row, added: Sequence[Row], operation_id: str, changes: _Changes) -> str:
        repeated, self._uncertain = self._uncertain == operation_id, operation_id
        pools = {key: self.budgets.pool(key) for key in sorted(changes)}
        async with AsyncExitStack() as locks:
            for key, pool in pools.items():  # in one order, so that no two attempts wait for each other
                for number in sorted(changes[key]):
                    await locks.enter_async_context(pool.locks[number])
            try:
                etag = await self._write_locked(row, added, operation_id, changes, pools)
            except BookingRefused:
                # If it had been made, the budget refuses it because of itself.
                etag = await self._etag_of_own(row) if repeated else ""
                if not etag:
                    self._uncertain = ""
                    raise
            except RowChanged:
                self._uncertain = ""
                raise
        self._uncertain = ""
        return etag

    async def _write_locked(
        self,
        row: Row,
        added: Sequence[Row],
        operation_id: str,
        changes: _Changes,
        pools: Mapping[PoolKey, BudgetPool],
    ) -> str:
        room = (MAX_TRANSACTION_ROWS - 1 - len(added)) // max(len(pools), 1)
        while True:
            async with AsyncExitStack() as locks:
                rows: list[Row] = []
                for key, pool in pools.items():
                    rows += await self._rows(pool, changes[key], locks, room)
                try:
                    etags = await self.budgets.table.merge_and_insert(row, [*added, *rows], operation_id=operation_id)
                except RowChanged as exc:
                    if (exc.row.etag if exc.row else "") != row.etag:
                        raise  # the job's row is another's, or has changed
                    changed = [await pool.is_changed(rows) for pool in pools.values()]
                    if not any(changed):
                        raise
                    continue
                except BaseException:  # it may have been made
                    for pool in pools.values():
                        pool.wrote(rows, ())
                    raise
                for pool in pools.values():
                    pool.wrote(rows, etags[1 + len(added) :])
                return etags[0]

    async def _rows(
        self, pool: BudgetPool, changes: Mapping[int, Change], locks: AsyncExitStack, room: int
    ) -> list[Row]:
        bookings = (*self.requested, *self.held)
        booking = next((each for each in bookings if _target(each)[0] == pool.key), None)
        try:
            return await pool.rows(changes, booking.budget if booking else None, locks, room=room)
        except LimitReached as exc:
            assert booking is not None  # noqa: S101  # only a request is refused
            raise BookingRefused(booking, exc.left, is_reserved=exc.is_reserved) from None

    async def _etag_of_own(self, row: Row) -> str:
        """Return the etag of the job's row if it has the reservation."""
        current = await self.budgets.table.read(row.partition, row.key)
        is_own = current is not None and current.values.get("reservation") == row.values["reservation"]
        return current.etag if current is not None and is_own else ""


def read_reserved(text: str) -> Sequence[ReservedAmount]:
    """Return what a job's row says that it has reserved."""
    return msgspec.json.decode(text, type=list[ReservedAmount]) if text else ()


def read_reserved_for(text: str) -> ReservedFor | None:
    """Return what a job's row says of the calls that it has reserved for."""
    return msgspec.json.decode(text, type=ReservedFor) if text else None


def _spent(booking: Booking, added: Sequence[Row]) -> Decimal:
    records = (row for row in added if row.key.startswith(_RECORDS) and not is_placeholder(row))
    return exact_sum(booking.measure(row.values) for row in records)


def _held(booking: Booking, amount: Decimal) -> ReservedAmount:
    key, number = _target(booking)
    return ReservedAmount(key.budget, key.unit, key.period, number, amount)


def _target(booking: Booking) -> _Target:
    assert booking.target is not None  # noqa: S101  # `request` has set it
    return booking.target
