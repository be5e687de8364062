"""Compares the rollups of a customer with the records that they were calculated from, day by day."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from shared.billing.rollup_rows import Rollup
from shared.billing.rollups import Rollups
from shared.billing.usage_entries import Entry, add_exact, as_number
from shared.billing.usage_records import JOBS
from shared.contract.usage import COUNTS

_SUMS = ("calls", *COUNTS, JOBS)
_Totals = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """What a day's rollup and its records differ in."""

    customer: str
    day: date
    message: str


async def check_rollups(rollups: Rollups, customer: str, first: date, last: date) -> AsyncIterator[list[Difference]]:
    """
    Yield the differences of each day from `first` to `last` that is rolled up. Raises StorageUnavailable.

    A day that is not rolled up yet has none: it is read from its records.
    """
    through = (await rollups.progress(customer)).through
    if through is None or first > through:
        return
    last = min(last, through)
    stored = {day: rollup async for day, rollup in rollups.read(customer, first, last)}
    first = max(first, await _first_day(rollups, customer, stored) or first)
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        rollup = stored.get(day)
        calculated = await rollups.calculate(customer, day, () if rollup is None else rollup.steps)
        messages = list(_messages(rollup, calculated, has_rows=day in stored))
        yield [Difference(customer, day, message) for message in messages]


async def rebuild_rollups(rollups: Rollups, customer: str, first: date, last: date) -> int:
    """
    Rebuild all rollups of the days from `first` to `last`; return how many. Raises StorageUnavailable.

    Days that are not rolled up yet are left to the sweep.
    """
    progress = await rollups.progress(customer)
    if progress.through is None or first > progress.through:
        return 0
    last = min(last, progress.through)
    stored, count = {day async for day, _ in rollups.read(customer, first, last)}, 0
    first = max(first, await _first_day(rollups, customer, stored) or first)
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        calculated = await rollups.calculate(customer, day, progress.steps)
        if calculated.count or day in stored:
            await rollups.write(customer, calculated)
            count += 1
    return count


async def _first_day(rollups: Rollups, customer: str, stored: Iterable[date]) -> date | None:
    """The first day that has usage or a rollup: a range of days may begin long before."""
    used = await rollups.next_day(customer, None)
    return min((day for day in (used, *stored) if day is not None), default=None)


def _messages(rollup: Rollup | None, calculated: Rollup, *, has_rows: bool) -> Iterator[str]:
    if rollup is None:
        if has_rows:
            yield "the rollup is incomplete, or of another version of the app; the day is read from its records"
        elif calculated.count:
            yield f"{_rows(calculated.count)} of usage, and no rollup: statements leave them out"
        return
    if rollup.count != calculated.count:
        yield f"{_rows(calculated.count)} of usage, and {rollup.count} when the day was rolled up"
    elif rollup.sha256 != calculated.sha256:
        yield f"{_rows(calculated.count)} of usage, with other keys than when the day was rolled up"
    if rollup.parts and rollup.entries != calculated.entries:
        yield from _sum_messages(_totals(rollup.entries), _totals(calculated.entries))


def _sum_messages(stored: dict[str, _Totals], calculated: dict[str, _Totals]) -> Iterator[str]:
    has_message = False
    for model in sorted(stored.keys() | calculated.keys()):
        ours, theirs = stored.get(model, {}), calculated.get(model, {})
        for name in ("records", *_SUMS):
            if ours.get(name) != theirs.get(name):
                has_message = True
                pair = f"{_text(theirs.get(name))} in the records, {_text(ours.get(name))} in the rollup"
                yield f"{name} of {model or 'no model'}: {pair}"
    if not has_message:
        yield "the sums are the same, but not by connection, action, tier, or what else a price depends on"


def _totals(entries: list[Entry]) -> dict[str, _Totals]:
    """The sums by model."""
    sums: dict[str, _Totals] = {}
    for entry in entries:
        each = sums.setdefault(entry.values.get("answered_by") or entry.values.get("model") or "", {})
        each["records"] = each.get("records", 0) + entry.rows
        for name in _SUMS:
            each[name] = add_exact(each.get(name), entry.values.get(name))
    return sums


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"


def _text(count: Any) -> str:
    return "none" if count is None else f"{as_number(count)}"
