"""
The sweep: goes from customer to customer and removes what has outlived its retention, for a limited time.

Where it stops, the next one goes on: its position is a row in a partition that no customer can have. It
may die anywhere, and every page can be removed twice. Of two at a time, one notices and leaves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from shared.clock import now
from shared.contract.names import is_name
from shared.errors import StorageUnavailable
from shared.event_names import SWEEP_FINISHED
from shared.retention.expiry import LONGEST_WAIT, NOTHING, Reach, Removal, Removed, reach
from shared.settings import Settings
from shared.storage.base import Blobs, Row, RowConflict, Table

SWEEP_S = 600
"""Seconds that one sweep takes at most, but for its last page."""
_LAST_PAGE_S = 120
"""Before `functionTimeout` (host.json) would end the worker, and the jobs on it."""
_SAVE_S = 30
_WORTH_IT = timedelta(hours=12)
"""How much further than the last pass a new one must reach. Several sweeps a day then are one pass a day."""
_MOST_FAULTS = 3
"""Customers in a row at whom Storage fails, before the sweep is given up."""
_PARTITION, _KEY = "~sweep", "position"
_WALKS = ("usage", "blobs", "jobs")

log = logging.getLogger("customer_ai_jobs")


@dataclass(frozen=True, slots=True)
class Position:
    """How far a pass has come. All of it is removed with one reach: rows only whose blobs were looked at."""

    reach: Reach
    customer: str = ""
    """Empty: the pass is over."""
    walk: str = _WALKS[0]
    after: str = ""


class Overtaken(Exception):
    """Another sweep has gone on from our position."""


@dataclass
class Sweep:
    """One sweep. `removed`, `customers` and `faults` tell what it has done."""

    table: Table
    blobs: Blobs
    settings: Settings
    removed: Removed = field(default_factory=Removed)
    customers: int = 0
    faults: int = 0
    _etag: str = ""
    _saved: float = 0

    async def run(self, at: datetime | None = None, *, seconds: float = SWEEP_S) -> str:
        """
        Removes what has outlived its retention at a moment, and logs what it was; never raises for Storage.

        Gives how it ended: `complete`, `goes_on` (the next one does), `overtaken`, or `storage_fault`.
        """
        began, fault = time.monotonic(), ""
        try:
            async with asyncio.timeout(seconds + _LAST_PAGE_S):
                ended = await self._run(at or now(), began + seconds)
        except (StorageUnavailable, TimeoutError) as exc:
            ended, fault = "storage_fault", str(exc) or "Storage took too long."
        except Overtaken:
            ended = "overtaken"
        removed = self.removed
        log.info(
            "%s %s customers=%d jobs=%d steps=%d blobs=%d usage=%d faults=%d run_ms=%d %s",
            *(SWEEP_FINISHED, ended, self.customers, removed.jobs, removed.steps, removed.blobs, removed.usage),
            *(self.faults, (time.monotonic() - began) * 1000, fault),
        )
        return ended

    async def _run(self, at: datetime, end: float) -> str:
        place = await self._begin(reach(self.settings, at))
        if place is None:
            return "complete"
        await self._save(place)
        in_a_row = 0
        while place.customer:
            try:
                before, place = place, await self._page(place)
                in_a_row = in_a_row if place.customer == before.customer else 0
            except StorageUnavailable:
                # One customer's blob may be held for ever. The others go on; it has its turn in the next pass.
                self.faults, in_a_row = self.faults + 1, in_a_row + 1
                place = await self._next(place)
                if in_a_row == _MOST_FAULTS:
                    await self._save(place)
                    raise
            if time.monotonic() >= end:
                break
            if time.monotonic() - self._saved >= _SAVE_S:
                await self._save(place)
        await self._save(place)
        return "goes_on" if place.customer else "complete"

    async def _begin(self, wanted: Reach) -> Position | None:
        """Where to begin, or None where there is nothing to do yet."""
        last = await self._read()
        if last is not None and last.customer:
            allowed = last.reach.within(wanted)  # a life that was made longer holds at once
            # A page's continuation is good for the same question only.
            return last if allowed == last.reach else Position(allowed, last.customer)
        if not wanted.exceeds(NOTHING if last is None else last.reach, _WORTH_IT):
            return None
        return await self._next(Position(wanted))

    async def _page(self, place: Position) -> Position:
        removal = Removal(self.table, self.blobs, self.settings.results_container, place.reach, self.removed)
        walks = {"usage": removal.remove_usage, "blobs": removal.remove_blobs, "jobs": removal.remove_jobs}
        after = await walks[place.walk](place.customer, place.after)
        if after:
            return replace(place, after=after)
        if place.walk != _WALKS[-1]:
            return replace(place, walk=_WALKS[_WALKS.index(place.walk) + 1], after="")
        self.customers += 1
        return await self._next(place)

    async def _next(self, place: Position) -> Position:
        customer: str | None = place.customer
        while (customer := await self.table.next_partition(customer or "")) is not None:
            if is_name(customer):
                return Position(place.reach, customer)
        return Position(place.reach)

    async def _read(self) -> Position | None:
        row = await self.table.read(_PARTITION, _KEY)
        if row is None:
            return None
        self._etag, values = row.etag, row.values
        # An older version knew only when jobs had ended.
        submitted_before = values.get("submitted_before") or values["jobs_before"] - LONGEST_WAIT
        found = Reach(values["jobs_before"], values["usage_before"], submitted_before)
        return Position(found, values["customer"], values["walk"], values["after"])

    async def _save(self, place: Position) -> None:
        values: dict[str, Any] = {
            "jobs_before": place.reach.jobs_before,
            "usage_before": place.reach.usage_before,
            "submitted_before": place.reach.submitted_before,
            "customer": place.customer,
            "walk": place.walk,
            "after": place.after,
        }
        row = Row(_PARTITION, _KEY, values, self._etag)
        try:
            self._etag = await (self.table.merge(row) if self._etag else self.table.insert(row))
        except RowConflict:
            raise Overtaken from None
        self._saved = time.monotonic()
