"""Statements: a month's usage records, summed into lines."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.billing.statements import (
    DEFAULT_DIMENSIONS,
    DIMENSIONS,
    FIXED_DIMENSIONS,
    MEASURES,
    Statements,
    is_month,
)
from shared.billing.usage import Call
from shared.billing.usage_records import MARKER, usage_rows
from shared.contract.documents import Statement, UsageTotals
from shared.contract.result import ConnectionLabel, Usage
from shared.storage.base import Row, RowPage
from tests.support.fakes import MemoryTable
from tests.support.statement_samples import JOBS, MONTH, dimensions, records_of, table_of

LABEL = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


async def read(rows: list[Row], by: list[str] | None = None) -> Statement:
    """Return the statement of acme's November."""
    return await Statements(await table_of(rows)).read("acme", MONTH, DEFAULT_DIMENSIONS if by is None else by)


def records(calls: list[Call], at: datetime = NOVEMBER, **options: str) -> list[Row]:
    """Return the usage records of a job's calls."""
    return usage_rows("acme", "a", "chat", "m", LABEL, calls, at, **options)


@settings(max_examples=60)
@given(jobs=st.lists(JOBS, max_size=6), by=dimensions)
async def test_lines_sum_up_all_records(jobs: list[tuple[Any, ...]], by: list[str]):
    """For any dimensions, lines are distinct and sorted, and sum up only the customer's records of the month."""
    rows = records_of(jobs)
    stray = {"at": NOVEMBER, "calls": 1}
    others = [Row("acme", f"u_{month}_job0_0000", stray) for month in ("2026-10", "2026-12")]
    others += [Row("acme", "j_job0", {}), *records_of(jobs, "acmf")]
    expected = Counter[str]()
    for row in rows:
        unreported = 0 if row.values["reported"] else row.values["calls"]
        expected.update({"records": 1, "unreported": unreported})
        expected.update({name: row.values[name] for name in MEASURES if name in row.values})

    statement = await read([*rows, *others], by)

    names = [name for name in DIMENSIONS if name in by]
    assert ("acme", MONTH, names) == (statement.customer, statement.month, statement.by)
    groups = [tuple(getattr(line, name) for name in (*names, *FIXED_DIMENSIONS)) for line in statement.lines]
    assert sorted(set(groups)) == groups
    for name in MEASURES:
        assert expected[name] == sum(getattr(line, name) for line in statement.lines)
    for outcome in ("answered", "lost", "unanswered"):
        lines = [line for line in statement.lines if line.outcome == outcome]
        sums = {name: sum(getattr(line, name) for line in lines) for name in MEASURES}
        assert UsageTotals(**sums) == getattr(statement.totals, outcome)


async def test_line_has_the_sums_of_its_records():
    """Each measure of a line is the sum over its records; `unreported` counts calls without a reported usage."""
    usage = Usage(calls=1, input_tokens=50, output_tokens=40, cached_tokens=30, reasoning_tokens=20)
    calls = [Call(usage, images=1), Call(usage), Call(None, images=2), Call(usage, outcome="lost")]
    calls += [Call(None, outcome="unanswered")]

    statement = await read(records(calls))

    values = {
        "answered": (3, 3, 1, 100, 80, 60, 40, 3),
        "lost": (1, 1, 0, 50, 40, 30, 20, 0),
        "unanswered": (1, 0, 0, 0, 0, 0, 0, 0),
    }
    assert values == {line.outcome: tuple(getattr(line, name) for name in MEASURES) for line in statement.lines}
    assert values == {outcome: msgspec.structs.astuple(getattr(statement.totals, outcome)) for outcome in values}


@pytest.mark.parametrize(
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

    statement = await read(records([Call(None)], at), by)

    (line,) = msgspec.to_builtins(statement.lines)
    fixed = {"source": "key_vault", "provider": "openai", "billed_to": "customer", "outcome": "answered"}
    assert expected | fixed == {name: value for name, value in line.items() if name not in MEASURES}
    assert [name for name in DIMENSIONS if name in expected] == statement.by


@pytest.mark.parametrize(("suffixes", "outcomes"), [(["~1"], ["unanswered"]), (["~1", "~1.0", "~1.1"], ["answered"])])
async def test_only_records_that_count_are_summed(suffixes: list[str], outcomes: list[str]):
    """The placeholder of a crashed attempt is summed unless the attempt has a marker, which is never summed."""
    calls = {"~1": Call(None, outcome="unanswered"), "~1.0": MARKER, "~1.1": Call(None)}
    rows = [row for suffix in suffixes for row in records([calls[suffix]], suffix=suffix)]

    statement = await read(rows)

    assert outcomes == [line.outcome for line in statement.lines]
    assert 1 == sum(line.records for line in statement.lines)


async def test_missing_values_have_defaults():
    """A record without an outcome was answered, without a count it has zero, without a name an empty name."""
    statement = await read([Row("acme", "u_2026-11_a_0000", {"at": NOVEMBER, "calls": 1, "input_tokens": 5})])

    (line,) = statement.lines
    measures = dict.fromkeys(MEASURES, 0) | {"records": 1, "calls": 1, "unreported": 1, "input_tokens": 5}
    names = dict.fromkeys(("model", "action", "connection", "source", "provider", "billed_to"), "")
    expected = {"day": "2026-11-01", "outcome": "answered"} | names | measures
    assert expected == {
        name: value for name, value in msgspec.structs.asdict(line).items() if value is not msgspec.UNSET
    }


class RecordingTable(MemoryTable):
    """A table that keeps the columns that were requested."""

    columns: tuple[str, ...] = ()

    async def page(self, *args: Any, **options: Any) -> RowPage:
        """See `Table`."""
        self.columns = tuple(options["columns"])
        return await super().page(*args, **options)


async def test_records_are_read_page_by_page():
    """Records are read a page at a time, with only the needed columns, so that memory doesn't grow with them."""
    calls = [Call(Usage(calls=1), request_id="r")] * 2500
    table = await table_of(records(calls), RecordingTable())

    statement = await Statements(table).read("acme", MONTH)

    assert (2500, 1, 3) == (statement.totals.answered.calls, len(statement.lines), table.counts["page"])
    assert {"request_id", "job_id", "answered_by"}.isdisjoint(table.columns)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        *((f"2026-{number:02}", 1 <= number <= 12) for number in range(14)),
        *((text, False) for text in ("2026-1", "2026-111", "2026-11\n", "x2026-11", "26-11", "2026/11", "٢٠٢٦-11", "")),
    ],
)
def test_months(text: str, valid: bool):
    """A month has four digits, a hyphen, and 01 to 12."""
    assert valid is bool(is_month(text))
