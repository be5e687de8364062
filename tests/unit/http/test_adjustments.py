"""Credits, debits and the audit trail over HTTP: the operator's alone, all of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from shared.billing.closed_records import ClosedRecord, ClosedRecords
from shared.contract.closed_month import DocumentId
from shared.contract.price_book import PriceBook
from tests.support.memory_app import MemoryApp, tied
from tests.support.rows import every_row

CREDIT = {"id": "credit-1", "month": "2026-11", "amount": "-12.50", "currency": "USD", "description": "Outage"}
PATHS = ("customers/contoso/adjustments", "customers/contoso/audit")


@pytest.fixture
def app() -> MemoryApp:
    """An app of one test."""
    return MemoryApp()


async def test_an_adjustment_is_listed_with_who_added_it(app: MemoryApp):
    """201 for a new one, 200 for the same again, 409 for its id with other content."""
    added = await app.send("POST", PATHS[0], CREDIT)
    again = await app.send("POST", PATHS[0], CREDIT | {"amount": "-12.5"})
    other = await app.send("POST", PATHS[0], CREDIT | {"amount": "-13"})
    listed = await app.send("GET", PATHS[0])

    assert [(201, CREDIT), (200, CREDIT)] == [
        (each.status, {name: each.json[name] for name in CREDIT}) for each in (added, again)
    ]
    other.assert_problem(409, "conflict", "credit-1")
    assert {"adjustments": [added.json]} == listed.json
    assert ("token", added.json["at"]) == (again.json["by"], again.json["at"])


async def test_a_list_can_be_of_one_month_and_has_pages(app: MemoryApp):
    """A `continuation` that is not from a page, and an invalid month, are refused."""
    for number in range(3):
        for month in ("2026-10", "2026-11"):
            await app.send("POST", PATHS[0], CREDIT | {"id": f"{month}-{number}", "month": month})
    first = await app.send("GET", PATHS[0], query={"month": "2026-11", "limit": "2"})
    second = await app.send(
        "GET", PATHS[0], query={"month": "2026-11", "limit": "2", "continuation": first.json["continuation"]}
    )

    pages = [[each["id"] for each in page.json["adjustments"]] for page in (first, second)]
    assert [["2026-11-0", "2026-11-1"], ["2026-11-2"]] == pages
    assert "continuation" not in second.json
    for query in ({"month": "2026-13"}, {"continuation": "x"}, {"continuation": "2026-11_a/b"}, {"limit": "0"}):
        (await app.send("GET", PATHS[0], query=query)).assert_problem(400, "invalid_request")


@every_row(
    ("members", "error"),
    [
        ({"amount": "0"}, "`amount` must be a decimal string other than 0"),
        ({"amount": "-0.00"}, "`amount` must be a decimal string other than 0"),
        ({"amount": 12.5}, "`amount` must be a string"),
        ({"amount": "1e3"}, "`amount` must be a decimal string below 1,000,000,000"),
        ({"amount": "NaN"}, "`amount` must be a decimal string below 1,000,000,000"),
        ({"amount": "1.123456789"}, "`amount` must be a decimal string below 1,000,000,000"),
        ({"month": "2026-00"}, "`month` must be a month, such as 2026-11."),
        ({"month": "9999-01"}, "`month` is too far ahead"),
        ({"month": "2020-01"}, "`month` must be a later one: nothing is added to 2020-01 any more."),
        ({"currency": "usd"}, "`currency` must be an ISO 4217 code"),
        ({"id": "a/b"}, "`id` must be 1 to 100 letters, digits"),
        ({"description": "a\nb"}, "`description` must be a line of text"),
        ({"note": "x"}, "`note` is not a known member"),
    ],
    ids=str,
)
async def test_an_invalid_adjustment_names_its_member(app: MemoryApp, members: dict[str, Any], error: str):
    """400, and nothing is recorded."""
    (await app.send("POST", PATHS[0], CREDIT | members)).assert_problem(400, "invalid_request", error)

    assert {} == app.table.rows


async def test_the_currency_is_that_of_the_statements(app: MemoryApp):
    """The profile's, or else the price book's: no statement could add up another one."""
    await app.services.price_books.publish(PriceBook(currency="USD"), replaces=None, by="ann")
    refused = await app.send("POST", PATHS[0], CREDIT | {"currency": "EUR"})
    await app.send("PUT", "customers/contoso/profile", {"currency": "EUR"})
    accepted = await app.send("POST", PATHS[0], CREDIT | {"currency": "EUR"})

    refused.assert_problem(400, "invalid_request", "`currency` must be USD")
    assert 201 == accepted.status


async def test_the_currency_of_a_closed_month_stays(app: MemoryApp):
    """What is added to it later becomes part of a correction in its currency, whatever the profile says by then."""
    at = datetime(2026, 12, 1, tzinfo=UTC)
    record = ClosedRecord("contoso", DocumentId("2026-11"), 1, "C-1", at, "USD", "3.00", "0" * 64)
    await ClosedRecords(app.table).insert(record)
    await app.send("PUT", "customers/contoso/profile", {"currency": "EUR"})
    added = [
        await app.send("POST", PATHS[0], CREDIT | {"id": f"{month}-{currency}", "month": month, "currency": currency})
        for month in ("2026-11", "2026-12")
        for currency in ("USD", "EUR")
    ]

    assert [201, 400, 400, 201] == [each.status for each in added]


async def test_what_is_in_another_currency_can_be_taken_back(app: MemoryApp):
    """Step by step, and sent again; else a month whose customer has changed its currency could never be closed."""
    eur, usd = {"currency": "EUR"}, {"currency": "USD"}
    await app.send("PUT", "customers/contoso/profile", usd)
    assert 201 == (await app.send("POST", PATHS[0], CREDIT | usd)).status
    await app.send("PUT", "customers/contoso/profile", eur)

    added = [
        await app.send("POST", PATHS[0], CREDIT | usd | {"id": name, "amount": amount})
        for name, amount in (
            ("more", "-1"),
            ("too-much", "25.01"),
            ("a", "10"),
            ("b", "2.50"),
            ("c", "1"),
            ("credit-1", "-12.50"),
            ("b", "2.5"),
        )
    ]

    assert [400, 400, 201, 201, 400, 200, 200] == [each.status for each in added]


async def test_changes_are_listed_newest_first(app: MemoryApp):
    """Each with who, what, before and after."""
    await app.send("PUT", "customers/contoso/state", {"state": "suspended"})
    await app.send("POST", PATHS[0], CREDIT)
    first = await app.send("GET", PATHS[1], query={"limit": "1"})
    second = await app.send("GET", PATHS[1], query={"continuation": first.json["continuation"]})

    assert ["adjustment credit-1", "state"] == [each.json["entries"][0]["subject"] for each in (first, second)]
    assert {"state": "active"} == second.json["entries"][0]["before"]
    assert CREDIT == first.json["entries"][0]["after"]
    (await app.send("GET", PATHS[1], query={"continuation": "a_1"})).assert_problem(400, "invalid_request")


@pytest.mark.parametrize("customer", ["contoso", "fabrikam"])
async def test_a_tied_caller_gets_and_adds_nothing(app: MemoryApp, customer: str):
    """Whatever its roles, and also for its own customer."""
    await app.send("POST", PATHS[0], CREDIT)
    rows = dict(app.table.rows)
    for path in PATHS:
        (await app.send("GET", path, headers=tied(customer))).assert_problem(403, "forbidden", "operator's alone")
    added = await app.send("POST", PATHS[0], CREDIT | {"id": "mine"}, tied(customer))

    added.assert_problem(403, "forbidden", "operator's alone")
    assert rows == app.table.rows
