"""
The retention sweep: goes from customer to customer, removes what has outlived its retention, and rolls closed days up,
for a limited time.

The next sweep continues where one stopped: the position is a row in a partition that no customer can have. A sweep
may crash anywhere, since every page can be removed twice. If two run at the same time, one notices and stops.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from shared.billing.outbox import Outbox
from shared.billing.price_books import PriceBooks
from shared.billing.rollups import Rollups
from shared.clock import now
from shared.errors import StorageUnavailable
from shared.event_names import NAMESPACE, SWEEP_FINISHED
from shared.jobs.crash_log import log_text
from shared.jobs.queries import next_customer
from shared.jobs.response_rows import ResponseRows
from shared.jobs.schedule import Schedule
from shared.retention.batch_rows import BatchRows
from shared.retention.budget_rows import BudgetRows
from shared.retention.closed_months import ClosedMonthRemoval, kept_from
from shared.retention.evidence import EvidenceRemoval
from shared.retention.expiry import EPOCH, KEEP_EVERYTHING, MAX_REQUEUE_AGE, Cutoff, Removal, Removed, cutoff_at
from shared.settings import Settings
from shared.storage.base import Blobs, Row, RowConflict, Table

SWEEP_S = 600
"""Seconds that one sweep may take, except for its last page."""
_LAST_PAGE_S = 120
"""A sweep ends within SWEEP_S and this, before `functionTimeout` (host.json) would end the worker and its jobs."""
_SAVE_S = 30
"""Seconds between two writes of the position."""
_MIN_ADVANCE = timedelta(hours=12)
"""How much further than the last pass a new one must reach, so that several sweeps a day are one pass a day."""
_MAX_SKIPPED_IN_A_ROW = 3
"""Customers in a row for whom Storage fails, before the sweep stops."""
_OVERDUE = timedelta(hours=1)
"""How long after it was due a job is woken again: longer than its message usually waits to be received."""
_PARTITION, _KEY = "~sweep", "position"
# What waits to be exported goes before its records: without them, an export would take it for done.
_PHASES = (
    *("schedule", "rollups", "outbox", "usage", "closed_jobs", "markers", "tallies", "events", "budgets"),
    *("statements", "adjustments", "audit", "blobs", "jobs", "batches", "responses", "roll_up"),
)

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a pass has come. A pass has one cutoff, so that it removes only rows whose blobs it has removed."""

    cutoff: Cutoff
    customer: str = ""
    """Empty: the pass is over."""
    phase: str = _PHASES[0]
    after: str = ""
    """The continuation token of the phase's next page."""


class Overtaken(Exception):
    """Another sweep has continued from this sweep's position."""


@dataclass
class Sweep:
    """One sweep. `removed`, `customers` and `skipped` count what it has done."""

    table: Table
    blobs: Blobs
    settings: Settings
    schedule: Schedule
    removed: Removed = field(default_factory=Removed)
    customers: int = 0
    """Customers that it has finished."""
    skipped: int = 0
    """Customers that it left for the next pass because Storage failed."""
    _etag: str = ""
    _saved_at: float = 0
    _steps: frozenset[int] | None = None
    """Those of the price book in use, once it is read."""

    async def run(self, at: datetime | None = None, *, seconds: float = SWEEP_S) -> str:
        """
        Remove what has outlived its retention at a time, and log how much that was. Raises nothing for Storage.

        Return how it ended: `complete`, `incomplete` (the next sweep continues), `overtaken`, or `storage_error`.
        """
        started_at, error = time.monotonic(), ""
        try:
            async with asyncio.timeout(seconds + _LAST_PAGE_S):
                outcome = await self._run(at or now(), started_at + seconds)
        except (StorageUnavailable, TimeoutError) as exc:
            outcome = "storage_error"
            error = log_text(exc) if isinstance(exc, StorageUnavailable) else "Storage took too long."
        except Overtaken:
            outcome = "overtaken"
        removed = self.removed
        log.info(
            "%s %s customers=%d jobs=%d steps=%d blobs=%d usage=%d statements=%d skipped=%d run_ms=%d %s",
            *(SWEEP_FINISHED, outcome, self.customers, removed.jobs, removed.steps, removed.blobs, removed.usage),
            *(removed.statements, self.skipped, (time.monotonic() - started_at) * 1000, error),
        )
        return outcome

    async def _run(self, at: datetime, deadline: float) -> str:
        position = await self._start(cutoff_at(self.settings, at))
        if position is None:
            return "complete"
        await self._save(position)
        skipped_in_a_row = 0
        while position.customer:
            try:
                before, position = position, await self._remove_page(position)
                skipped_in_a_row = skipped_in_a_row if position.customer == before.customer else 0
            except StorageUnavailable:
                # A customer's blob may be held forever. The others continue; this one is tried in the next pass.
                self.skipped, skipped_in_a_row = self.skipped + 1, skipped_in_a_row + 1
                position = await self._next_customer(position)
                if skipped_in_a_row == _MAX_SKIPPED_IN_A_ROW:
                    await self._save(position)
                    raise
            if time.monotonic() >= deadline:
                break
            if time.monotonic() - self._saved_at >= _SAVE_S:
                await self._save(position)
        await self._save(position)
        return "incomplete" if position.customer else "complete"

    async def _start(self, cutoff: Cutoff) -> Position | None:
        """Return where to start, or None if there is nothing to do yet."""
        last = await self._read()
        if last is not None and last.customer:
            allowed = last.cutoff.earliest(cutoff)  # a retention that was extended takes effect at once
            # A continuation token is only valid for the same query.
            return last if allowed == last.cutoff else Position(allowed, last.customer)
        if not cutoff.exceeds(KEEP_EVERYTHING if last is None else last.cutoff, _MIN_ADVANCE):
            return None
        return await self._next_customer(Position(cutoff))

    async def _remove_page(self, position: Position) -> Position:
        container, exports = self.settings.results_container, [each.name for each in self.settings.usage_exports]
        removal = Removal(self.table, self.blobs, container, position.cutoff, self.removed, exports)
        # By the pass's cutoff: a continuation token is only valid for the same query.
        statements_before = kept_from(self.settings.retain_statements_years, position.cutoff.submitted_before)
        evidence = EvidenceRemoval(self.table, statements_before)
        statements = ClosedMonthRemoval(
            self.table, self.blobs, self.settings.statements_container, self.removed, statements_before
        )
        phases: dict[str, Callable[..., Awaitable[str]]] = {
            "schedule": partial(self.schedule.wake_overdue, before=now() - _OVERDUE),
            "rollups": removal.remove_rollups,
            "usage": removal.remove_usage,
            "closed_jobs": partial(removal.remove_months, "c_"),
            "markers": removal.remove_markers,
            "statements": statements.remove,
            "adjustments": evidence.remove_adjustments,
            "audit": evidence.remove_audit,
            "outbox": partial(self._remove_outbox, removal),
            "tallies": partial(removal.remove_months, "y_"),
            "events": partial(removal.remove_months, "e_"),
            "budgets": partial(BudgetRows(self.table).remove, before=position.cutoff.usage_before),
            "blobs": removal.remove_blobs,
            "jobs": removal.remove_jobs,
            "batches": partial(BatchRows(self.table).remove, before=position.cutoff.jobs_before),
            "responses": partial(ResponseRows(self.table).remove, keeps_all=position.cutoff.jobs_before == EPOCH),
            "roll_up": self._roll_up,
        }
        after = await phases[position.phase](position.customer, after=position.after)
        if after:
            return replace(position, after=after)
        if position.phase != _PHASES[-1]:
            return replace(position, phase=_PHASES[_PHASES.index(position.phase) + 1], after="")
        self.customers += 1
        return await self._next_customer(position)

    async def _remove_outbox(self, removal: Removal, customer: str, *, after: str) -> str:
        after = await removal.remove_outbox(customer, after)
        if not after:
            await Outbox(self.table).announce_left(customer)
        return after

    async def _roll_up(self, customer: str, *, after: str) -> str:  # noqa: ARG002  # it begins where the last one ended
        """Roll one day up; return it, or an empty string if no day is left."""
        if self._steps is None:
            try:
                pricing = await PriceBooks(self.table, self.blobs, self.settings.statements_container).pricing()
                self._steps = frozenset() if pricing is None else pricing.steps
            except StorageUnavailable:  # a rollup without its steps is still right, and made again later
                self._steps = frozenset()
        day = await Rollups(self.table).advance(customer, self._steps)
        return "" if day is None else f"{day}"

    async def _next_customer(self, position: Position) -> Position:
        return Position(position.cutoff, await next_customer(self.table, position.customer) or "")

    async def _read(self) -> Position | None:
        row = await self.table.read(_PARTITION, _KEY)
        if row is None:
            return None
        self._etag, values = row.etag, row.values
        # An older version did not store when jobs were submitted.
        submitted_before = values.get("submitted_before") or values["jobs_before"] - MAX_REQUEUE_AGE
        cutoff = Cutoff(values["jobs_before"], values["usage_before"], submitted_before)
        return Position(cutoff, values["customer"], values["phase"], values["after"])

    async def _save(self, position: Position) -> None:
        values: dict[str, Any] = {
            "jobs_before": position.cutoff.jobs_before,
            "usage_before": position.cutoff.usage_before,
            "submitted_before": position.cutoff.submitted_before,
            "customer": position.customer,
            "phase": position.phase,
            "after": position.after,
        }
        row = Row(_PARTITION, _KEY, values, self._etag)
        try:
            self._etag = await (self.table.merge(row) if self._etag else self.table.insert(row))
        except RowConflict:
            raise Overtaken from None
        self._saved_at = time.monotonic()
