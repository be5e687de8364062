"""Statements: a month's usage records added up, whatever they are told apart by."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.billing.statement_csv import encode_csv
from shared.billing.statements import DEFAULT_DIMENSIONS, DIMENSIONS, FIXED_DIMENSIONS, MEASURES, Statements
from shared.billing.usage import Call
from shared.billing.usage_records import usage_rows
from shared.contract.documents import Statement, StatementLine, UsageTotals
from shared.contract.result import ConnectionLabel, Usage
from shared.storage.base import Row
from tests.support.endpoint import completion
from tests.support.fakes import MemoryTable
from tests.support.harness import World
from tests.support.http_client import send

PAGE = (Path(__file__).parents[3] / "docs/bill.md").read_text()
MONTH = "2026-11"

numbers = st.integers(0, 2**31 - 1)
tokens = st.none() | st.builds(
    Usage,
    calls=st.just(1),
    input_tokens=numbers,
    output_tokens=numbers,
    cached_tokens=numbers,
    reasoning_tokens=numbers,
)
calls = st.builds(Call, tokens, images=st.integers(0, 10), outcome=st.sampled_from(["answered", "lost", "unanswered"]))
labels = st.builds(
    ConnectionLabel,
    name=st.sampled_from(["default", "spare"]),
    source=st.sampled_from(["key_vault", "static"]),
    provider=st.sampled_from(["openai", "foundry"]),
    billed_to=st.sampled_from(["customer", "operator"]),
)
moments = st.datetimes(datetime(2026, 11, 1), datetime(2026, 11, 30, 23, 59, 59), timezones=st.just(UTC))  # noqa: DTZ001
words = st.sampled_from(
    ["gpt-4o", "", "=1+1", "+1", "-1", "@x", "'x", "\tx", " =1", "a,b", 'a"b', "a\r\nb", "ü", "\uff1d1"]
)
models = words | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
jobs = st.tuples(models, st.sampled_from(["chat", "raw"]), labels, st.lists(calls, max_size=4), moments)
choices = st.lists(st.sampled_from(DIMENSIONS), unique=True)


def rows_of(asked: list[tuple[Any, ...]], customer: str = "acme") -> list[Row]:
    """The usage records of some jobs."""
    return [
        row
        for number, (model, action, label, made, at) in enumerate(asked)
        for row in usage_rows(customer, f"job{number}", action, model, label, made, at)
    ]


def table_of(rows: list[Row], table: MemoryTable | None = None) -> MemoryTable:
    """A table with these rows."""
    table = table or MemoryTable()

    async def insert() -> None:
        for row in rows:
            await table.insert(row)

    asyncio.run(insert())
    return table


def add_up(asked: list[tuple[Any, ...]], by: list[str]) -> tuple[list[Row], Statement]:
    """The rows of some jobs and the statement over them, beside others' rows and other months'."""
    rows = rows_of(asked)
    stray = Row("acme", "x", {"at": datetime(2026, 11, 1, tzinfo=UTC), "calls": 1})
    others = [Row("acme", f"u_{month}_job0_0000", stray.values) for month in ("2026-10", "2026-12")]
    others += [Row("acme", "j_job0", {}), *rows_of(asked, "acmf")]
    table = table_of([*rows, *others], MemoryTable(page_size=3))
    return rows, asyncio.run(Statements(table).read("acme", MONTH, by))


@settings(max_examples=60)
@given(st.lists(jobs, max_size=6), choices)
def test_lines_add_up_to_the_records(asked: list[tuple[Any, ...]], by: list[str]):
    """Whatever lines are told apart by, they are distinct, and all of them together are all of the records."""
    rows, statement = add_up(asked, by)
    rest = Counter[str]()
    for row in rows:
        unreported = 0 if row.values["reported"] else row.values["calls"]
        rest.update(
            {
                "records": 1,
                "unreported": unreported,
                **{name: row.values[name] for name in MEASURES if name in row.values},
            }
        )

    names = [name for name in DIMENSIONS if name in by]
    assert names == statement.by
    told = [tuple(getattr(line, name) for name in (*names, *FIXED_DIMENSIONS)) for line in statement.lines]
    assert sorted(set(told)) == told
    for name in MEASURES:
        assert rest[name] == sum(getattr(line, name) for line in statement.lines)
        assert rest[name] == sum(getattr(total, name) for total in msgspec.structs.astuple(statement.totals))
    for outcome in ("answered", "lost", "unanswered"):
        lines = [line for line in statement.lines if line.outcome == outcome]
        assert getattr(statement.totals, outcome) == UsageTotals(
            **{name: sum(getattr(line, name) for line in lines) for name in MEASURES}
        )
    assert not statement.totals.unanswered.calls


@settings(max_examples=60)
@given(st.lists(jobs, max_size=6), choices)
def test_csv_says_the_same_as_json(asked: list[tuple[Any, ...]], by: list[str]):
    """A reader of CSV gets the lines back, a single quote before some; no cell begins like a formula."""
    _, statement = add_up(asked, by)
    text = encode_csv(statement).decode()
    read = list(csv.DictReader(io.StringIO(text, newline="")))

    assert text.endswith("\r\n")
    expected = [{name: str(value) for name, value in line.items()} for line in msgspec.to_builtins(statement.lines)]
    assert expected == [{name: value.removeprefix("'") for name, value in line.items()} for line in read]
    cells = [cell for line in csv.reader(io.StringIO(text, newline="")) for cell in line]
    assert [] == [
        cell
        for cell in cells
        if cell.lstrip()[:1] in {*"=+-@\uff1d\uff0b\uff0d\uff20"} or cell[:1] in {"\t", "\r", "\n"}
    ]


def test_days_and_months_are_those_of_the_record():
    """A record's day is that of its moment in UTC."""
    label = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")
    at = datetime(2026, 11, 30, 23, 59, 59, 999_000, tzinfo=UTC)
    _, statement = add_up([("m", "chat", label, [Call(Usage(calls=1))], at)], ["month", "day"])

    (line,) = statement.lines
    assert ("2026-11", "2026-11-30") == (line.month, line.day)


def test_old_records_without_an_outcome_were_answered():
    """JobQueries from before there were outcomes count as answered."""
    values = {"at": datetime(2026, 11, 1, tzinfo=UTC), "model": "m", "calls": 1, "reported": True, "input_tokens": 5}
    table = table_of([Row("acme", "u_2026-11_a_0000", values)])
    statement = asyncio.run(Statements(table).read("acme", MONTH))

    assert (1, 5) == (statement.totals.answered.records, statement.totals.answered.input_tokens)


def test_memory_is_that_of_a_page_and_the_lines():
    """However many records there are, they are asked for a page at a time, and only their needed columns."""
    label = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")
    at = datetime(2026, 11, 1, tzinfo=UTC)
    rows = rows_of([("m", "chat", label, [Call(Usage(calls=1), request_id="r")], at)] * 2500)
    table = Watched()
    table_of(rows, table)
    statement = asyncio.run(Statements(table).read("acme", MONTH, DEFAULT_DIMENSIONS))

    assert 2500 == statement.totals.answered.calls
    assert 1 == len(statement.lines)
    assert 3 == table.counts["page"]
    assert {"request_id", "job_id", "answered_by"}.isdisjoint(table.columns)


class Watched(MemoryTable):
    """A table that notes what it is asked for."""

    columns: tuple[str, ...] = ()

    async def page(self, *args: Any, **named: Any) -> Any:
        """See `stores.Table`."""
        self.columns = tuple(named["columns"])
        return await super().page(*args, **named)


def blocks(language: str) -> list[str]:
    """The fenced blocks of the billing page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


async def test_the_docs_requests_are_answered_as_shown(world: World):
    """The page's statement is, to the letter, that of three calls and one that was cut short; in JSON and in CSV."""
    customer = world.customer()  # under another name: pages share the table with other tests
    for _ in range(3):
        await customer.run()
    customer.account.will_answer(completion(after_s=30))
    await customer.run(options={"timeout_s": 1.5, "max_retries": 0})
    month = f"{datetime.now(UTC):%Y-%m}"
    asked_json, shown, asked_csv = blocks("http")
    (shown_csv,) = blocks("csv")

    for asked, expected in ((asked_json, shown.partition("\n\n")[2]), (asked_csv, shown_csv)):
        first, accept = asked.strip().splitlines()
        path, _, query = first.split()[1].removeprefix("/api/").replace("2026-11", month).partition("?")
        path = path.replace("contoso", customer.name)
        answered = await send(
            world,
            "GET",
            path,
            query=dict(pair.split("=") for pair in query.split("&")),
            headers=dict([accept.lower().split(": ")]),
        )
        said = answered.body.decode().replace(month, "2026-11").replace(customer.name, "contoso")
        if answered.media_type == "application/json":
            assert json.loads(expected) == json.loads(said)
        else:
            assert expected == said.replace("\r\n", "\n")


def test_the_docs_price_book_makes_a_bill():
    """The page's price book prices each day by its own price, cached tokens apart, and what is beyond doubt only."""
    first, second = 0.6 * 2.5 + 0.4 * 1.25 + 1, 0.6 * 2 + 0.4 * 1 + 0.8
    lines = [
        line(day="2026-11-14"),
        line(day="2026-11-15"),
        line(day="2026-11-15", billed_to="operator"),
        line(day="2026-11-15", outcome="lost"),
    ]

    assert pytest.approx(first + second) == billed(lines, "customer")
    assert pytest.approx(second) == billed(lines, "operator")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"unreported": 1, "images": 2}, "1 calls of 'gpt-4o' on 2026-11-15 came without tokens, with 2 images"),
        ({"model": "my-deployment"}, "no price of 'my-deployment' on 2026-11-15"),
        ({"day": "2025-12-31"}, "no price of 'gpt-4o' on 2025-12-31"),
        ({"day": msgspec.UNSET}, "by=day,model"),
        ({"model": msgspec.UNSET}, "by=day,model"),
    ],
)
def test_the_docs_price_book_refuses_what_it_can_not_price(own: dict[str, Any], said: str):
    """What has no price is told, and never billed as nothing."""
    with pytest.raises(ValueError, match=said):
        billed([line(**({"day": "2026-11-15"} | own))], "customer")


def test_the_docs_bill_wants_to_know_whose_it_is():
    """There is no account by default, and no other than the two."""
    with pytest.raises(ValueError, match="'customer' or 'operator', not 'contoso'"):
        billed([], "contoso")
    with pytest.raises(TypeError, match="billed_to"):
        sample()["bill"]({"lines": []})


def sample() -> dict[str, Any]:
    """What the page's sample defines."""
    (block,) = blocks("python")
    names: dict[str, Any] = {}
    exec(block, names)
    return names


def billed(lines: list[StatementLine], billed_to: str) -> float:
    """What the page's sample makes of these lines."""
    found: float = sample()["bill"]({"lines": msgspec.to_builtins(lines)}, billed_to)
    return found


def line(**own: Any) -> StatementLine:
    """A line of a statement."""
    labels = {"source": "key_vault", "provider": "openai", "billed_to": "customer", "outcome": "answered"}
    counted = {"input_tokens": 1_000_000, "cached_tokens": 400_000, "output_tokens": 100_000, "reasoning_tokens": 0}
    usual = {"model": "gpt-4o", "records": 1, "calls": 1, "unreported": 0, "images": 0}
    return StatementLine(**(labels | counted | usual | own))
