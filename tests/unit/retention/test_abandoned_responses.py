"""What the sweep records of a response that is made in the background for a job that never ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from local.provider.faults import LOST, ResponseFault, error
from shared.billing.customer_records import CustomerRecords
from shared.clock import now
from shared.jobs import batch_context
from shared.retention.abandoned_jobs import AbandonedJobs
from shared.storage.base import Row
from tests.support.cheapest_runs import without_flex
from tests.support.patient_budgets import monthly, total
from tests.support.response_jobs import EventfulApp, eventful_app, send_response
from tests.support.worker_crashes import Process


@pytest.fixture
async def app(client, monkeypatch) -> AsyncIterator[EventfulApp]:
    """An app that gets no events."""
    async with eventful_app(client, monkeypatch, Process()) as app:
        yield app


async def settled(app: EventfulApp, customer: str) -> list[dict[str, object]]:
    """Let a sweep settle the job twice; return its usage records."""
    for _ in range(2):
        row = app.stored.table.rows[customer, "j_job-1"]
        assert await AbandonedJobs(app.stored.table).settle(row)
    return app.rows(customer, "u_")


@pytest.mark.parametrize("action", ["respond", "chat"])
@pytest.mark.parametrize("is_named", [True, False])
async def test_a_response_that_is_never_read_is_on_record(app: EventfulApp, action: str, *, is_named: bool) -> None:
    """Once, as its job would have recorded it: whether the provider has said which it is, or not."""
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.responses.add(ResponseFault("completed", in_progress_s=80_000))
    if not is_named:
        account.faults.route("responses.create", LOST)
    options = {"processing": "background", "deadline_s": 90_000}
    await send_response(app, customer, action, options=options)
    await app.deliver()
    (record,) = await settled(app, customer)
    expected = {"outcome": "unanswered", "action": action, "model": "gpt-6-luna", "connection": "default"}
    assert {name: record.get(name) for name in expected} == expected


@pytest.mark.parametrize("processing", ["background", "cheapest"])
async def test_a_worker_that_died_looking_at_it_has_bought_nothing(
    app: EventfulApp, monkeypatch, processing: str
) -> None:
    """What its chat has bought is the response."""
    monkeypatch.setattr(batch_context, "MIN_BATCH_S", 1e9)
    customer = app.customer()
    without_flex(app.accounts[customer])
    app.accounts[customer].faults.responses.add(ResponseFault("completed", in_progress_s=80_000))
    await send_response(app, customer, "chat", options={"processing": processing, "deadline_s": 90_000})
    await app.deliver()
    values = {"state": "running", "lease_until": now() - timedelta(days=1)}
    row = app.stored.table.rows[customer, "j_job-1"]
    await app.stored.table.merge(Row(customer, row.key, values, row.etag))
    (record,) = await settled(app, customer)
    assert ("unanswered", "chat") == (record["outcome"], record["action"])


async def test_what_was_reserved_for_it_is_spent(app: EventfulApp) -> None:
    """Nothing measures it."""
    customer = app.customer()
    change = CustomerRecords(app.stored.table).change
    await change(
        customer, lambda record: record.with_budgets({"main": monthly("1000000")}), by="ann", subject="budgets"
    )
    app.accounts[customer].faults.responses.add(ResponseFault("completed", in_progress_s=80_000))
    await send_response(app, customer, options={"deadline_s": 90_000})
    await app.deliver()
    spent, reserved = total(app.stored.table, customer, "main")
    assert (spent, reserved > 0) == (0, True)
    assert len(await settled(app, customer)) == 1
    assert total(app.stored.table, customer, "main") == (reserved, 0)


async def test_what_was_refused_is_not_on_record(app: EventfulApp) -> None:
    """It does not exist; its job waited to try again."""
    customer = app.customer()
    app.accounts[customer].faults.route("responses.create", error(429, retry_after_s=300), None)
    await send_response(app, customer, options={"deadline_s": 90_000})
    await app.deliver()
    assert app.rows(customer, "j_")[0]["state"] == "waiting"
    assert await settled(app, customer) == []
