"""Statements in money: lines, totals, what is unpriced, and what a customer does not see."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.billing.pricing import Pricing
from shared.billing.statements import Statements, for_customer
from shared.billing.usage import UNANSWERED, Call, total
from shared.billing.usage_records import RecordLabels, usage_rows, with_closed_job
from shared.contract.price_book import decode_price_book
from shared.contract.result import ConnectionLabel
from shared.contract.statement import Statement, StatementLine
from shared.contract.usage import NO_USAGE, Usage
from shared.storage.base import Row
from tests.support.rows import every_row
from tests.support.statement_samples import JOBS, NOVEMBER_DAYS, dimensions, records_of, table_of

LABEL = ConnectionLabel(name="default", source="static", provider="openai", billed_to="operator")
LABELS = RecordLabels("acme", "a", "chat", "m", LABEL)
PRICE = {"provider": "openai", "model": "m", "input": "2", "output": "8"}
AT = datetime(2026, 11, 14, 12, tzinfo=UTC)


def pricing(*prices: dict[str, Any], currency: str = "USD", **members: Any) -> Pricing:
    """Return the prices of a book."""
    body = {"currency": currency, "prices": list(prices) or [PRICE], **members}
    return Pricing(decode_price_book(json.dumps(body).encode()))


def call(input_tokens: int = 100, output_tokens: int = 10, **members: Any) -> Call:
    """Return a call that was answered."""
    return Call(Usage(calls=1, input_tokens=input_tokens, output_tokens=output_tokens), **members)


async def read(rows: Sequence[Row], prices: Pricing | None, by: Sequence[str] = ()) -> Statement:
    """Return the statement of acme's November."""
    return await Statements(await table_of(list(rows))).read("acme", *NOVEMBER_DAYS, by, prices)


def money(line: Any) -> tuple[Any, ...]:
    """Return what a line or total says about money."""
    return line.amount, line.currency, line.unpriced, line.saved, line.list_amount


async def test_a_line_is_exact_and_a_total_is_rounded_once():
    """A line has four places more than its currency; what a total is rounded by is a line of its own."""
    rows = usage_rows(LABELS, [call()], AT)
    rows += usage_rows(replace(LABELS, job_id="b", action="embed"), [call(1_234_567, 0)], AT)

    statement = await read(rows, pricing(), ["action"])

    chat, embed, rounding = statement.lines
    assert ("0.000280", "USD", 0, "0.000000", "0.000280") == money(chat)
    assert ("2.469134", "USD", 0, "0.000000", "2.469134") == money(embed)
    assert ("2.47", "USD", 0, "0.00", "2.47") == money(statement.totals.answered)
    assert ("rounding", "answered", "0.000586", 0) == (
        rounding.kind,
        rounding.outcome,
        rounding.amount,
        rounding.records,
    )


@every_row("prices", [pricing(), None], ids=["price book", "no price book"])
@every_row("calls", [[], [UNANSWERED]], ids=["nothing", "unanswered"])
async def test_totals_say_whether_there_is_a_price_book(prices: Pricing | None, calls: list[Call]):
    """Whoever reads a total of nothing sees that no price is missing; nothing is never an amount."""
    statement = await read(usage_rows(LABELS, calls, AT), prices)

    nothing = (None, None, None, None, None) if prices is None else (None, "USD", 0, None, None)
    assert nothing == money(statement.totals.answered) == money(statement.totals.lost)


@settings(max_examples=60)
@given(
    jobs=st.lists(JOBS, max_size=6),
    by=dimensions,
    currency=st.sampled_from(["USD", "JPY", "KWD"]),
    percent=st.integers(-100, 300),
)
async def test_lines_sum_up_to_their_total(jobs: list[Any], by: list[str], currency: str, percent: int):
    """For any records and dimensions, lines and rounding are the total, and all records are priced or not."""
    prices = pricing(
        *(PRICE | {"provider": provider, "image": "0.0123", "second": "0.0001"} for provider in ("openai", "foundry")),
        currency=currency,
        models=[{"deployment": "gpt-4o", "model": "m"}],
        markups=[{"percent": str(percent)}],
    )
    statement = await Statements(await table_of(records_of(jobs))).read("acme", *NOVEMBER_DAYS, by, prices)

    for outcome in ("answered", "lost", "unanswered"):
        lines = [line for line in statement.lines if line.outcome == outcome]
        total = getattr(statement.totals, outcome)
        amounts = [Decimal(line.amount or 0) for line in lines]
        assert sum(amounts, Decimal(0)) == Decimal(total.amount or 0)
        assert sum(line.unpriced or 0 for line in lines) == (total.unpriced or 0)
        assert all(amount >= 0 for line, amount in zip(lines, amounts, strict=True) if line.kind is None)
    assert sum(each.records for each in statement.unpriced) == sum(line.unpriced or 0 for line in statement.lines)


async def test_a_price_that_changes_holds_from_its_day():
    """Records of the days before have the old price, in the same line."""
    rows = usage_rows(LABELS, [call(1_000_000, 0)], AT)
    rows += usage_rows(replace(LABELS, job_id="b"), [call(1_000_000, 0)], AT.replace(day=15, hour=0))
    prices = pricing(PRICE | {"effective_to": "2026-11-15"}, PRICE | {"input": "1", "effective_from": "2026-11-15"})

    assert ["3.000000"] == [line.amount for line in (await read(rows, prices)).lines]
    assert ["2.000000", "1.000000"] == [line.amount for line in (await read(rows, prices, ["day"])).lines]


async def test_what_has_no_price_is_listed_and_not_free():
    """The amount is that of the priced records; the others are counted, by model, outcome and reason."""
    calls = [call(), call(model="x"), call(model="x"), Call(Usage(calls=1), model="m"), Call(outcome="unanswered")]

    statement = await read(usage_rows(LABELS, calls, AT), pricing())

    assert [("0.000280", 3), (None, 1)] == [(line.amount, line.unpriced) for line in statement.lines[:2]]
    assert ("0.00", None) == (statement.totals.answered.amount, statement.totals.unanswered.amount)
    assert [
        ("m", "answered", 1, "the provider reported no input and no output tokens"),
        ("m", "unanswered", 1, "the provider reported no input and no output tokens"),
        ("x", "answered", 2, "no price holds for x on 2026-11-14 (provider openai, processing standard)"),
    ] == [(each.model, each.outcome, each.records, each.reason) for each in statement.unpriced]


async def test_markup_is_by_percent_and_by_job():
    """A customer's own markup replaces the general one. Jobs count on the day of their end."""
    rows = with_closed_job(LABELS, usage_rows(LABELS, [call(1_000_000, 0), call(1_000_000, 0)], AT), NO_USAGE, AT)
    markups = [{"percent": "50", "per_job": "9"}, {"customer": "acme", "percent": "10", "per_job": "0.25"}]

    (line,) = (await read(rows, pricing(markups=markups))).lines

    assert (1, "4.650000", "4.000000") == (line.jobs, line.amount, line.list_amount)


@pytest.mark.parametrize("processing", ["standard", "batch"])
async def test_a_job_of_steps_counts_once_and_is_no_record(processing: Any):
    """If its calls were recorded as steps, a row of its own counts the job, in the line of its calls."""
    calls = [call(service_tier="default", processing=processing)] * 2
    billed = total(calls)
    steps = usage_rows(LABELS, calls, AT, suffix="s")
    closing = with_closed_job(LABELS, [], billed, AT)

    prices = pricing(PRICE | {"processing": processing}, markups=[{"per_job": "1"}])
    line = (await read([*steps, *closing], prices)).lines[0]

    assert (1, 2, 2, 0) == (line.jobs, line.records, line.calls, line.unpriced)
    assert "1.000560" == line.amount
    assert [] == with_closed_job(LABELS, [], NO_USAGE, AT)


async def test_savings_are_told_against_standard_processing():
    """A batch at half the price saves as much as it costs; without a standard price nothing is known to be saved."""
    rows = usage_rows(LABELS, [call(1_000_000, 0, processing="batch")], AT)
    batch = PRICE | {"input": "1", "processing": "batch"}

    costs = [(await read(rows, pricing(*prices))).lines[0] for prices in ([PRICE, batch], [batch])]

    assert [("1.000000", "1.000000"), ("1.000000", "0.000000")] == [(line.amount, line.saved) for line in costs]


async def test_without_a_price_book_there_is_no_money():
    """Nothing is said about amounts, not even that they are 0."""
    statement = await read(usage_rows(LABELS, [call()], AT), None)

    names = {name for line in msgspec.to_builtins(statement.lines) for name in line}
    assert {"amount", "currency", "unpriced", "saved", "list_amount"}.isdisjoint(names)
    assert "unpriced" not in msgspec.to_builtins(statement)


async def test_a_customer_sees_no_list_price():
    """Neither in lines or totals, nor in the reasons why something is unpriced."""
    rows = usage_rows(LABELS, [call(), call(model="x")], AT)
    statement = await read(rows, pricing(markups=[{"percent": "10"}]))

    text = msgspec.json.encode(for_customer(statement)).decode()

    assert "list_amount" in msgspec.json.encode(statement).decode()
    assert "list_amount" not in text
    assert "reason" not in text
    assert statement.lines[0].amount == for_customer(statement).lines[0].amount


@every_row("name", StatementLine.__struct_fields__)
def test_every_member_of_a_line_is_for_customers_or_not(name: str):
    """A member that is added later is looked at here: what shows list prices is removed by `for_customer`."""
    operators = {"list_amount"}
    shown = {"amount", "currency", "unpriced", "saved", "jobs", "kind"}
    usage = {
        "records",
        "calls",
        "unreported",
        "derived",
        "consistent",
        *Usage.__struct_fields__,
        "outcome",
        "billed_to",
    }
    labels = {"month", "day", "model", "action", "connection", "source", "provider", "service_tier", "processing"}

    assert name in operators | shown | usage | labels


async def test_a_statement_in_another_currency_lists_what_has_no_rate():
    """Days with a rate have amounts in that currency; the others' calls and jobs are unpriced, and say why."""
    rows = with_closed_job(LABELS, usage_rows(LABELS, [call(1_000_000, 0)], AT), NO_USAGE, AT)
    early = replace(LABELS, job_id="b")
    rows += usage_rows(early, [call()], AT.replace(day=2), suffix="s")
    rows += with_closed_job(early, [], Usage(calls=1), AT.replace(day=2))
    rates = [{"from": "USD", "to": "JPY", "rate": "150", "effective_from": "2026-11-03"}]
    prices = pricing(markups=[{"per_job": "1"}], rates=rates).in_currency("JPY")

    statement = await read(rows, prices)

    assert ("450.0000", "JPY", 2, "0.0000", "300.0000") == money(statement.lines[0])
    assert "450" == statement.totals.answered.amount
    reason = "no rate from USD to JPY holds on 2026-11-02"
    assert [("", 1, reason), ("m", 1, reason)] == [
        (each.model, each.records, each.reason) for each in statement.unpriced
    ]


FEE = [{"per_job": "0.25"}]


@every_row("is_stepped", [False, True])
@every_row("markups", [[], FEE], ids=["free", "fee"])
@every_row("by", [[], ["day"], ["model", "action"]])
async def test_a_job_without_a_price_has_an_amount_only_for_its_fee(
    markups: list[dict[str, str]], by: list[str], *, is_stepped: bool
):
    """The fee of a job is owed whatever its calls cost, and however lines are grouped; nothing is 0 for want of one."""
    calls = [call(model="x")]
    at, usage = AT.replace(day=15), Usage(calls=1)
    rows = (
        [*usage_rows(LABELS, calls, at, suffix="s"), *with_closed_job(LABELS, [], usage, at)]
        if is_stepped
        else with_closed_job(LABELS, usage_rows(LABELS, calls, at), NO_USAGE, at)
    )
    alone = await read(rows, pricing(markups=markups), by)
    priced = usage_rows(replace(LABELS, job_id="b"), [call(1_000_000, 0)], AT)
    both = await read([*rows, *priced], pricing(markups=markups), by)

    amounts = [line.amount for line in alone.lines if line.kind is None]
    assert (["0.250000"] if markups else [None]) == amounts
    assert (("0.25", 1) if markups else (None, 1)) == (alone.totals.answered.amount, alone.totals.answered.unpriced)
    assert ("2.25" if markups else "2.00") == both.totals.answered.amount


async def test_a_customer_sees_each_model_without_a_price_once():
    """The reasons that it does not see name days; what is left is one entry for a model and outcome."""
    days = [AT.replace(day=day) for day in (14, 15, 16)]
    rows = [row for day in days for row in usage_rows(replace(LABELS, job_id=f"{day.day}"), [call(model="x")], day)]

    statement = await read(rows, pricing())

    assert 3 == len(statement.unpriced)
    assert [("x", "answered", 3, None)] == [
        (each.model, each.outcome, each.records, each.reason) for each in for_customer(statement).unpriced
    ]
