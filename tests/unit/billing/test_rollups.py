"""Rollups: what a statement is made of days that are rolled up is what it is made of their records."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.billing import rollups
from shared.billing.price_lookup import STEP
from shared.billing.rollup_rows import Rollup
from shared.billing.rollups import CLOSED_AFTER
from shared.billing.statements import Statements
from shared.billing.usage import UNANSWERED, Call
from shared.billing.usage_entries import LABELS, Entry
from shared.billing.usage_groups import MAX_PART_BYTES, UsageGroups
from shared.billing.usage_records import JOBS, LATEST_WRITE, RecordLabels, marker_row, placeholder_suffix, usage_rows
from shared.contract.result import ConnectionLabel
from shared.contract.statement import Statement
from shared.contract.usage import COUNTS, Usage
from shared.errors import StorageUnavailable
from shared.storage.base import Row, RowPage
from tests.support.fakes import Fault, MemoryTable
from tests.support.rows import every_row
from tests.support.sampled import Sampled
from tests.support.statement_samples import dimensions
from tests.support.usage_days import BOOKS, DAYS, FIRST, RolledTable, UsedDay, pricing_of, used_days

LABEL = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")
LABELS_OF_A = RecordLabels("acme", "a", "chat", "m", LABEL)
DAY = date(2026, 11, 14)
AT = datetime(2026, 11, 14, 12, tzinfo=UTC)
CALL = Call(Usage(calls=1, input_tokens=100, output_tokens=10), "m")
DAY_RANGE = st.tuples(st.integers(0, DAYS - 1), st.integers(0, DAYS)).map(
    lambda pair: (FIRST + timedelta(days=pair[0]), FIRST + timedelta(days=pair[0] + pair[1]))
)


@settings(max_examples=50, deadline=None)
@given(
    days=used_days,
    period=DAY_RANGE,
    by=dimensions,
    rolled_with=st.sampled_from([None, *BOOKS]),
    book=st.sampled_from([None, *BOOKS]),
    currency=st.sampled_from(["USD", "USD", "EUR"]),
)
async def test_rolled_days_equal_their_records(
    days: list[UsedDay],
    period: tuple[date, date],
    by: list[str],
    rolled_with: dict[str, Any] | None,
    book: dict[str, Any] | None,
    currency: str,
):
    """
    Whichever days are rolled up when, by whichever price book, every statement of any days, by any labels, in any
    prices, is that of the records: equal in each count, amount and reason.
    """
    table = RolledTable(MemoryTable(page_size=3))
    await table.use(days, pricing_of(rolled_with).steps if rolled_with else ())
    pricing = None if book is None else pricing_of(book).in_currency(currency)

    rolled, raw = await table.read(*period, by, pricing)

    assert msgspec.to_builtins(raw) == msgspec.to_builtins(rolled)


@settings(max_examples=10, deadline=None)
@given(days=used_days, book=st.sampled_from(BOOKS))
async def test_no_closed_day_changes(days: list[UsedDay], book: dict[str, Any]):
    """What a day has once it is closed is what it has after all later days: placeholders are withdrawn later."""
    table, pricing = RolledTable(MemoryTable()), pricing_of(book)
    seen = []
    for number in range(DAYS):
        day = FIRST + timedelta(days=number)
        fresh = RolledTable(MemoryTable())
        await fresh.use([replace(each, rolled_up=0) for each in days[: number + 1]], ())
        seen.append((day, await Statements(fresh.table).read("acme", day, day, ["model"], pricing)))
    await table.use(days, ())

    records = Statements(table.raw())
    for day, statement in seen:
        assert statement == await records.read("acme", day, day, ["model"], pricing)


class RecordingValues(Mapping[str, Any]):
    """The columns of a record, which notes which of them are looked at."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values_of, self.names = values, set[str]()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return self.values_of[name]

    def __contains__(self, name: object) -> bool:
        self.names.add(str(name))
        return name in self.values_of

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_of)

    def __len__(self) -> int:
        return len(self.values_of)


@pytest.mark.parametrize("book", BOOKS)
def test_a_rollup_keeps_all_that_a_price_looks_at(book: dict[str, Any]):
    """A column that prices begin to depend on has to distinguish groups, too."""
    pricing = pricing_of(book)
    (row,) = usage_rows(LABELS_OF_A, [CALL], AT)
    values = RecordingValues(row.values)

    cost = pricing.cost("acme", DAY, values)
    pricing.saved("acme", DAY, values, cost)  # type: ignore[arg-type]

    assert values.names <= {*LABELS, *COUNTS, "calls", JOBS, STEP}
    assert "answered_by" in values.names


BASE = {"input_tokens": 1000, "output_tokens": 20, "consistent": True, "calls": 1}
VARIANTS: list[dict[str, Any]] = [
    {},
    *({name: count} for name in COUNTS for count in (0, 7)),
    {"input_tokens": None},
    {"input_tokens": 0},
    {"output_tokens": None},
    {"output_tokens": 0},
    {"input_tokens": 999},
    {"input_tokens": 1000, "cached_tokens": 7},
    {"input_tokens": 1000, "cached_tokens": 1007},
    {"output_tokens": 20, "audio_output_tokens": 7},
    {"output_tokens": 20, "audio_output_tokens": 27},
    {"output_tokens": 7, "image_output_tokens": 7},
    {"seconds": 0.1},
    {"seconds": 2.0},
    {"calls": 0},
    {"consistent": None},
    {"consistent": False},
    {"derived": "output_tokens"},
    {"reported": False},
    {"answered_by": "x"},
    {"answered_by": None},
    {"service_tier": "flex"},
    {"processing": "batch"},
    {"outcome": "lost"},
    {"jobs": 1},
    {"calls": 0, **dict.fromkeys(("input_tokens", "output_tokens", "consistent"))},
    {"calls": 0, **dict.fromkeys(("input_tokens", "output_tokens", "consistent")), "jobs": 1},
    *({"answered_by": "by-call", "calls": calls} for calls in (0, 1)),
]
"""What a record can differ in from another one: all that a price or a statement looks at. What is alike is adjacent."""


@pytest.mark.parametrize("book", BOOKS)
async def test_records_that_differ_in_anything_are_not_mixed_up(book: dict[str, Any], sampled: Sampled):
    """Two records that differ in one thing are rolled up so that their statement is that of the records."""
    pricing = pricing_of(book)
    (row,) = usage_rows(LABELS_OF_A, [CALL], AT)
    pairs = [*itertools.product(VARIANTS[:1], VARIANTS[1:]), *itertools.pairwise(VARIANTS)]
    for first, second in sampled(pairs):  # with three books, each pair is tried with one
        table = RolledTable(MemoryTable(), datetime(2026, 11, 16, tzinfo=UTC))
        for number, variant in enumerate((first, second, first)):
            values = {name: value for name, value in {**row.values, **BASE, **variant}.items() if value is not None}
            kind = "c" if variant.get("jobs") and not values["calls"] else "u"
            await table.table.insert(Row("acme", f"{kind}_{DAY}_a_{number:04}", values))
        await table.rollups.advance("acme", pricing.steps)

        rolled, raw = await table.read(DAY, DAY, [], pricing)

        assert rolled == raw, (first, second)


async def test_withdrawn_placeholders_keep_the_days_of_their_prices():
    """What is unpriced for a reason that names a day is withdrawn for that reason, whatever else the later day has."""
    table = RolledTable(MemoryTable(), datetime(2026, 11, 16, tzinfo=UTC))
    for attempt in (1, 2):
        at = AT - timedelta(days=attempt)
        for row in usage_rows(LABELS_OF_A, [UNANSWERED], at, suffix=placeholder_suffix(attempt)):
            await table.table.insert(row)
        await table.table.insert(marker_row(LABELS_OF_A, attempt, AT, since=at))
    for row in usage_rows(LABELS_OF_A, [UNANSWERED], AT, suffix=placeholder_suffix(3)):
        await table.table.insert(row)
    while await table.rollups.advance("acme", ()):
        pass
    pricing = pricing_of({"prices": [{"provider": "openai", "model": "other", "input": "1"}]})

    for first, records in ((DAY, -1), (DAY - timedelta(days=1), 0), (DAY - timedelta(days=2), 1)):
        rolled, raw = await table.read(first, DAY, [], pricing)
        assert rolled == raw
        assert records == rolled.totals.unanswered.records
    assert ["no price holds for m on 2026-11-14 (provider openai)"] == [each.reason for each in rolled.unpriced]


async def days_of(table: MemoryTable) -> list[str]:
    """Return the keys of all rollups."""
    return [key for _, key in sorted(table.rows) if key.startswith("r_")]


@pytest.mark.parametrize(("after", "days"), [(timedelta(minutes=15, seconds=-1), 0), (timedelta(minutes=15), 1)])
async def test_a_day_is_rolled_up_a_quarter_of_an_hour_after_its_end(after: timedelta, days: int):
    """That is longer than a worker writes records of the day."""
    table = RolledTable(MemoryTable(), datetime(2026, 11, 15, tzinfo=UTC) + after)
    for row in usage_rows(LABELS_OF_A, [CALL], AT):
        await table.table.insert(row)

    assert (DAY if days else None) == await table.rollups.advance("acme", ())
    assert await table.rollups.advance("acme", ()) is None
    assert ["r_2026-11-14_000", "r_through"][: 2 * days] == await days_of(table.table)
    assert timedelta(minutes=5) <= CLOSED_AFTER - LATEST_WRITE


class CountingTable(MemoryTable):
    """A table that counts the rows that it returned."""

    returned = 0

    async def read(self, partition: str, key: str) -> Row | None:
        """See `Table`."""
        self.returned += 1
        return await super().read(partition, key)

    async def page(self, *args: Any, **options: Any) -> RowPage:
        """See `Table`."""
        page = await super().page(*args, **options)
        self.returned += len(page.rows)
        return page


async def november(calls: int = 10, days: int = 30) -> tuple[CountingTable, RolledTable]:
    """Return a table with so many calls on each of November's first days, all rolled up."""
    counting = CountingTable()
    table = RolledTable(counting, datetime(2026, 11, days, 23, tzinfo=UTC) + timedelta(hours=2))
    for day in range(1, days + 1):
        for row in usage_rows(LABELS_OF_A, [CALL] * calls, AT.replace(day=day)):
            await counting.insert(row)
    while await table.rollups.advance("acme", ()):
        pass
    counting.returned = 0
    counting.counts.clear()
    return counting, table


async def test_few_rows_are_read_of_rolled_days():
    """A month of any size takes a read, and a page for all of its days, beside what is not rolled up."""
    counting, table = await november()

    read = table.rollups.entries("acme", date(2026, 11, 1), date(2026, 11, 30), ())
    entries = [entry async for some in read for entry in some]

    assert (30, 300) == (len(entries), sum(entry.rows for entry in entries))
    assert (1, 31) == (counting.counts["page"], counting.returned)


async def test_days_that_are_not_rolled_up_are_read_from_their_records():
    """Only what lies after the last rolled day is: another page for its records, closed jobs and markers each."""
    counting, table = await november(days=28)
    for row in usage_rows(LABELS_OF_A, [CALL] * 7, AT.replace(day=29)):
        await counting.insert(row)

    read = table.rollups.entries("acme", date(2026, 11, 1), date(2026, 11, 30), ())
    entries = [entry async for some in read for entry in some]

    assert 28 * 10 + 7 == sum(entry.rows for entry in entries)
    assert (4, 29 + 7) == (counting.counts["page"], counting.returned)


async def test_an_idle_customer_costs_one_read_and_three_pages():
    """A sweep finds nothing to do without reading what is rolled up."""
    counting, table = await november()

    assert await table.rollups.advance("acme", ()) is None
    assert (3, 1) == (counting.counts["page"], counting.returned)


async def stored(table: RolledTable, day: date) -> dict[date, Rollup | None]:
    """Return a day's rollup, if there is one."""
    return {each: rollup async for each, rollup in table.rollups.read("acme", day, day)}


async def test_memory_grows_with_a_day_and_not_with_a_range():
    """A day's rollup is there before those of later days are read."""
    counting, table = await november(days=3)
    for _ in range(3):
        await table.rollups.advance("acme", ())
    counting.page_size = 1
    pages = []
    before = counting.counts["page"]

    async for _ in table.rollups.read("acme", date(2026, 11, 1), date(2026, 11, 3)):
        pages.append(counting.counts["page"] - before)

    assert [2, 3, 3] == pages


async def test_a_book_with_a_new_step_has_the_open_months_rolled_up_again():
    """Until then those days are read from their records; a month that is closed stays as it is."""
    counting, table = await november(days=3)
    for row in usage_rows(LABELS_OF_A, [CALL], AT.replace(month=10, day=31)):
        await counting.insert(row)
    await counting.insert(Row("acme", "x_2026-11", {}))
    for _ in range(2):
        assert await table.rollups.advance("acme", (50,)) is None
    del counting.rows["acme", "x_2026-11"]
    progress = await table.rollups.progress("acme")
    await counting.merge(Row("acme", "r_through", {"steps": ""}, progress.etag))

    days = [await table.rollups.advance("acme", (50,)) for _ in range(4)]

    assert [date(2026, 11, 1), date(2026, 11, 2), date(2026, 11, 3), None] == days
    assert frozenset({50}) == (await table.rollups.progress("acme")).steps
    rollups = await stored(table, date(2026, 11, 1))
    assert [(50,)] == [rollup.steps for rollup in rollups.values() if rollup]


async def roll_up_after_a_crash(table: RolledTable, write: int, fault: Fault) -> Statement:
    """A sweep ends at a write that fails, and the next ones go on. Return the day's statement, the same from both."""
    table.table.faults.extend([None] * write + [fault])
    with pytest.raises(StorageUnavailable):
        await table.rollups.advance("acme", ())
    while await table.rollups.advance("acme", ()):
        pass
    rolled, raw = await table.read(DAY, DAY, [], None)
    assert rolled == raw
    return rolled


@every_row("fault", [Fault.REFUSED, Fault.LOST])
@every_row("write", [0, 1], ids=["rollup", "through"])
async def test_a_sweep_that_crashes_loses_no_day(fault: Fault, write: int):
    """Whichever write does not succeed, the day is rolled up by the next sweep, and counts once."""
    table = RolledTable(MemoryTable(), datetime(2026, 11, 16, tzinfo=UTC))
    for row in usage_rows(LABELS_OF_A, [CALL] * 3, AT):
        await table.table.insert(row)

    rolled = await roll_up_after_a_crash(table, write, fault)

    assert 3 == rolled.totals.answered.calls
    assert ["r_2026-11-14_000", "r_through"] == await days_of(table.table)


async def test_a_rollup_is_written_whole_or_not_used():
    """Parts of two versions are no rollup: then the day is read from its records. A smaller one removes old parts."""
    table = RolledTable(MemoryTable(), datetime(2026, 11, 16, tzinfo=UTC))
    (row,) = usage_rows(LABELS_OF_A, [CALL], AT)
    models = [hashlib.shake_256(b"%d" % number).hexdigest(400) for number in range(900)]
    groups = UsageGroups(DAY, ())
    groups.add(Entry(DAY, DAY, {**row.values, "model": model}) for model in models)
    parts = groups.pack()
    large = Rollup(DAY, len(models), "x", (), tuple(parts))
    await table.rollups.write("acme", large)
    assert len(parts) > 10
    assert max(map(len, parts)) <= MAX_PART_BYTES
    assert large == (await stored(table, DAY))[DAY]
    assert len(models) == len({entry.values["model"] for entry in large.entries})

    row = table.table.rows["acme", "r_2026-11-14_003"]
    await table.table.merge(replace(row, values={"build": "other"}))

    assert {DAY: None} == await stored(table, DAY)
    for rewritten in (replace(large, parts=tuple(parts[:2])), large, replace(large, parts=())):
        await table.rollups.write("acme", rewritten)
        assert {DAY: rewritten} == await stored(table, DAY)
        assert max(len(rewritten.parts), 1) == len(await days_of(table.table))


async def test_a_day_with_too_much_is_read_from_its_records(monkeypatch: pytest.MonkeyPatch):
    """Its rollup says only that it can't be used."""
    monkeypatch.setattr(rollups, "MAX_RECORDS", 9)
    _, table = await november(days=2)

    rolled, raw = await table.read(date(2026, 11, 1), date(2026, 11, 2), [], None)

    assert rolled == raw
    assert 20 == rolled.totals.answered.calls
    assert [0, 0] == [table.table.rows["acme", f"r_2026-11-0{day}_000"].values["parts"] for day in (1, 2)]


async def test_a_rollup_has_the_number_and_the_hash_of_its_keys():
    """Both are those of all rows that decide what the day has, in whatever pages they are read."""
    seen = set()
    for page_size in (1, 3, 1000):
        table = RolledTable(MemoryTable(page_size=page_size), datetime(2026, 11, 16, tzinfo=UTC))
        rows = [*usage_rows(LABELS_OF_A, [CALL] * 4, AT), marker_row(LABELS_OF_A, 1, AT, since=AT)]
        for row in rows:
            await table.table.insert(row)
        rollup = await table.rollups.calculate("acme", DAY, ())
        seen.add((rollup.count, rollup.sha256))

    text = "".join(f"{row.key}\n" for row in rows)
    assert {(5, hashlib.sha256(text.encode()).hexdigest())} == seen


GOLDEN = json.loads((Path(__file__).parents[2] / "data" / "usage.json").read_bytes())
SUMS = json.loads((Path(__file__).parents[2] / "data" / "priced_usage.json").read_bytes())
GOLDEN_PRICE = {
    "provider": "openai",
    "model": "m",
    "input": "2",
    "cached": "0.5",
    "cache_write": "2.5",
    "cache_write_long": "4",
    "output": "8",
    "audio_input": "40",
    "audio_output": "80",
    "image_input": "10",
    "image_output": "32",
}
"""The price that the sums made by hand are for."""


def golden_rows(day: date) -> list[Row]:
    """Return a record of each real usage object."""
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    rows = []
    for number, golden in enumerate(GOLDEN):
        members = {**golden["expected"], "derived": tuple(golden["expected"]["derived"])}
        call = Call(Usage(calls=1, **members), "m")
        rows += usage_rows(replace(LABELS_OF_A, job_id=f"golden-{number}"), [call], at)
    return rows


def tenfold(price: dict[str, str]) -> dict[str, str]:
    """Return the price with ten times its amounts."""
    return {
        name: f"{Decimal(text) * 10:f}" if name not in {"provider", "model"} else text for name, text in price.items()
    }


async def test_real_usage_reprices_from_the_day_of_a_new_price():
    """
    The sums of all real usage objects, made by hand, before the 15th, and ten times as much from the 15th on: to the
    last decimal, in a month whose days are all rolled up, by the book that changed after that.
    """
    table = RolledTable(MemoryTable(), datetime(2026, 12, 1, 1, tzinfo=UTC))
    days = [date(2026, 11, number) for number in (1, 14, 15, 30)]
    for day in days:
        for row in golden_rows(day):
            await table.table.insert(row)
    while await table.rollups.advance("acme", ()):
        pass
    old, new = {"effective_to": "2026-11-15"}, {"effective_from": "2026-11-15"}
    pricing = pricing_of({"prices": [GOLDEN_PRICE | old, tenfold(GOLDEN_PRICE) | new]})
    by_hand = sum((Decimal(each["amount"]) for each in SUMS if each["amount"] is not None), Decimal(0))

    rolled, raw = await table.read(date(2026, 11, 1), date(2026, 11, 30), [], pricing)
    by_day, _ = await table.read(date(2026, 11, 1), date(2026, 11, 30), ["day"], pricing)

    assert raw == rolled
    assert f"{by_hand * 22:.6f}" == f"{sum(Decimal(line.amount or 0) for line in rolled.lines if not line.kind):f}"
    amounts: dict[str, Decimal] = {}
    for line in (line for line in by_day.lines if line.kind is None and isinstance(line.day, str)):
        amounts[str(line.day)] = amounts.get(str(line.day), Decimal(0)) + Decimal(line.amount or 0)
    assert {f"{day}": by_hand * (1 if day.day < 15 else 10) for day in days} == amounts
    assert 4 * sum(each["amount"] is None for each in SUMS) == sum(each.records for each in rolled.unpriced)


async def pass_night(table: RolledTable) -> None:
    """Let a day pass, and the sweep of the night after it."""
    table.now += timedelta(days=1)
    while await table.rollups.advance("acme", ()):
        pass


@every_row("uses_next_day", [False, True])
@every_row("early", [timedelta(0), timedelta(hours=5)], ids=["paused worker", "sweep's clock ahead"])
async def test_what_comes_into_a_day_that_is_rolled_up_counts_from_the_next_night_on(
    early: timedelta, uses_next_day: bool, caplog: pytest.LogCaptureFixture
):
    """The last day that is rolled up is compared with its records a day later; that is done once, and logged."""
    table = RolledTable(MemoryTable(), datetime(2026, 11, 15, 0, 17, tzinfo=UTC))  # by the sweep's clock
    for row in usage_rows(LABELS_OF_A, [CALL], AT):
        await table.table.insert(row)
    while await table.rollups.advance("acme", ()):
        pass
    table.now -= early
    for row in usage_rows(replace(LABELS_OF_A, job_id="late"), [CALL], AT):
        await table.table.insert(row)
    for row in usage_rows(LABELS_OF_A, [CALL], AT + timedelta(days=1)) if uses_next_day else ():
        await table.table.insert(row)

    for _ in range(4):
        await pass_night(table)

    rolled, raw = await table.read(DAY, DAY, [], None)
    assert rolled == raw
    assert 2 == rolled.totals.answered.calls
    assert ["usage_late customer=acme day=2026-11-14"] == caplog.messages


@every_row("fault", [Fault.REFUSED, Fault.LOST])
@every_row("write", [0, 1], ids=["rollup", "final"])
async def test_a_day_is_compared_again_until_that_is_on_record(fault: Fault, write: int):
    """Whichever write of it does not succeed, the next sweep does it."""
    table = RolledTable(MemoryTable(), datetime(2026, 11, 15, 0, 17, tzinfo=UTC))
    for number in range(2):
        for row in usage_rows(replace(LABELS_OF_A, job_id=f"{number}"), [CALL], AT):
            await table.table.insert(row)
        if not number:
            await table.rollups.advance("acme", ())
    table.now += timedelta(days=1)

    rolled = await roll_up_after_a_crash(table, write, fault)

    assert 2 == rolled.totals.answered.calls


async def test_days_that_are_rolled_up_late_are_read_once():
    """What is rolled up a day after its end, such as a month at first, has no other night to come."""
    _, table = await november(days=3)
    assert await table.rollups.progress("acme") == replace(await table.rollups.progress("acme"), is_final=False)
    table.now += timedelta(days=9)
    (row,) = usage_rows(LABELS_OF_A, [CALL], AT.replace(day=5))
    await table.table.insert(row)

    assert [date(2026, 11, 3), date(2026, 11, 5), None] == [await table.rollups.advance("acme", ()) for _ in range(3)]
    assert (await table.rollups.progress("acme")).is_final
