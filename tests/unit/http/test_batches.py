"""Batches over HTTP: a customer's, newest first, without what is in them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.support.batch_rows import OPENED, put_batch
from tests.support.memory_app import MemoryApp, tied
from tests.support.principals import token

PATH = "customers/contoso/batches"


@pytest.fixture
def app() -> MemoryApp:
    """An app of one test."""
    return MemoryApp()


async def put(app: MemoryApp, hours: int = 0, customer: str = "contoso", **members: Any) -> str:
    """Put a batch on record that was opened some hours later; return its id."""
    return await put_batch(app.table, customer, OPENED + timedelta(hours=hours), **members)


async def test_a_batch_has_its_state_and_the_providers(app: MemoryApp):
    """What is not known yet is missing; one that is done is not looked at any more, and is not late."""
    batch_id = await put(
        app,
        state="waiting",
        lines=12,
        provider_id="batch_1",
        provider_status="in_progress",
        error_code="token_limit_exceeded",
        error="Enqueued token limit reached.",
    )
    (batch,) = (await app.send("GET", PATH)).json["batches"]
    assert {
        "customer": "contoso",
        "batch": batch_id,
        "state": "waiting",
        "connection": "default",
        "model": "gpt-5.5",
        "operation": "chat/completions",
        "lines": 12,
        "answered": 0,
        "failed": 0,
        "opened_at": "2026-11-20T13:00:00.000Z",
        "deadline": "2026-11-21T14:00:00.000Z",
        "cancel_at": "2026-11-21T13:40:00.000Z",
        "due_at": "2026-11-20T13:00:00.000Z",
        "late": True,
        "provider_id": "batch_1",
        "provider_status": "in_progress",
        "error": "token_limit_exceeded: Enqueued token limit reached.",
    } == batch

    await put(app, 1, state="done", lines=3, answered=2, failed=1)
    done = (await app.send("GET", PATH)).json["batches"][0]
    assert ("done", 2, 1) == tuple(done[name] for name in ("state", "answered", "failed"))
    assert set() == {"due_at", "late", "provider_id", "error"} & done.keys()


async def test_batches_have_pages_newest_first(app: MemoryApp):
    """A batch that is opened meanwhile moves nothing; another customer's are not among them."""
    ids = [await put(app, hours) for hours in range(5)]
    await put(app, customer="fabrikam")
    pages, query = [], {"limit": "2"}
    while True:
        page = (await app.send("GET", PATH, query=query)).json
        pages.append([each["batch"] for each in page["batches"]])
        if "continuation" not in page:
            break
        query["continuation"] = page["continuation"]
        await put(app, 9)
    assert [[ids[4], ids[3]], [ids[2], ids[1]], [ids[0]]] == pages
    assert {"batches": []} == (await app.send("GET", "customers/nobody/batches")).json
    (await app.send("GET", PATH, query={"continuation": "b_1"})).assert_problem(400, "invalid_request")


async def test_who_may_read_them(app: MemoryApp):
    """As a list of jobs: the role Jobs.Read, and a caller that is tied to a customer gets its own."""
    batch_id = await put(app)
    own = await app.send("GET", PATH, headers=tied())
    assert [batch_id] == [each["batch"] for each in own.json["batches"]]
    (await app.send("GET", PATH, headers=tied("fabrikam"))).assert_problem(404, "not_found")
    (await app.send("GET", PATH, headers=token("Billing.Read", "Customers.All"))).assert_problem(403, "forbidden")
