"""
The timer that closes months: half an hour after a month's end, it puts a job into the queue for each customer that has
anything in it.

It goes from customer to customer for a limited time, and the next run continues: the position is a row in a partition
that no customer can have. Putting a job into the queue again does no harm, so a run may die anywhere. A customer for
whom Storage fails, or whose job a later version of the app has begun, is not left out: the next run makes the pass once
more.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Literal

from shared.billing.closing_facts import CLOSABLE_AFTER
from shared.billing.price_books import PriceBooks
from shared.clock import now
from shared.contract.closed_month import DocumentId
from shared.errors import JobConflict, RetryLater
from shared.event_names import NAMESPACE, STATEMENTS_QUEUED
from shared.jobs.queries import next_customers
from shared.jobs.statement_jobs import StatementJobs
from shared.storage.base import Row, RowConflict, Table
from shared.storage.bulk import gather_limited

PASS_S = 540.0
"""Seconds of one run; the next one, ten minutes after it began, continues."""
MAX_ROUNDS = 6
"""How often all customers are gone through for the sake of those for whom Storage had failed."""
_PAGE = 100
"""Customers between two writes of the position."""
_PARTITION, _KEY = "~closing", "position"
_TAKEN = "The id of the job belongs to a caller's job from before such ids were refused."
_Queued = Literal["queued", "other", "empty", "failed"]

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a month's pass has come."""

    month: str
    customer: str = ""
    """The last customer that is done with."""
    round: int = 1
    failed: int = 0
    """Customers of this round for whom Storage failed."""
    is_over: bool = False


@dataclass(slots=True)
class ClosingPass:
    """Puts the jobs of a month into the queue."""

    table: Table
    jobs: StatementJobs
    price_books: PriceBooks
    queued: int = 0
    _etag: str = ""

    async def run(self, at: datetime | None = None, *, seconds: float = PASS_S) -> str:
        """
        Begin or continue the pass that is due. Return how it ended, and log it if anything was due.

        `idle`: nothing was due. `complete`, or `incomplete`: its time was up, or Storage had failed for a customer, for
        whose sake the next run goes through all of them once more. `overtaken`: another run has continued.
        Raises StorageUnavailable; the next run continues.
        """
        deadline = time.monotonic() + seconds
        position = await self._position(at or now())
        if position is None:
            return "idle"
        try:
            outcome = await self._run(position, deadline)
        except RowConflict:
            outcome = "overtaken"
        return outcome

    async def _run(self, position: Position, deadline: float) -> str:
        if not position.customer and position.round == 1 and await self.price_books.current() is None:
            position = replace(position, is_over=True)  # nothing can be priced
            await self._save(position)
        while not position.is_over:
            number, position = position.round, await self._page(position)
            await self._save(position)
            if position.round > number or time.monotonic() >= deadline:  # Storage may need longer than a moment
                break
        outcome = "complete" if position.is_over else "incomplete"
        level = logging.WARNING if position.failed else logging.INFO
        details = (position.month, self.queued, position.round, position.failed)
        log.log(level, "%s %s month=%s queued=%d round=%d failed=%d", STATEMENTS_QUEUED, outcome, *details)
        return outcome

    async def _page(self, position: Position) -> Position:
        customers = await next_customers(self.table, position.customer, _PAGE)
        results = await gather_limited(self._submit(customer, DocumentId(position.month)) for customer in customers)
        self.queued += results.count("queued")
        failed = position.failed + results.count("failed")
        if len(customers) == _PAGE:
            return replace(position, customer=customers[-1], failed=failed)
        if failed and position.round < MAX_ROUNDS:
            return Position(position.month, round=position.round + 1)
        return replace(
            position, customer=customers[-1] if customers else position.customer, failed=failed, is_over=True
        )

    async def _submit(self, customer: str, document: DocumentId) -> _Queued:
        try:
            if not await has_activity(self.table, customer, document.month):
                return "empty"
            return "queued" if await self.jobs.submit(customer, document) == "queued" else "other"
        except JobConflict:
            log.error("%s customer=%s %s", STATEMENTS_QUEUED, customer, _TAKEN)  # noqa: TRY400
            return "other"
        except RetryLater:
            return "failed"

    async def _position(self, at: datetime) -> Position | None:
        """Return the position of the pass that is due, None if no pass is."""
        row = await self.table.read(_PARTITION, _KEY)
        last = last_closable(at)
        if row is None:
            return Position(last)
        values = row.values
        self._etag = row.etag
        position = Position(**{each.name: values[each.name] for each in fields(Position)})
        if not position.is_over:
            return position
        # One month after the other, also if the app was stopped for longer.
        return Position(_next(position.month)) if position.month < last else None

    async def _save(self, position: Position) -> None:
        row = Row(_PARTITION, _KEY, asdict(position), self._etag)
        self._etag = await (self.table.merge(row) if self._etag else self.table.insert(row))


async def has_activity(table: Table, customer: str, month: str) -> bool:
    """Return whether a customer has usage, closed jobs, credits or debits in a month. Raises StorageUnavailable."""
    for prefix in (f"u_{month}-", f"c_{month}-", f"d_{month}_"):
        if await is_known(table, customer, prefix):
            return True
    return False


async def is_known(table: Table, customer: str, prefix: str = "") -> bool:
    """Return whether a customer has rows, or rows with such keys. Raises StorageUnavailable."""
    after = ""
    while True:
        page = await table.page(customer, prefix, f"{prefix}~", columns=(), after=after)
        after = page.after
        if page.rows or not after:
            return bool(page.rows)


def last_closable(at: datetime) -> str:
    """Return the last month that can be closed at a time."""
    return f"{(at - CLOSABLE_AFTER).replace(day=1) - timedelta(days=1):%Y-%m}"


def _next(month: str) -> str:
    return f"{datetime.fromisoformat(f'{month}-01') + timedelta(days=31):%Y-%m}"
