"""Documents of a closed month: lines that sum to the total, and corrections that are exactly the difference."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.billing.money import amount_text, places_of, round_line
from shared.billing.statement_documents import (
    adjustment_lines,
    closed_month,
    differences,
    encode_document_csv,
    markups_of,
    number_text,
    usage_lines,
    with_total,
)
from shared.contract.adjustment import Adjustment
from shared.contract.closed_month import DocumentLine, InternalMonth, Party
from shared.contract.price_book import Markup, PriceBook
from shared.contract.statement import (
    Statement,
    StatementLine,
    StatementTotals,
    UnpricedCalls,
    UsageTotals,
)


def adjusted(id_: str, amount: str, description: str = "Goodwill") -> Adjustment:
    """Return a credit or debit."""
    return Adjustment(
        id=id_,
        month="2026-11",
        amount=amount,
        currency="USD",
        description=description,
        at="2026-11-29T00:00:00Z",
        by="function key",
    )


_amounts = st.none() | st.decimals(-(10**6), 10**6, places=6).map(lambda amount: amount_text(round_line(amount, "USD")))
_counts = st.none() | st.integers(0, 10**9)
_lines = st.builds(
    DocumentLine,
    kind=st.just("usage"),
    model=st.sampled_from(["gpt-4o", "gpt-5.5", None]),
    connection=st.sampled_from(["default", "spare"]),
    outcome=st.just("answered"),
    records=st.integers(0, 100),
    calls=st.integers(0, 100),
    jobs=st.integers(0, 9),
    unpriced=st.integers(0, 2),
    input_tokens=_counts,
    output_tokens=_counts,
    seconds=st.none() | st.integers(0, 10**6).map(lambda milliseconds: milliseconds / 1000),
    amount=_amounts,
    saved=_amounts,
    list_amount=_amounts,
)
_statements = st.lists(_lines, max_size=6, unique_by=lambda line: (line.model, line.connection))


def internal(lines: list[DocumentLine], **members: Any) -> InternalMonth:
    """Return the operator's document with these lines."""
    lines, total = with_total(lines, "USD")
    values: dict[str, Any] = {
        "customer": "contoso",
        "month": "2026-11",
        "closed_at": "2026-12-01T00:30:12.000Z",
        "party": Party(legal_name="Contoso Ltd"),
        "invoice_prefix": "contoso",
        "bill_outcomes": ["answered"],
        "price_book": "0" * 64,
        "markups": [Markup(percent=Decimal(20))],
        "currency": "USD",
    }
    return InternalMonth(**values | members, lines=lines, total=total)


def sums(lines: list[DocumentLine]) -> dict[Any, dict[str, Decimal]]:
    """Return the numbers of usage lines by their labels, without those that are 0."""
    totals: dict[Any, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for line in (line for line in lines if line.kind == "usage"):
        for name, value in msgspec.structs.asdict(line).items():
            if name in {"amount", "saved", "list_amount"} or isinstance(value, int | float):
                totals[line.model, line.connection][name] += Decimal(str(value or 0))
    return {
        labels: numbers
        for labels, each in totals.items()
        if (numbers := {name: number for name, number in each.items() if number})
    }


@settings(max_examples=60)
@given(_statements, st.sampled_from(["USD", "JPY", "KWD"]))
def test_the_lines_of_a_document_sum_to_its_total(lines: list[DocumentLine], currency: str):
    """To the last decimal: what rounding adds is a line of its own, of half of the currency's last place at most."""
    with_rounding, total = with_total(lines, currency)

    assert Decimal(total) == sum(Decimal(line.amount or 0) for line in with_rounding)
    assert places_of(currency) == max(-int(Decimal(total).as_tuple().exponent), 0)
    rounding = [Decimal(line.amount or 0) for line in with_rounding if line.kind == "rounding"]
    assert all(0 < abs(each) <= Decimal(5).scaleb(-places_of(currency) - 1) for each in rounding)
    assert len(rounding) <= 1
    assert not total.startswith("-") or Decimal(total)


@settings(max_examples=60)
@given(_statements, st.lists(_statements, min_size=1, max_size=3))
def test_a_correction_is_what_is_missing(current: list[DocumentLine], steps: list[list[DocumentLine]]):
    """
    However often a statement changes, its document and all corrections add up to what it says in the end, in every
    count and amount.
    """
    documented: list[DocumentLine] = []
    for statement in (*steps, current):
        documented += differences(statement, documented, "USD")

    assert sums(current) == sums(documented)
    assert [] == differences(current, documented, "USD")


@settings(max_examples=60)
@given(_statements)
def test_nothing_new_is_nothing_to_correct(lines: list[DocumentLine]):
    """Also if the document has a line for rounding, credits and debits."""
    adjustments = adjustment_lines([adjusted("a", "-1.5"), adjusted("b", "2")], "USD")
    documented, _ = with_total([*lines, *adjustments], "USD")

    assert [] == differences([*lines, *adjustments], documented, "USD")


def test_a_new_credit_is_documented_once():
    """The correction has the credit that no earlier document has, and no usage that has not changed."""
    usage = DocumentLine(kind="usage", model="m", amount="3.000000", calls=1)
    before = adjustment_lines([adjusted("a", "-1.5")], "USD")
    after = adjustment_lines([adjusted("b", "0.25", "Late fee"), adjusted("a", "-1.5")], "USD")

    lines = differences([usage, *after], [usage, *before], "USD")

    expected = DocumentLine(kind="debit", adjustment="b", description="Late fee", amount="0.250000")
    assert [expected] == lines
    assert ["credit", "debit"] == [line.kind for line in after]


def test_what_has_vanished_is_taken_back():
    """A line that is not in the statement any more, such as a placeholder's, has its negative in the correction."""
    line = DocumentLine(kind="usage", model="m", outcome="unanswered", calls=2, input_tokens=7, amount="3.000000")

    (taken_back,) = differences([], [line], "USD")

    assert (-2, -7, "-3.000000") == (taken_back.calls, taken_back.input_tokens, taken_back.amount)


def test_only_billed_outcomes_are_in_a_document():
    """By default answered calls; the line that rounds a statement's totals is no line of a document."""
    nothing: dict[str, Any] = {"records": 1, "calls": 1, "unreported": 0, "jobs": 0}
    labels: dict[str, Any] = {"source": "key_vault", "provider": "openai", "billed_to": "customer", "model": ""}
    outcomes = ("answered", "lost", "unanswered")
    statement = Statement(
        customer="contoso",
        from_="2026-11-01",
        to="2026-11-30",
        by=["model"],
        totals=StatementTotals(**{name: UsageTotals(**nothing) for name in outcomes}),
        lines=[
            *(StatementLine(**labels, **nothing, outcome=outcome, amount="1.000000") for outcome in outcomes),
            StatementLine(**labels, **nothing, outcome="answered", kind="rounding", amount="-1.000000"),
        ],
    )

    billed = usage_lines(statement, ["answered", "lost"])

    assert [("answered", "1.000000"), ("lost", "1.000000")] == [(line.outcome, line.amount) for line in billed]
    assert {None} == {line.model for line in billed}


def test_the_customers_document_shows_no_list_price():
    """Neither list amounts nor markups, prices, billed outcomes, and the reasons why something has no price."""
    line = DocumentLine(kind="usage", model="m", amount="1.200000", list_amount="1.000000")
    unpriced = [UnpricedCalls(model="x", outcome="answered", records=2, reason="no price holds for x")]

    document = closed_month(internal([line], unpriced=unpriced), 7)

    text = msgspec.json.encode(document).decode()
    assert "contoso-0007" == document.number
    assert not [word for word in ("list_amount", "1.000000", "markup", "0" * 64, "outcomes", "holds") if word in text]
    assert "list_amount" not in encode_document_csv(document).decode()


@settings(max_examples=60)
@given(_statements)
def test_the_column_of_amounts_sums_to_the_total(lines: list[DocumentLine]):
    """In the CSV, whose columns are the same for each document."""
    document = closed_month(internal([*lines, *adjustment_lines([adjusted("a", "-1.005")], "USD")]), 1)

    rows = list(csv.DictReader(io.StringIO(encode_document_csv(document).decode())))

    assert Decimal(document.total) == sum(Decimal(row["amount"] or 0) for row in rows)
    assert {("contoso-0001", "contoso", "2026-11", "USD")} == {
        (row["number"], row["customer"], row["month"], row["currency"]) for row in rows
    }


@pytest.mark.parametrize(
    ("prefix", "number", "text"),
    [("contoso", 1, "contoso-0001"), ("INV-", 12, "INV-0012"), ("A", 12345, "A-12345")],
)
def test_a_number_has_the_customers_prefix(prefix: str, number: int, text: str):
    """With one hyphen between the two."""
    assert text == number_text(prefix, number)


def test_a_document_names_the_markups_of_its_month():
    """Those of the customer and of all, that held on a day of the month; not those of others, before or after."""
    expected = [
        Markup(percent=Decimal(1)),
        Markup(customer="contoso", percent=Decimal(2), effective_from=date(2026, 11, 30)),
        Markup(percent=Decimal(3), effective_to=date(2026, 11, 30)),
    ]
    others = [
        Markup(customer="contos", percent=Decimal(4)),
        Markup(percent=Decimal(5), effective_to=date(2026, 11, 1)),
        Markup(percent=Decimal(6), effective_from=date(2026, 12, 1)),
    ]

    assert expected == markups_of(PriceBook(currency="USD", markups=[*expected, *others]), "contoso", "2026-11")
