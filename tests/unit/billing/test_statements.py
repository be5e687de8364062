"""Statements: a month's usage records, summed into lines."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.billing.periods import Days
from shared.billing.statement_sums import DIMENSIONS
from shared.billing.statements import DEFAULT_DIMENSIONS, Statements
from shared.billing.usage import UNANSWERED, Call
from shared.billing.usage_entries import FIXED_DIMENSIONS
from shared.billing.usage_records import RecordLabels, marker_row, usage_rows
from shared.contract.result import ConnectionLabel
from shared.contract.statement import Statement, UsageTotals
from shared.contract.usage import COUNTS, Usage
from shared.storage.base import Row, RowPage
from tests.support.fakes import MemoryTable
from tests.support.rows import every_row
from tests.support.statement_samples import JOBS, MONTH, NOVEMBER_DAYS, dimensions, records_of, table_of

LABEL = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")
LABELS = RecordLabels("acme", "a", "chat", "m", LABEL)
SUMMED = ("records", "calls", "unreported", "jobs", *COUNTS)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


async def read(rows: list[Row], by: list[str] | None = None) -> Statement:
    """Return the statement of acme's November."""
    return await Statements(await table_of(rows)).read("acme", *NOVEMBER_DAYS, DEFAULT_DIMENSIONS if by is None else by)


@settings(max_examples=60)
@given(jobs=st.lists(JOBS, max_size=6), by=dimensions)
async def test_lines_sum_up_all_records(jobs: list[tuple[Any, ...]], by: list[str]):
    """For any dimensions, lines are distinct and sorted, and sum up only the customer's records of the month."""
    rows = records_of(jobs)
    stray = {"at": NOVEMBER, "calls": 1}
    others = [Row("acme", f"u_{day}_job0_0000", stray) for day in ("2026-10-31", "2026-12-01")]
    others += [Row("acme", "j_job0", {}), *records_of(jobs, "acmf")]
    expected = Counter[str]()
    for row in rows:
        unreported = 0 if row.values["reported"] else row.values["calls"]
        expected.update({"records": 1, "unreported": unreported})
        expected.update({name: row.values[name] for name in SUMMED if name in row.values})

    statement = await read([*rows, *others], by)

    names = [name for name in DIMENSIONS if name in by]
    assert ("acme", MONTH, names) == (statement.customer, statement.month, statement.by)
    groups = [tuple(getattr(line, name) or "" for name in (*names, *FIXED_DIMENSIONS)) for line in statement.lines]
    assert sorted(set(groups)) == groups
    for name in SUMMED:
        assert expected[name] == pytest.approx(sum(getattr(line, name) or 0 for line in statement.lines))
    for outcome in ("answered", "lost", "unanswered"):
        lines = [line for line in statement.lines if line.outcome == outcome]
        totals = getattr(statement.totals, outcome)
        for name in SUMMED:
            counts = [count for line in lines if (count := getattr(line, name)) is not None]
            assert (getattr(totals, name) is None) == (name in COUNTS and not counts)
            assert (getattr(totals, name) or 0) == pytest.approx(sum(counts))
        assert {name for line in lines for name in line.derived} == set(totals.derived)
        assert (totals.consistent is False) == any(line.consistent is False for line in lines)


async def test_line_has_the_sums_of_its_records():
    """Each measure of a line is the sum over its records; `unreported` counts calls without a reported usage."""
    usage = Usage(calls=1, input_tokens=50, output_tokens=40, cached_tokens=30, reasoning_tokens=0, consistent=True)
    calls = [Call(usage, images=1), Call(usage), Call(images=2), Call(usage, outcome="lost"), UNANSWERED]
    names = (
        "records",
        "calls",
        "unreported",
        "input_tokens",
        "cached_tokens",
        "reasoning_tokens",
        "total_tokens",
        "images",
    )

    statement = await read(usage_rows(LABELS, calls, NOVEMBER))

    values = {
        "answered": (3, 3, 1, 100, 60, 0, None, 3),
        "lost": (1, 1, 0, 50, 30, 0, None, None),
        "unanswered": (1, 0, 0, None, None, None, None, None),
    }
    assert values == {line.outcome: tuple(getattr(line, name) for name in names) for line in statement.lines}
    assert values == {
        outcome: tuple(getattr(getattr(statement.totals, outcome), name) for name in names) for outcome in values
    }


async def test_what_has_another_price_has_another_line():
    """Calls of another tier, processing or deployment scope are never summed up in one line."""
    calls = [Call(Usage(calls=1, input_tokens=5), service_tier=tier) for tier in (None, "default", "priority")]
    rows = usage_rows(LABELS, [*calls, Call(Usage(calls=1), processing="batch")], NOVEMBER)
    rows += usage_rows(replace(LABELS, job_id="b", deployment_scope="regional"), calls[:1], NOVEMBER)

    statement = await read(rows, [])

    assert [
        (None, "batch", None),
        (None, "standard", None),
        (None, "standard", "regional"),
        ("default", "standard", None),
        ("priority", "standard", None),
    ] == [(line.service_tier, line.processing, line.deployment_scope) for line in statement.lines]


@every_row(
    ("by", "expected"),
    [
        ([], {}),
        (["month", "day"], {"month": "2026-11", "day": "2026-11-09"}),
        (["action", "model"], {"model": "m", "action": "chat"}),
        (None, {"day": "2026-11-09", "model": "m", "action": "chat", "connection": "default"}),
    ],
)
async def test_lines_have_the_requested_dimensions(by: list[str] | None, expected: dict[str, str]):
    """A line has the requested dimensions, by default all but the month, and always the account and the outcome."""
    at = datetime(2026, 11, 9, 23, 59, 59, 999_000, tzinfo=UTC)

    statement = await read(usage_rows(LABELS, [Call()], at), by)

    (line,) = msgspec.to_builtins(statement.lines)
    fixed = {
        "source": "key_vault",
        "provider": "openai",
        "billed_to": "customer",
        "outcome": "answered",
        "processing": "standard",
    }
    assert expected | fixed == {name: value for name, value in line.items() if name not in SUMMED}
    assert [name for name in DIMENSIONS if name in expected] == statement.by


async def test_missing_values_have_defaults():
    """A record without an outcome was answered, without a name it has an empty name, and a missing count is unknown."""
    statement = await read([Row("acme", "u_2026-11-01_a_0000", {"at": NOVEMBER, "calls": 1, "input_tokens": 5})])

    (line,) = statement.lines
    assert ("", "", "answered", 1, 1, 5, None) == (
        line.model,
        line.billed_to,
        line.outcome,
        line.records,
        line.unreported,
        line.input_tokens,
        line.output_tokens,
    )


async def test_month_without_usage_has_no_lines():
    """A month without records has no lines, and totals without counts."""
    statement = await read([])

    assert [] == statement.lines
    assert [UsageTotals(records=0, calls=0, unreported=0, jobs=0)] * 3 == list(
        msgspec.structs.astuple(statement.totals)
    )


def days_of(month: int) -> tuple[date, date]:
    """Return the first and the last day of a month of 2026."""
    days = Days.of_month(f"2026-{month:02}")
    return days.first, days.last


@every_row(
    ("marked_on", "november", "december"),
    [
        (None, 1, 0),
        *((f"2026-{day}", 0, 0) for day in ("09-20", "10-31", "11-13", "11-14")),
        *((f"2026-{day}", 0, 0) for day in ("11-15", "11-30")),
        *((f"2026-{day}", 1, -1) for day in ("12-01", "12-31")),
    ],
)
@every_row("knows_start", [True, False])
async def test_a_placeholder_counts_until_its_marker_withdraws_it(
    marked_on: str | None, november: int, december: int, knows_start: bool
):
    """
    The placeholder of a crashed attempt counts on its day unless the attempt has a marker of that day or of an earlier
    one. A marker of a later day counts -1 on its own day, so that a month that is closed stays as it is.
    """
    rows = usage_rows(LABELS, [UNANSWERED], NOVEMBER.replace(day=14), suffix="~1")
    if marked_on is not None:
        at = datetime.fromisoformat(f"{marked_on}T12:00:00+00:00")
        marker = marker_row(LABELS, 1, at, since=min(at, NOVEMBER))
        rows.append(marker if knows_start else replace(marker, values={"at": at}))
    statements = Statements(await table_of(rows))

    months = [await statements.read("acme", *days_of(number), []) for number in (11, 12)]

    assert [november, december] == [statement.totals.unanswered.records for statement in months]
    assert [bool(november), bool(december)] == [bool(statement.lines) for statement in months]


@settings(max_examples=40)
@given(jobs=st.lists(JOBS, max_size=8), by=dimensions, cut=st.integers(0, 29))
async def test_ranges_of_days_add_up(jobs: list[tuple[Any, ...]], by: list[str], cut: int):
    """A month's lines by day are those of any two ranges that divide it; the first and the last day are included."""
    statements = Statements(await table_of(records_of(jobs)))
    first, last = NOVEMBER_DAYS
    middle = first + timedelta(days=cut)
    by = ["day", *by]

    whole = await statements.read("acme", first, last, by)
    begin = await statements.read("acme", first, middle, by)
    end = [] if middle == last else (await statements.read("acme", middle + timedelta(days=1), last, by)).lines

    assert whole.lines == [*begin.lines, *end]
    assert (MONTH, f"{first}", f"{last}") == (whole.month, whole.from_, whole.to)
    assert (MONTH if middle == last else None, f"{middle}") == (begin.month, begin.to)


async def test_a_range_over_months_has_the_month_of_each_day():
    """Lines by month distinguish the months of the range."""
    rows = usage_rows(LABELS, [Call()], NOVEMBER)
    rows += usage_rows(replace(LABELS, job_id="b"), [Call()] * 2, NOVEMBER.replace(month=12))

    statement = await Statements(await table_of(rows)).read("acme", date(2026, 11, 1), date(2026, 12, 1), ["month"])

    assert [("2026-11", 1), ("2026-12", 2)] == [(line.month, line.calls) for line in statement.lines]


class RecordingTable(MemoryTable):
    """A table that keeps the columns that were requested."""

    columns: tuple[str, ...] = ()

    async def page(self, *args: Any, **options: Any) -> RowPage:
        """See `Table`."""
        self.columns += tuple(options["columns"] or ())
        return await super().page(*args, **options)


async def test_records_are_read_page_by_page():
    """Records are read a page at a time, with only the needed columns, so that memory doesn't grow with them."""
    calls = [Call(Usage(calls=1), request_id="r")] * 2500
    table = await table_of(usage_rows(LABELS, calls, NOVEMBER), RecordingTable())

    statement = await Statements(table).read("acme", *NOVEMBER_DAYS)

    assert (2500, 1, 5) == (statement.totals.answered.calls, len(statement.lines), table.counts["page"])
    assert {"request_id", "job_id", "provider_usage"}.isdisjoint(table.columns)
