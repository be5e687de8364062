"""What all customers used over HTTP: lines, pages, and what a customer sees."""

from __future__ import annotations

import csv
import io
import itertools
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.billing.customer_pricing import CustomerPricing
from shared.billing.customer_records import CustomerRecords
from shared.billing.price_books import PriceBooks
from shared.billing.statements import Statements
from shared.billing.usage import UNANSWERED, Call
from shared.billing.usage_records import RecordLabels, usage_rows
from shared.contract.customer import CustomerProfile
from shared.contract.price_book import decode_price_book
from shared.contract.result import ConnectionLabel
from shared.contract.usage import Usage
from shared.http.auth import Caller
from shared.http.messages import Request, Response
from shared.http.usage import OVERVIEW_S, UsageResource
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import MemoryTable

AT = datetime(2026, 11, 14, 12, tzinfo=UTC)
LABEL = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")
BOOK = {
    "currency": "USD",
    "prices": [{"provider": "openai", "model": "m", "input": "2"}],
    "markups": [{"percent": "50"}],
    "rates": [{"from": "USD", "to": "EUR", "rate": "0.5"}, {"from": "JPY", "to": "USD", "rate": "0.01"}],
}
CALL = Call(Usage(calls=1, input_tokens=1_000_000))


async def resource_of(*customers: str) -> UsageResource:
    """Return the routes over a table in which each customer has a call and one that was cut short."""
    table = MemoryTable()
    for customer in customers:
        labels = RecordLabels(customer, "a", "chat", "m", LABEL)
        for row in usage_rows(labels, [CALL, UNANSWERED], AT):
            await table.insert(row)
    books = PriceBooks(table, MemoryBlobs(), "statements")
    await books.publish(decode_price_book(json.dumps(BOOK).encode()), replaces=None, by="test")
    return UsageResource(table, Statements(table), CustomerPricing(books, CustomerRecords(table)))


async def read(resource: UsageResource, caller: Caller | None = None, accept: str = "", **query: str) -> Response:
    """Return the response for November, unless the query says otherwise."""
    request = Request("GET", "", query={"month": "2026-11"} | query, headers={"accept": accept})
    return await resource.read_all(request, caller or Caller())


async def page(resource: UsageResource, caller: Caller | None = None, **query: str) -> dict[str, Any]:
    """Return the document."""
    document: dict[str, Any] = msgspec.json.decode((await read(resource, caller, **query)).body)
    return document


async def test_each_customer_has_the_total_of_its_answered_calls():
    """A line has the amounts of the statement's total; the app's own partitions and idle customers have none."""
    document = await page(await resource_of("a", "b"))

    assert ("2026-11", "2026-11-01", "2026-11-30") == (document["month"], document["from"], document["to"])
    assert ["a", "b"] == [line["customer"] for line in document["lines"]]
    expected = {"records": 1, "calls": 1, "lost": 0, "unanswered": 1, "amount": "3.00", "list_amount": "2.00"}
    assert expected == {name: document["lines"][0][name] for name in expected}
    assert [] == (await page(await resource_of("a"), month="2026-10"))["lines"]


async def test_pages_have_all_customers_once():
    """Each page names the next, in JSON by its `continuation` and in CSV by `Link`."""
    resource = await resource_of("a", "b", "c")
    first, file = await page(resource, limit="2"), await read(resource, accept="text/csv", limit="2")
    second = await page(resource, limit="2", continuation=first["continuation"])

    assert ["a", "b", "c"] == [line["customer"] for line in (*first["lines"], *second["lines"])]
    assert ("b", None) == (first["continuation"], second.get("continuation"))
    assert '<?month=2026-11&limit=2&continuation=b>; rel="next"' == file.headers["Link"]
    assert 'attachment; filename="usage-2026-11.csv"' == file.headers["Content-Disposition"]
    assert ["a", "b"] == [line["customer"] for line in csv.DictReader(io.StringIO(file.body.decode()))]


async def test_a_tied_caller_sees_its_own_line_without_list_prices():
    """Neither other customers, nor what a call costs before markup."""
    caller = Caller(frozenset({"Billing.Read"}), "b")
    resource = await resource_of("a", "b", "c")
    document = await page(resource, caller)
    file = (await read(resource, caller, accept="text/csv")).body.decode()

    assert [("b", "3.00", None)] == [
        (line["customer"], line["amount"], line.get("list_amount")) for line in document["lines"]
    ]
    assert [("b", "3.00", "")] == [
        (line["customer"], line["amount"], line["list_amount"]) for line in csv.DictReader(io.StringIO(file))
    ]


async def test_each_customer_has_its_own_currency():
    """A profile's currency is that of the customer's line, at the rate of each record's day; else it is the book's."""
    resource = await resource_of("a", "b", "c")
    for customer, currency in (("b", "EUR"), ("c", "JPY")):
        profile = CustomerProfile(currency=currency)
        await resource.pricing.records.change(
            customer, lambda record, profile=profile: record.with_profile(profile), by="test", subject="profile"
        )

    lines = (await page(resource))["lines"]

    assert [("3.00", "USD", 0), ("1.50", "EUR", 0), (None, "JPY", 1)] == [
        (line.get("amount"), line["currency"], line["unpriced"]) for line in lines
    ]


async def test_a_page_ends_before_the_gateway_stops_waiting():
    """What takes too long is left to the next page; each has at least one customer, and all have every customer."""
    names = [f"c{number:03}" for number in range(40)]
    seconds = itertools.count(step=OVERVIEW_S)
    resource = replace(await resource_of(*names), clock=lambda: float(next(seconds)))
    lines: list[str] = []
    query: dict[str, str] = {}
    pages = 0
    while True:
        document = await page(resource, **query)
        pages += 1
        lines += [line["customer"] for line in document["lines"]]
        if "continuation" not in document:
            break
        query = {"continuation": document["continuation"]}

    assert names == lines
    assert 1 < pages <= len(names)
