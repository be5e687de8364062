"""
Rollups: the usage of closed days, grouped, so that a statement of a month reads rows by the day and not by the record.

The records stay the truth: a rollup is calculated from them, can be calculated again at any time, and keeps the number
and the hash of the keys that it was calculated from. `r_{day}_{part}` in the customer's partition has the groups of a
day, and `r_through` the day up to which all days are rolled up; a day before that without a row has no usage.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from shared.billing.closed_records import record_key
from shared.billing.rollup_rows import Rollup, read_rollup, read_steps, rollup_rows, steps_values
from shared.billing.usage_entries import Entry, KeyHash, hash_keys, read_days
from shared.billing.usage_groups import UsageGroups
from shared.billing.usage_records import day_of
from shared.clock import now
from shared.contract.closed_month import DocumentId
from shared.contract.price_book import MAX_STEPS
from shared.event_names import NAMESPACE, USAGE_LATE
from shared.storage.base import Row, RowConflict, Table
from shared.storage.bulk import read_pages

CLOSED_AFTER = timedelta(minutes=15)
"""How long after its end a day takes no new record any more; see `usage_records.LATEST_WRITE`."""
MAX_RECORDS = 1_000_000
"""Of a day that is rolled up; and see _MAX_PARTS. A day with more is read from its records."""
_MAX_PARTS = 50
"""They are written in one transaction, of 4 MB at most."""
THROUGH = "r_through"
_DAY = timedelta(days=1)

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a customer's days are rolled up. `steps` are those of all price books so far."""

    through: date | None = None
    steps: frozenset[int] = frozenset()
    etag: str = ""
    is_final: bool = True
    """Whether the day `through` has what it had a day after its end."""


@dataclass(frozen=True, slots=True)
class Rollups:
    """The rollups of all customers. Every method raises StorageUnavailable."""

    table: Table
    clock: Callable[[], datetime] = now

    def last_closed_day(self) -> date:
        """Return the last day that takes no new record."""
        return (self.clock() - CLOSED_AFTER).date() - _DAY

    async def progress(self, customer: str) -> Progress:
        """Return how far the customer's days are rolled up."""
        row = await self.table.read(customer, THROUGH)
        if row is None:
            return Progress()
        through, is_final = date.fromisoformat(row.values["through"]), row.values.get("final", True)
        return Progress(through, frozenset(read_steps(row)), row.etag, is_final)

    async def read(self, customer: str, first: date, last: date) -> AsyncIterator[tuple[date, Rollup | None]]:
        """
        Yield the customer's rollups of the days from `first` to `last` that have one, each day in its turn.

        None: it can't be used, because it is of another version of the app, or is just being replaced.
        """
        rows: list[Row] = []
        async for page in read_pages(self.table, customer, f"r_{first}_", f"r_{last}`"):
            for row in page:
                if rows and day_of(row) != day_of(rows[0]):
                    yield day_of(rows[0]), read_rollup(rows)
                    rows = []
                rows.append(row)
        if rows:
            yield day_of(rows[0]), read_rollup(rows)

    async def entries(
        self, customer: str, first: date, last: date, steps: Iterable[int]
    ) -> AsyncIterator[Sequence[Entry]]:
        """Yield what the days from `first` to `last` have, for a price book with these steps. Uses rollups."""
        # In this order: a day is rolled up before `through` says so.
        through = (await self.progress(customer)).through
        ranges: list[tuple[date, date]] = []
        if through is not None and first <= through:
            async for day, rollup in self.read(customer, first, min(last, through)):
                if rollup is not None and rollup.serves(steps):
                    yield rollup.entries
                elif ranges and ranges[-1][1] + _DAY == day:
                    ranges[-1] = ranges[-1][0], day
                else:
                    ranges.append((day, day))
            first = through + _DAY
        if first <= last:
            ranges.append((first, last))
        for start, end in ranges:
            async for entries in read_days(self.table, customer, start, end):
                yield entries

    async def calculate(self, customer: str, day: date, steps: Iterable[int]) -> Rollup:
        """Return a day's rollup, calculated from its records."""
        keys, groups = KeyHash(), UsageGroups(day, sorted(steps))
        async for entries in read_days(self.table, customer, day, day, keys):
            if keys.count <= MAX_RECORDS:
                groups.add(entries)
        parts = groups.pack() if keys.count <= MAX_RECORDS else []
        parts = parts if len(parts) <= _MAX_PARTS else []
        return Rollup(day, keys.count, keys.hexdigest(), tuple(groups.steps), tuple(parts))

    async def write(self, customer: str, rollup: Rollup) -> None:
        """Write a day's rollup in the place of the one that there is, if any."""
        first, last = f"r_{rollup.day}_", f"r_{rollup.day}`"
        existing = {row.key: row.etag async for row in self.table.scan(customer, first, last)}
        rows = [
            Row(row.partition, row.key, row.values, existing.pop(row.key, ""))
            for row in rollup_rows(customer, rollup, self.clock())
        ]
        try:
            if rows[0].etag:
                await self.table.merge_and_insert(rows[0], rows[1:])
            else:
                await self.table.insert(rows[0], beside=rows[1:])
        except RowConflict:
            return  # somebody else has just rolled the same records up
        await self.table.delete([Row(customer, key, {}) for key in existing])

    async def advance(self, customer: str, steps: Iterable[int]) -> date | None:
        """
        Roll one more day up; return it, or None if there is nothing left to do.

        It is the first closed day with usage that has no rollup; without one, and if the price book in use has `steps`
        that none had before, the first day of a month that is not closed and whose rollup does not distinguish them.
        Before all others it is the last one, a day after it was rolled up, if it has got records since.
        """
        progress = await self.progress(customer)
        if not progress.is_final and progress.through is not None and progress.through < self.last_closed_day():
            return await self._finish(customer, progress.through, progress)
        steps_so_far = progress.steps | set(steps)
        steps_so_far = steps_so_far if len(steps_so_far) <= MAX_STEPS else frozenset(steps)
        day = await self.next_day(customer, progress.through)
        if day is not None:
            await self.write(customer, await self.calculate(customer, day, steps_so_far))
            steps_so_far = steps_so_far if progress.through is None else progress.steps
            is_final = day < self.last_closed_day()
            saved = await self._save(customer, Progress(day, steps_so_far, progress.etag, is_final))
            return day if saved else None
        if progress.through is None or steps_so_far == progress.steps:
            return None
        day = await self._outdated_day(customer, steps)
        if day is None:
            await self._save(customer, replace(progress, steps=steps_so_far))
        else:
            await self.write(customer, await self.calculate(customer, day, steps_so_far))
        return day

    async def _finish(self, customer: str, day: date, progress: Progress) -> date | None:
        """
        Compare a day's rollup with the keys of its records once more, and make it again if they differ.

        A worker that stood still for minutes, or whose clock is wrong, may have written for a closed day.
        """
        rollup = {each: stored async for each, stored in self.read(customer, day, day)}.get(day)
        keys = await hash_keys(self.table, customer, day)
        if rollup is None or (rollup.count, rollup.sha256) != (keys.count, keys.hexdigest()):
            log.warning("%s customer=%s day=%s", USAGE_LATE, customer, day)
            await self.write(customer, await self.calculate(customer, day, rollup.steps if rollup else progress.steps))
        return day if await self._save(customer, replace(progress, is_final=True)) else None

    async def _save(self, customer: str, progress: Progress) -> bool:
        """Return False if another sweep does the same."""
        values = {"through": f"{progress.through}", "final": progress.is_final, **steps_values(progress.steps)}
        row = Row(customer, THROUGH, values, progress.etag)
        try:
            await (self.table.merge(row) if row.etag else self.table.insert(row))
        except RowConflict:
            return False
        return True

    async def next_day(self, customer: str, through: date | None) -> date | None:
        """Return the first closed day after `through`, if any, that has a row of usage."""
        first, last = "0" if through is None else f"{through + _DAY}", self.last_closed_day()
        days = [await self._first_day(customer, f"{kind}_{first}", f"{kind}_{last}`") for kind in ("u", "c", "m")]
        return min((day for day in days if day is not None), default=None)

    async def _first_day(self, customer: str, first: str, last: str) -> date | None:
        async for rows in read_pages(self.table, customer, first, last, columns=()):
            if rows:
                return day_of(rows[0])
        return None

    async def _outdated_day(self, customer: str, steps: Iterable[int]) -> date | None:
        """Return the first day whose rollup does not distinguish these steps, and whose month is not closed."""
        closed: dict[str, bool] = {}
        last = f"r_{self.last_closed_day()}`"
        async for rows in read_pages(self.table, customer, "r_0", last, columns=("steps", "parts")):
            for row in rows:
                day = day_of(row)
                if not row.values.get("parts") or set(steps) <= set(read_steps(row)):
                    continue
                month = f"{day:%Y-%m}"
                if month not in closed:
                    closed[month] = await self.table.read(customer, record_key(DocumentId(month))) is not None
                if not closed[month]:
                    return day
        return None
