"""The samples of docs/bill.md: its statement is a real one, in the prices of the price book of docs/prices.md."""

from __future__ import annotations

import calendar
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest_asyncio

from shared.contract.price_book import decode_price_book
from tests.support.doc_samples import blocks
from tests.support.endpoint import completion
from tests.support.harness import Harness, with_own_table
from tests.support.http_client import send

PAGE = "docs/bill.md"


@pytest_asyncio.fixture
async def own_table(harness: Harness) -> AsyncIterator[Harness]:
    """The app with prices of its own."""
    async with with_own_table(harness) as opened:
        yield opened


async def test_statement_is_as_shown(own_table: Harness):
    """Three calls and one that was cut short have the page's statement, in JSON and in CSV."""
    harness = own_table  # other tests' results have no cost: this one publishes prices
    customer = harness.customer()
    for _ in range(3):
        await customer.run()
    customer.account.will_answer(completion(after_s=30))
    await customer.run(options={"timeout_s": 1.5, "max_retries": 0})
    (price_book,) = blocks("docs/prices.md", "json")
    await harness.services.price_books.publish(decode_price_book(price_book.encode()), replaces=None, by="test")
    today = datetime.now(UTC)
    month, last = f"{today:%Y-%m}", calendar.monthrange(today.year, today.month)[1]
    json_request, json_response, csv_request = blocks(PAGE, "http")
    (csv_body,) = blocks(PAGE, "csv")

    for request, shown in ((json_request, json_response.partition("\n\n")[2]), (csv_request, csv_body)):
        first_line, accept = request.strip().splitlines()
        path, _, query = first_line.split()[1].removeprefix("/api/").replace("2026-11", month).partition("?")
        response = await send(
            harness,
            "GET",
            path.replace("contoso", customer.name),
            query=dict(pair.split("=") for pair in query.split("&")),
            headers=dict([accept.lower().split(": ")]),
        )
        body = (
            response.body.decode()
            .replace(f"{month}-{last}", "2026-11-30")
            .replace(month, "2026-11")
            .replace(customer.name, "contoso")
        )
        if response.media_type == "application/json":
            assert json.loads(shown) == json.loads(body)
        else:
            assert shown == body.replace("\r\n", "\n")
