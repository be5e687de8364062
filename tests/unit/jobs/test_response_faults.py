"""Jobs of `respond` in whose way something comes: keys, inputs, Storage, leases, gateways' ids and errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from local.provider.account import Account
from local.provider.faults import ResponseFault
from tests.support.response_jobs import EventfulApp, eventful_app, finish, send_response
from tests.support.worker_crashes import Process

LITELLM_ID = "bGl0ZWxsbTpjdXN0b21fbGxtX3Byb3ZpZGVyOm9wZW5haTttb2RlbF9pZDo" + "x" * 180 + "=="


@pytest.fixture
async def app(client, monkeypatch) -> AsyncIterator[EventfulApp]:
    """An app that gets no events."""
    async with eventful_app(client, monkeypatch, Process()) as app:
        yield app


def takes(account: Account, seconds: float) -> None:
    """Have the next response take so long."""
    account.faults.responses.add(ResponseFault("completed", queued_s=1, in_progress_s=seconds))


def outcomes(app: EventfulApp, customer: str) -> list[str]:
    """The outcomes of the usage records."""
    return sorted(row["outcome"] for row in app.rows(customer, "u_"))


async def receive(app: EventfulApp, customer: str, response_id: str) -> None:
    """Have the provider's event that a response has ended come to the app."""
    body = json.dumps({"type": "response.completed", "data": {"id": response_id}}).encode()
    await app.worker.services.provider_events.receive(customer, "default", body)


async def test_a_key_that_is_rotated_before_the_last_look_costs_no_answer(app: EventfulApp) -> None:
    """The worker still has the old one in memory."""
    customer = app.customer()
    account = app.accounts[customer]
    takes(account, 250)
    job = await send_response(app, customer, options={"deadline_s": 300})
    await app.deliver()
    await app.pass_time(200)
    app.held.add("batches")  # the poll would learn of it before
    account.key = "key-rotated"
    app.provider.accounts = {"key-rotated": account}
    app.connect(customer, account)
    await finish(app, [job], step_s=1)
    assert "succeeded" == app.result(job)["status"]
    assert ["answered"] == outcomes(app, customer)


@pytest.mark.parametrize(("seconds", "status"), [(100, "succeeded"), (3000, "failed")])
async def test_an_input_that_can_not_be_read_costs_no_answer(app: EventfulApp, seconds: float, status: str) -> None:
    """It is not needed any more: the last look is in time, and cancels what has not ended."""
    customer = app.customer()
    account = app.accounts[customer]
    takes(account, seconds)
    text = "x" * 60_000  # the job's next message has it in a blob
    job = await send_response(app, customer, input={"input": text}, options={"deadline_s": 300})
    await app.deliver()
    app.stored.blobs.down = True
    app.held.add("batches")
    await finish(app, [job], step_s=1)
    assert status == app.result(job)["status"]
    assert {"succeeded": "completed", "failed": "cancelled"}[status] == next(iter(account.responses.values())).status
    assert ["answered" if status == "succeeded" else "unanswered"] == outcomes(app, customer)
