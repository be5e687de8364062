"""
Rollups: the usage of closed days, grouped, so that a statement of a month reads rows by the day and not by the record.

The records stay the truth: a rollup is calculated from them, can be calculated again at any time, and keeps the number
and the hash of the keys that it was calculated from. `r_{day}_{part}` in the customer's partition has the groups of a
day, and `r_through` the day up to which all days are rolled up; a day before that without a row has no usage.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any
from uuid import uuid4

from shared.billing.closed_records import record_key
from shared.billing.usage_entries import Entry, KeyHash, read_days, read_pages
from shared.billing.usage_groups import UsageGroups, unpack
from shared.billing.usage_records import day_of
from shared.clock import now
from shared.contract.closed_month import DocumentId
from shared.contract.price_book import MAX_STEPS
from shared.storage.base import Row, RowConflict, Table

CLOSED_AFTER = timedelta(minutes=15)
"""How long after its end a day takes no new record any more; see `usage_records.LATEST_WRITE`."""
MAX_RECORDS = 1_000_000
"""Of a day that is rolled up; and see _MAX_PARTS. A day with more is read from its records."""
_MAX_PARTS = 50
"""They are written in one transaction, of 4 MB at most."""
THROUGH = "r_through"
_FORMAT = 1
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Rollup:
    """A day, rolled up."""

    day: date
    count: int
    """Of the keys that it was calculated from."""
    sha256: str
    steps: tuple[int, ...]
    parts: tuple[bytes, ...]
    """Empty: there is too much to roll up."""

    @property
    def entries(self) -> list[Entry]:
        """What the day has."""
        return [entry for part in self.parts for entry in unpack(part, self.day)]

    def serves(self, steps: Iterable[int]) -> bool:
        """Return whether it has what a price book with these steps distinguishes."""
        return bool(self.parts) and set(steps) <= set(self.steps)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a customer's days are rolled up. `steps` are those of all price books so far."""

    through: date | None = None
    steps: frozenset[int] = frozenset()
    etag: str = ""


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
        return Progress(date.fromisoformat(row.values["through"]), frozenset(_read_steps(row)), row.etag)

    async def read(self, customer: str, first: date, last: date) -> AsyncIterator[tuple[date, Rollup | None]]:
        """
        Yield the customer's rollups of the days from `first` to `last` that have one, each day in its turn.

        None: it can't be used, because it is of another version of the app, or is just being replaced.
        """
        rows: list[Row] = []
        async for page in read_pages(self.table, customer, f"r_{first}_", f"r_{last}`", None):
            for row in page:
                if rows and day_of(row) != day_of(rows[0]):
                    yield day_of(rows[0]), _read_rollup(rows)
                    rows = []
                rows.append(row)
        if rows:
            yield day_of(rows[0]), _read_rollup(rows)

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
            for row in _rollup_rows(customer, rollup, self.clock())
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
        """
        progress = await self.progress(customer)
        steps_so_far = progress.steps | set(steps)
        steps_so_far = steps_so_far if len(steps_so_far) <= MAX_STEPS else frozenset(steps)
        day = await self.next_day(customer, progress.through)
        if day is not None:
            await self.write(customer, await self.calculate(customer, day, steps_so_far))
            is_first = progress.through is None
            saved = await self._save(
                customer, Progress(day, steps_so_far if is_first else progress.steps, progress.etag)
            )
            return day if saved else None
        if progress.through is None or steps_so_far == progress.steps:
            return None
        day = await self._outdated_day(customer, steps)
        if day is None:
            await self._save(customer, replace(progress, steps=steps_so_far))
        else:
            await self.write(customer, await self.calculate(customer, day, steps_so_far))
        return day

    async def _save(self, customer: str, progress: Progress) -> bool:
        """Return False if another sweep does the same."""
        values = {"through": f"{progress.through}", **_steps_values(progress.steps)}
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
        async for rows in read_pages(self.table, customer, first, last, ()):
            if rows:
                return day_of(rows[0])
        return None

    async def _outdated_day(self, customer: str, steps: Iterable[int]) -> date | None:
        """Return the first day whose rollup does not distinguish these steps, and whose month is not closed."""
        closed: dict[str, bool] = {}
        async for rows in read_pages(self.table, customer, "r_0", f"r_{self.last_closed_day()}`", ("steps", "parts")):
            for row in rows:
                day = day_of(row)
                if not row.values.get("parts") or set(steps) <= set(_read_steps(row)):
                    continue
                month = f"{day:%Y-%m}"
                if month not in closed:
                    closed[month] = await self.table.read(customer, record_key(DocumentId(month))) is not None
                if not closed[month]:
                    return day
        return None


def _rollup_rows(customer: str, rollup: Rollup, at: datetime) -> list[Row]:
    build = uuid4().hex
    head: dict[str, Any] = {
        "format": _FORMAT,
        "at": at,
        "count": rollup.count,
        "sha256": rollup.sha256,
        "parts": len(rollup.parts),
        **_steps_values(rollup.steps),
    }
    return [
        Row(customer, f"r_{rollup.day}_{number:03}", {"build": build, "groups": part, **({} if number else head)})
        for number, part in enumerate(rollup.parts or (b"",))
    ]


def _read_rollup(rows: Sequence[Row]) -> Rollup | None:
    """The rollup in a day's rows; None if it is of another format, or is just being replaced."""
    head = rows[0].values
    if head.get("format") != _FORMAT:
        return None
    parts = [row.values for row in rows[: head["parts"]]]
    if len(parts) < head["parts"] or any(part["build"] != head["build"] for part in parts):
        return None
    groups = tuple(part["groups"] for part in parts)
    return Rollup(day_of(rows[0]), head["count"], head["sha256"], _read_steps(rows[0]), groups)


def _steps_values(steps: Iterable[int]) -> Mapping[str, str]:
    return {"steps": ",".join(map(str, sorted(steps)))}


def _read_steps(row: Row) -> tuple[int, ...]:
    return tuple(int(text) for text in row.values["steps"].split(",") if text)
