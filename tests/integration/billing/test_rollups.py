"""Rollups on the real SDK: hundreds of records in a table of Azurite."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from shared.billing.pricing import Pricing
from shared.billing.rollups import Rollups
from shared.billing.statements import Statements
from shared.billing.usage import Call
from shared.billing.usage_records import RecordLabels, usage_rows
from shared.contract.price_book import decode_price_book
from shared.contract.result import ConnectionLabel
from shared.contract.usage import Usage
from shared.storage import tables
from shared.storage.base import MAX_TRANSACTION_ROWS, Row, RowPage, Table
from shared.storage.bulk import gather_limited
from tests.support.harness import Harness

FIRST = date(2026, 10, 1)
DAYS = 3
RECORDS_A_DAY = 400
PAGE = RECORDS_A_DAY // 2
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


class CountedPages:
    """A table that counts the rows of its pages."""

    def __init__(self, table: Table) -> None:
        self._table, self._rows = table, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    async def page(self, *arguments: Any, **options: Any) -> RowPage:
        """See `Table`."""
        page = await self._table.page(*arguments, **options)
        self._rows += len(page.rows)
        return page

    def take_rows(self) -> int:
        """Return how many rows were read since the last time."""
        rows, self._rows = self._rows, 0
        return rows


@pytest.mark.long
async def test_days_of_several_pages_are_read_from_their_rollups(harness: Harness, monkeypatch: pytest.MonkeyPatch):
    """The statement from rollups is that of the records, and a row a day is read for it in the place of hundreds."""
    monkeypatch.setattr(tables, "_PAGE", PAGE)
    table, customer = CountedPages(harness.services.table), harness.customer().name
    for number in range(DAYS):
        rows = records(customer, FIRST + timedelta(days=number))
        batches = [rows[start : start + MAX_TRANSACTION_ROWS] for start in range(0, len(rows), MAX_TRANSACTION_ROWS)]
        await gather_limited(table.insert(first, beside=rest) for first, *rest in batches)
    pricing = Pricing(decode_price_book(json.dumps(BOOK).encode()))
    last, statements = FIRST + timedelta(days=30), Statements(table)
    raw = await statements.read(customer, FIRST, last, pricing=pricing)
    raw_rows = table.take_rows()

    rolled_days = 0
    while await Rollups(table).advance(customer, pricing.steps):
        rolled_days += 1
    table.take_rows()
    rolled = await statements.read(customer, FIRST, last, pricing=pricing)
    rolled_rows = table.take_rows()

    assert raw == rolled
    assert DAYS * RECORDS_A_DAY == rolled.totals.answered.calls <= raw_rows
    assert DAYS == rolled_days == rolled_rows == len([key async for key in table.scan(customer, "r_2", "r_3")])
