"""Closed months over HTTP: the very bytes that were written, for those whom they are for."""

from __future__ import annotations

import hashlib

import pytest

from shared.billing.closed_records import blob_name
from shared.contract.closed_month import DocumentId
from shared.contract.customer import CustomerProfile
from tests.support.closable import (
    CORRECTION,
    DOCUMENT,
    JOB_ID,
    MONTH,
    add_credit,
    add_usage,
    publish_prices,
    put_profile,
)
from tests.support.http_client import HttpResponse
from tests.support.memory_app import OPERATOR, MemoryApp, tied
from tests.support.rows import every_row

LIST = "customers/contoso/statements"
ONE = f"{LIST}/{MONTH}"
HIDDEN = ("list_amount", "markup", "price_book", "invoice_prefix", "bill_outcomes", '"reason"')


@pytest.fixture
async def app() -> MemoryApp:
    """An app in which contoso's last month is closed and corrected, and fabrikam's is closed."""
    app = MemoryApp()
    await publish_prices(app.table, app.memory.blobs)
    await put_profile(app.table, "contoso", CustomerProfile(legal_name="Contoso <Ltd>"))
    for customer in ("contoso", "fabrikam"):
        await add_usage(app.table, customer)
        await app.services.closing.close(customer, DOCUMENT)
    await add_credit(app.table, "contoso")
    await app.services.closing.close("contoso", CORRECTION)
    return app


def file(app: MemoryApp, name: str, customer: str = "contoso") -> bytes:
    """Return a file as it was written."""
    return app.memory.blobs.blobs["statements", blob_name(customer, DOCUMENT, name)][0]


async def test_all_documents_are_listed(app: MemoryApp):
    """Corrections after what they correct, each with its number, total, hashes and link; the operator sees its own."""
    listed = await app.send("GET", LIST)
    own = await app.send("GET", LIST, headers=tied())
    none = await app.send("GET", "customers/nobody/statements")

    entries = listed.json["statements"]
    assert [(MONTH, None, "contoso-0001", "3.00"), (MONTH, 1, "contoso-0002", "-1.00")] == [
        (each["month"], each.get("correction"), each["number"], each["total"]) for each in entries
    ]
    assert {"json", "csv", "html", "internal"} == set(entries[0]["files"])
    assert {"json", "csv", "html"} == set(own.json["statements"][0]["files"])
    assert hashlib.sha256(file(app, "csv")).hexdigest() == entries[0]["files"]["csv"]["sha256"]
    for each in entries:
        path = each["links"]["self"].removeprefix("/api/")
        assert each["number"] == (await app.send("GET", path)).json["number"]
    assert {"statements": []} == none.json


@every_row(
    ("accept", "name", "media_type"),
    [
        ("", "json", "application/json"),
        ("*/*", "json", "application/json"),
        ("application/json", "json", "application/json"),
        ("text/csv", "csv", "text/csv; charset=utf-8; header=present"),
        ("text/csv, application/json;q=0.5", "csv", "text/csv; charset=utf-8; header=present"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "html", "text/html; charset=utf-8"),
    ],
)
@every_row("is_tied", [False, True])
async def test_a_document_is_sent_as_it_was_written(
    app: MemoryApp, accept: str, name: str, media_type: str, is_tied: bool
):
    """In the form that the caller prefers, with a strong tag; 304 if the caller has it."""
    headers = (tied() if is_tied else OPERATOR) | {"accept": accept}

    response = await app.send("GET", ONE, headers=headers)
    again = await app.send("GET", ONE, headers=headers | {"if-none-match": response.headers["ETag"]})

    assert (200, file(app, name), media_type) == (response.status, response.body, response.media_type)
    assert ("Accept", True) == (response.headers["Vary"], response.headers["ETag"].startswith('"'))
    assert f'filename="statement-contoso-{MONTH}.{name}"' in response.headers["Content-Disposition"]
    assert ("Content-Security-Policy" in response.headers) == (name == "html")
    assert (304, b"") == (again.status, again.body)
    assert not [word for word in HIDDEN if word.encode() in response.body]


async def test_the_operators_file_is_the_operators(app: MemoryApp):
    """It has list prices and the price book's hash, and its own name. A caller tied to the customer is refused."""
    internal = await app.send("GET", ONE, query={"internal": "true"})
    refused = await app.send("GET", ONE, query={"internal": "true"}, headers=tied())
    wrong = await app.send("GET", ONE, query={"internal": "1"})

    assert (200, file(app, "internal")) == (internal.status, internal.body)
    assert f'filename="statement-contoso-{MONTH}.internal.json"' in internal.headers["Content-Disposition"]
    assert {"price_book", "markups", "bill_outcomes"} <= set(internal.json)
    refused.assert_problem(403, "forbidden", "operator")
    wrong.assert_problem(400, "invalid_request", "`internal` must be true or false.")


async def test_no_other_customers_document_is_shown(app: MemoryApp):
    """It responds as for a missing file, like a month that is not closed, and like an invalid month."""
    other = [await app.send("GET", f"customers/fabrikam/statements{end}", headers=tied()) for end in ("", f"/{MONTH}")]
    missing = [
        await app.send("GET", f"{LIST}/{name}") for name in ("2020-01", f"{MONTH}-2", "prices", "..", f"{MONTH}.json")
    ]
    nobody = await app.send("GET", "customers/No/statements")

    for response in (*other, *missing, nobody):
        response.assert_problem(404, "not_found")


@pytest.mark.parametrize(
    ("accept", "query"), [("image/png", {}), ("text/plain", {}), ("text/html", {"internal": "true"})]
)
async def test_no_other_form_is_sent(app: MemoryApp, accept: str, query: dict[str, str]):
    """406 names those that there are."""
    headers = OPERATOR | {"accept": accept}

    (await app.send("GET", ONE, headers=headers, query=query)).assert_problem(406, "not_acceptable", "application/json")


async def test_a_file_that_was_changed_is_no_document(app: MemoryApp):
    """503, and none of its bytes."""
    app.memory.blobs.blobs["statements", blob_name("contoso", DOCUMENT, "json")] = (b'{"total": "0.00"}', "")

    response: HttpResponse = await app.send("GET", ONE)

    response.assert_problem(503, "unavailable")
    assert b"0.00" not in response.body


@pytest.mark.parametrize("is_tied", [False, True])
async def test_a_job_that_closes_a_month_is_not_cancelled_over_http(app: MemoryApp, is_tied: bool):
    """A customer can't put off its bill; the job stays as it is."""
    assert "queued" == await app.services.statement_jobs.submit("contoso", DocumentId("2020-01"))
    headers = tied() if is_tied else OPERATOR

    response = await app.send("DELETE", "jobs/contoso/statement-2020-01", headers=headers)

    response.assert_problem(409, "conflict", "closes a month")
    assert "queued" == app.table.rows["contoso", "j_statement-2020-01"].values["state"]


@every_row("is_tied", [False, True])
@every_row(
    "members",
    [
        {"action": "statement", "input": {"month": MONTH}},
        {"action": "statement", "job_id": JOB_ID, "input": {"month": MONTH}},
        {"action": "chat", "job_id": JOB_ID, "input": {"prompt": "Hello?"}},
        {"action": "chat", "job_id": "statements", "input": {"prompt": "Hello?"}},
        {"action": "chat", "input_blob": f"statements/contoso/{MONTH}.json"},
        {"action": "summarize", "input": {"blob": f"statements/contoso/{MONTH}.json"}},
    ],
)
async def test_nobody_closes_or_reads_a_month_by_a_job(app: MemoryApp, members: dict[str, object], is_tied: bool):
    """Over HTTP such a job is refused, and nothing is queued or written."""
    rows, blobs = dict(app.table.rows), dict(app.memory.blobs.blobs)
    headers = tied() if is_tied else OPERATOR

    response = await app.send("POST", "jobs", {"customer": "contoso", **members}, headers=headers)

    response.assert_problem(400, "invalid_job")
    assert (rows, blobs, {}) == (app.table.rows, app.memory.blobs.blobs, app.memory.queues.sent)


@pytest.mark.parametrize("is_tied", [False, True])
async def test_an_open_statement_is_a_page_too(app: MemoryApp, is_tied: bool):
    """With the same policy. It says that it is not closed, and shows nobody a list price."""
    headers = (tied() if is_tied else OPERATOR) | {"accept": "text/html,application/xml;q=0.9,*/*;q=0.8"}

    response = await app.send("GET", "customers/contoso/usage", headers=headers, query={"month": MONTH})
    everybody = await app.send("GET", "usage", headers=headers | {"accept": "text/html"})

    assert (200, "text/html; charset=utf-8") == (response.status, response.media_type)
    assert (await app.send("GET", ONE, headers=headers)).headers["Content-Security-Policy"] == response.headers[
        "Content-Security-Policy"
    ]
    assert b"Not closed" in response.body
    assert b"3.00 USD" in response.body
    everybody.assert_problem(406, "not_acceptable")
