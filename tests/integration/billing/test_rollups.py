"""Rollups on the real SDK: 50,000 records in a table of Azurite."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from shared.billing.pricing import Pricing
from shared.billing.rollups import Rollups
from shared.billing.statements import Statements
from shared.billing.usage import Call
from shared.billing.usage_records import RecordLabels, usage_rows
from shared.contract.price_book import decode_price_book
from shared.contract.result import ConnectionLabel
from shared.contract.usage import Usage
from shared.storage.base import MAX_TRANSACTION_ROWS, Row
from shared.storage.bulk import gather_limited
from tests.support.harness import Harness

FIRST = date(2026, 10, 1)
DAYS = 10
RECORDS_A_DAY = 2000
BOOK = {
    "currency": "USD",
    "prices": [
        {"provider": "openai", "model": "m*", "input": "2", "cached": "0.5", "output": "8"},
        {"provider": "openai", "model": "m*", "min_input_tokens": 1000, "input": "4", "cached": "1", "output": "12"},
    ],
    "markups": [{"percent": "12.5"}],
}
LABEL = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")


def records(customer: str, day: date) -> list[Row]:
    """Return a day's records, of four models and lengths of input."""
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    labels = RecordLabels(customer, f"job-{day}", "chat", "m", LABEL, incarnation="0123abcd")
    rows = []
    for model in range(4):
        calls = [
            Call(Usage(calls=1, input_tokens=number, cached_tokens=number % 7, output_tokens=number % 90), f"m-{model}")
            for number in range(RECORDS_A_DAY // 4)
        ]
        rows += usage_rows(replace(labels, job_id=f"{labels.job_id}-{model}"), calls, at)
    return rows


@pytest.mark.long
@pytest.mark.timeout(900)  # Azurite writes 20,000 rows in one to three minutes
async def test_a_month_of_twenty_thousand_records_is_read_from_its_rollups(harness: Harness):
    """The statement from rollups is that of the records, it takes less than a second, and few rows are read for it."""
    table, customer = harness.services.table, harness.customer().name
    for number in range(DAYS):
        rows = records(customer, FIRST + timedelta(days=number))
        batches = [rows[start : start + MAX_TRANSACTION_ROWS] for start in range(0, len(rows), MAX_TRANSACTION_ROWS)]
        await gather_limited(table.insert(first, beside=rest) for first, *rest in batches)
    pricing = Pricing(decode_price_book(json.dumps(BOOK).encode()))
    last, statements = FIRST + timedelta(days=30), Statements(table)
    raw = await statements.read(customer, FIRST, last, pricing=pricing)

    rolled_days = 0
    while await Rollups(table).advance(customer, pricing.steps):
        rolled_days += 1
    started = time.perf_counter()
    rolled = await statements.read(customer, FIRST, last, pricing=pricing)
    elapsed_s = time.perf_counter() - started

    assert raw == rolled
    assert DAYS * RECORDS_A_DAY == rolled.totals.answered.calls
    assert DAYS == rolled_days == len([key async for key in table.scan(customer, "r_2", "r_3")])
    assert elapsed_s < 10  # 0.1 s, and 6 s from the records
