"""
A caller that is tied to a customer sees no list amount, markup, price or price book on any route that reads, and
changes nothing that is the operator's on any route that writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.billing.closed_records import blob_name
from shared.billing.price_books import PriceBooks
from shared.billing.price_books import blob_name as book_name
from shared.clock import now
from shared.contract.closed_month import DocumentId
from shared.contract.customer import CustomerProfile
from shared.contract.price_book import Markup, Price, PriceBook
from shared.http.routes import ROUTES, Route
from shared.jobs.message import Delivery
from tests.support.closable import CORRECTION, DOCUMENT, JOB_ID, MONTH, add_credit, add_usage, put_profile
from tests.support.memory_app import OPERATOR, MemoryApp, tied
from tests.support.rows import every_row

WAITING = DocumentId(MONTH, 2)
"""A correction whose job waits, since the price book is gone."""
UNPRICED = DocumentId(f"{date.fromisoformat(f'{MONTH}-15') - timedelta(days=30):%Y-%m}")
"""A month that is not closed, since a call has no price."""
PARAMETERS = {
    "customer": ["contoso"],
    "job_id": [JOB_ID, f"{JOB_ID}-1", f"statement-{WAITING}", f"statement-{UNPRICED}"],
    "statement": [MONTH, f"{MONTH}-1"],
    "name": ["default"],
}
QUERIES: list[dict[str, str]] = [
    {},
    {"month": MONTH},
    {"month": MONTH, "by": "model"},
    {"from": f"{MONTH}-01", "to": f"{MONTH}-20"},
    {"internal": "true"},
]
ACCEPTS = ("application/json", "text/csv", "text/html", "*/*")
WRITES = [route for route in ROUTES if route.method != "GET" and route.role is not None]
BODIES: list[dict[str, Any]] = [
    {},
    {"legal_name": "Mine", "bill_outcomes": ["lost"], "external_ids": {"stripe": "cus_mine"}},
    {"state": "suspended"},
    {"id": "mine", "month": MONTH, "amount": "-100", "currency": "USD", "description": "Mine"},
    {"limit": "1000000", "unit": "USD", "period": "month"},
    {"limit": "1", "unit": "USD", "period": "month", "enforce": "soft"},
    {"limit": "1", "unit": "USD", "period": "month", "owner": "operator"},
    *(
        {"customer": "contoso", "action": "statement", "job_id": job_id, "input": {"month": MONTH}}
        for job_id in ("mine", JOB_ID, f"{JOB_ID}-3")
    ),
    {"customer": "contoso", "action": "chat", "job_id": JOB_ID, "input": {"prompt": "Hello?"}},
]
READS = [route for route in ROUTES if route.method == "GET" and route.role is not None]


@dataclass
class Office:
    """An app with a closed and a corrected month, and what nobody but the operator sees."""

    app: MemoryApp
    hidden: list[bytes]

    async def run(self, document: DocumentId, *, allow_unpriced: bool = True) -> None:
        """Run the job that closes a month."""
        assert "queued" == await self.app.services.statement_jobs.submit(
            "contoso", document, allow_unpriced=allow_unpriced
        )
        ((body, _),) = self.app.memory.queues.sent.pop("jobs")
        await self.app.services.worker.process(Delivery(body, "message", now()))

    async def status(self, document: DocumentId) -> str:
        """Return the status of that job."""
        response = await self.app.send("GET", f"jobs/contoso/statement-{document}")
        return str(response.json["status"])

    def operators(self) -> dict[Any, Any]:
        """Return all rows and files that no customer may change."""
        rows = {
            key: row.values
            for key, row in self.app.table.rows.items()
            if key[0].startswith("~prices") or key[1].startswith(("customer", "d_", "n_", "x_", "j_statement"))
        }
        return rows | self.app.memory.blobs.blobs

    async def shown(self, route: Route, headers: dict[str, str]) -> set[bytes]:
        """Return what is hidden and is in one of the route's responses."""
        responses = [
            await self.app.send("GET", path, headers=headers | {"accept": accept}, query=query)
            for path in paths_of(route)
            for accept in ACCEPTS
            for query in QUERIES
        ]
        texts = [response.body + str(response.headers).encode() for response in responses]
        return {word for word in self.hidden for text in texts if word in text}


def paths_of(route: Route) -> list[str]:
    """Return the route's path with each of PARAMETERS."""
    paths = [route.path]
    for name, values in PARAMETERS.items():
        paths = [path.replace(f"{{{name}}}", value) for path in paths for value in values]
    assert "{" not in "".join(paths), f"{route.name} has a parameter that PARAMETERS does not have"
    return list(dict.fromkeys(paths))


@pytest.fixture
async def office() -> Office:
    """Jobs have closed, corrected and not closed a month, and one waits; the price book is gone in the end."""
    app = MemoryApp()
    blobs = app.memory.blobs.blobs
    prices = [Price(provider="openai", model="gpt-5.5", input=Decimal("7.654321"), source="a contract")]
    markups = [Markup(percent=Decimal("13.37"), per_job=Decimal("0.4711"))]
    books = PriceBooks(app.table, app.memory.blobs, "statements")
    published = await books.publish(PriceBook(currency="USD", prices=prices, markups=markups), replaces=None, by="ann")
    await put_profile(
        app.table,
        "contoso",
        CustomerProfile(external_ids={"stripe": "cus_1234"}, bill_outcomes=("answered", "unanswered")),
    )
    await add_usage(app.table, "contoso")
    await add_usage(app.table, "contoso", model="gpt-new", job="b")
    await add_usage(app.table, "contoso", model="gpt-new", job="c", month=f"{UNPRICED}")
    budget = {"limit": "100", "unit": "USD", "period": "month"}
    assert (await app.send("PUT", "customers/contoso/budgets/default", budget)).status < 300
    office = Office(app, [])
    await office.run(DOCUMENT)
    await add_credit(app.table, "contoso")
    await office.run(CORRECTION)
    await office.run(UNPRICED, allow_unpriced=False)
    assert "failed" == await office.status(UNPRICED)
    book = blobs.pop(("statements", book_name(published.sha256)))
    await office.run(WAITING)
    blobs["statements", book_name(published.sha256)] = book
    assert "waiting" == await office.status(WAITING)
    app.memory.queues.sent.clear()
    internal = blobs["statements", blob_name("contoso", DOCUMENT, "internal")][0]
    texts = ("7.654321", "13.37", "0.4711", "a contract", "cus_1234", "no price holds", '"unanswered"]', '"internal":')
    office.hidden = [text.encode() for text in (*texts, published.sha256[:8])]
    assert b"7.654321" in internal
    return office


async def test_the_operator_sees_all_of_it(office: Office):
    """On one route or another, so that the words are those to look for."""
    shown = [await office.shown(route, OPERATOR) for route in READS]

    assert {*office.hidden} == set().union(*shown)


@every_row("route", READS, ids=lambda route: route.name)
async def test_a_tied_caller_sees_none_of_it(office: Office, route: Route):
    """Neither in a statement nor in a document, a list, a job's result, a job that waits, or an error."""
    assert set() == await office.shown(route, tied())


@every_row("route", WRITES, ids=lambda route: route.name)
@every_row("customer", ["contoso", "fabrikam"])
async def test_a_tied_caller_changes_none_of_it(office: Office, route: Route, customer: str):
    """Whatever it sends, for its own customer or another's: no profile, state, credit, number, document or budget."""
    before = office.operators()
    for path in paths_of(route):
        for body in BODIES:
            response = await office.app.send(route.method, path, body, headers=tied(customer))
            assert response.status >= 400, (path, body)

    assert before == office.operators()
    assert {} == office.app.memory.queues.sent
