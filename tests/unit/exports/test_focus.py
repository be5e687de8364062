"""FOCUS CSV: the specification's columns and types, and a month to compare with."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared.billing.periods import Days
from shared.billing.pricing import Pricing
from shared.billing.statements import Statements
from shared.billing.usage import Call
from shared.billing.usage_records import RecordLabels, usage_rows
from shared.contract.adjustment import Adjustment
from shared.contract.closed_month import DocumentLine, InternalMonth, Party
from shared.contract.customer import CustomerProfile
from shared.contract.price_book import decode_price_book
from shared.contract.result import ConnectionLabel
from shared.contract.statement import Statement
from shared.contract.usage import Usage
from shared.exports.focus import BY, COLUMNS, DECIMALS, encode_focus, focus_rows, left_out
from tests.support.exporting import START
from tests.support.fakes import MemoryTable

GOLDEN = Path(__file__).parents[2] / "data/focus-2026-11.csv"
MONTH = Days.of_month("2026-11")
MANDATORY = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd"),
    *("ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity"),
    *("PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName"),
)
"""Of FOCUS 1.2."""
NOT_NULL = {*MANDATORY} - {"ChargeClass", "PricingQuantity", "PricingUnit"}
CATEGORIES = {"Usage", "Purchase", "Tax", "Credit", "Adjustment"}
TIMES = {name for name in COLUMNS if name.endswith(("PeriodStart", "PeriodEnd"))}
PROFILE = CustomerProfile(legal_name="=Contoso GmbH", bill_outcomes=("answered", "lost"))
BOOK = {
    "currency": "USD",
    "prices": [
        {"provider": "openai", "model": "gpt-5.5", "input": "2.50", "output": "10", "cached": "0.25"},
        {"provider": "openai", "model": "gpt-5.5", "processing": "batch", "input": "1.25", "output": "5"},
        {"provider": "openai", "model": "image-1", "image": "0.04"},
    ],
    "models": [],
    "markups": [{"percent": "20"}],
}


async def statement() -> Statement:
    """Return a month with tokens, images, a batch, a lost and an unanswered call, and one without a price."""
    table = MemoryTable()
    calls: list[tuple[str, Any]] = [
        ("gpt-5.5", Call(Usage(calls=1, input_tokens=1000, cached_tokens=400, output_tokens=50, total_tokens=1050))),
        ("gpt-5.5", Call(Usage(calls=1, input_tokens=2000, output_tokens=100), processing="batch")),
        ("gpt-5.5", Call(Usage(calls=1, input_tokens=7, output_tokens=1), outcome="lost")),
        ("gpt-5.5", Call(outcome="unanswered")),
        ("image-1", Call(Usage(calls=1), images=3)),
        ("mystery", Call(Usage(calls=1, input_tokens=5, output_tokens=5))),
    ]
    for number, (model, call) in enumerate(calls):
        label = ConnectionLabel(name="eu", source="key_vault", provider="openai", billed_to="customer")
        labels = RecordLabels("contoso", f"job-{number}", "chat", model, label, "global")
        for row in usage_rows(labels, [call], START):
            await table.insert(row)
    pricing = Pricing(decode_price_book(json.dumps(BOOK).encode()))
    return await Statements(table).read("contoso", MONTH.first, MONTH.last, BY, pricing)


def adjustments() -> list[Adjustment]:
    """Return a credit and a debit."""
    values = {"month": "2026-11", "currency": "USD", "at": "2026-11-10T12:00:00.000Z", "by": "test"}
    return [
        Adjustment(id="c", amount="-12.50", description="Credit for the outage", **values),
        Adjustment(id="d", amount="5.00", description="Setup", **values),
    ]


@pytest.fixture(name="rows")
async def _rows() -> list[dict[str, str]]:
    rows = focus_rows(await statement(), PROFILE, adjustments(), month=MONTH, issuer="Fabrikam")
    return list(csv.DictReader(io.StringIO(encode_focus(rows).decode(), newline="")))


async def test_a_month_as_it_was_written_before():
    """The file is the golden one, to the byte; after a change on purpose, copy what the failure shows."""
    rows = focus_rows(await statement(), PROFILE, adjustments(), month=MONTH, issuer="Fabrikam")

    assert GOLDEN.read_bytes().decode() == encode_focus(rows).decode()


async def test_every_mandatory_column_with_its_type(rows: list[dict[str, str]]):
    """Numbers are decimals without an exponent, times are UTC, tags are JSON, and what must not be null is not."""
    assert len(rows) == 6
    for row in rows:
        assert set(MANDATORY) <= row.keys()
        assert [] == [
            name for name in row if name not in MANDATORY and not name.startswith("x_") and name not in COLUMNS
        ]
        assert [] == [name for name in NOT_NULL if not row[name]]
        assert [] == [name for name in DECIMALS if row[name] and not re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", row[name])]
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00Z", row[name]) for name in TIMES)
        assert row["ChargePeriodStart"] < row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
        assert row["BillingPeriodStart"] <= row["ChargePeriodStart"]
        assert row["ChargeCategory"] in CATEGORIES
        assert isinstance(json.loads(row["Tags"]), dict)
        assert re.fullmatch(r"[A-Z]{3}", row["BillingCurrency"])
        assert bool(row["PricingQuantity"]) == bool(row["PricingUnit"]) == (row["ChargeCategory"] == "Usage")
        assert "AI and Machine Learning" == row["ServiceCategory"]
        assert 1 == len({row[name] for name in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")})


async def test_costs_are_those_of_the_statement(rows: list[dict[str, str]]):
    """The sum is what the profile bills of the statement, plus credits and debits; nothing without a price is 0."""
    lines = [line for line in (await statement()).lines if line.outcome in PROFILE.bill_outcomes and line.kind is None]
    billed = sum(Decimal(line.amount) for line in lines if line.amount)

    assert billed - Decimal("7.5") == sum(Decimal(row["BilledCost"]) for row in rows)
    assert "mystery" not in repr(rows)
    assert 1 == left_out(await statement(), PROFILE)
    assert {"answered", "lost", ""} == {row["x_Outcome"] for row in rows}


async def test_a_withdrawn_placeholder_hides_nothing_that_is_left_out():
    """What counts -1 in a statement is of an earlier month, and no record without a price less."""
    lost = msgspec.structs.replace((month := await statement()).lines[0], outcome="lost", amount=None, unpriced=-1)

    assert 1 == left_out(msgspec.structs.replace(month, lines=[*month.lines, lost]), PROFILE)


async def test_a_closed_month_names_its_documents():
    """Usage is in the month's own document, a credit in the one that lists it, and one that is in none yet in none."""
    values: dict[str, Any] = {
        "customer": "contoso",
        "month": "2026-11",
        "closed_at": "2026-12-01T00:30:00.000Z",
        "party": Party(),
        "invoice_prefix": "C",
        "bill_outcomes": ["answered"],
        "price_book": "0" * 64,
        "markups": [],
        "currency": "USD",
        "total": "0.00",
    }
    lines = {name: [DocumentLine(kind="debit", adjustment=name)] for name in ("c", "d")}
    documents = [
        ("C-0001", InternalMonth(**values, lines=lines["d"])),
        ("C-0002", InternalMonth(**values, correction=1, lines=lines["c"])),
    ]
    late = msgspec.structs.replace(adjustments()[0], id="late")
    rows = focus_rows(
        await statement(), PROFILE, [*adjustments(), late], month=MONTH, issuer="Fabrikam", documents=documents
    )

    assert [
        *[("Usage", "C-0001", None)] * 4,
        ("Credit", "C-0002", "Correction"),
        ("Adjustment", "C-0001", None),
        ("Credit", None, None),
    ] == [(row["ChargeCategory"], row["InvoiceId"], row["ChargeClass"]) for row in rows]


async def test_a_text_is_no_formula(rows: list[dict[str, str]]):
    """A name that begins like a formula gets a quote in front, as in every CSV of the app."""
    assert {"'=Contoso GmbH"} == {row["SubAccountName"] for row in rows}


async def test_days_are_those_of_the_calls(rows: list[dict[str, str]]):
    """A usage row is of one day, a credit of the month."""
    periods = {(row["ChargeCategory"], row["ChargePeriodStart"][:10], row["ChargePeriodEnd"][:10]) for row in rows}
    day = f"{START:%Y-%m-%d}"

    assert {
        ("Usage", day, f"{date(2026, 11, 11)}"),
        ("Credit", "2026-11-01", "2026-12-01"),
        ("Adjustment", "2026-11-01", "2026-12-01"),
    } == periods
