"""Jobs of `respond` in whose way something comes: keys, inputs, Storage, leases, gateways' ids and errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest

from local.provider import responses as provider_responses
from local.provider.account import Account
from local.provider.faults import LOST, ResponseFault, RouteFault, error
from shared.clock import now
from shared.contract.respond import RespondInput, decode_respond
from shared.jobs import attempt
from shared.jobs.response_rows import MAX_CANDIDATES
from shared.jobs.status import document_of
from tests.support.fakes import Fault
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


async def test_a_gateways_ids_are_long(app: EventfulApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """And have signs of base64. A job may go on from one."""
    monkeypatch.setattr(provider_responses, "uuid4", lambda: SimpleNamespace(hex=LITELLM_ID))
    customer = app.customer()
    job = await send_response(app, customer)
    await app.deliver()
    await finish(app, [job])
    response_id = app.result(job)["output"]["id"]
    assert ("succeeded", f"resp_{LITELLM_ID}") == (app.result(job)["status"], response_id)
    assert 1 == len(app.accounts[customer].calls("responses.create"))
    following = RespondInput(input="Go on.", previous_response_id=response_id)
    data = json.dumps({"input": following.input, "previous_response_id": following.previous_response_id}).encode()
    assert response_id == decode_respond(data).previous_response_id


async def test_an_error_that_comes_as_an_answer_ends_the_job(app: EventfulApp) -> None:
    """As for any action: in the provider's words, and not bought again."""
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.route("responses.create", error(200, "invalid_value"), None)
    job = await send_response(app, customer)
    await app.deliver()
    assert "request_rejected" == app.result(job)["error"]["code"]
    assert "injected" in app.result(job)["error"]["message"]
    assert 1 == len(account.calls("responses.create"))
    assert [] == app.left_rows(customer)


@pytest.mark.usefixtures("short_storage_waits")
@pytest.mark.parametrize("writes", [1, 2, 3])
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
async def test_a_creation_that_storage_did_not_take_was_not_begun(app: EventfulApp, fault: Fault, writes: int) -> None:
    """Nothing was sent then, so nothing is waited for or on record beside the answer."""
    customer = app.customer()
    job = await send_response(app, customer)
    app.stored.table.faults.extend([*[None] * writes, *[fault] * (len(attempt.STORAGE_WAITS_S) + 1)])
    await app.deliver()
    await finish(app, [job], within_s=600)
    assert "succeeded" == app.result(job)["status"]
    assert ["answered"] == outcomes(app, customer)
    assert 1 == len(app.accounts[customer].calls("responses.create"))


@pytest.mark.usefixtures("short_storage_waits")
@pytest.mark.parametrize("writes", [1, 2, 3])
async def test_a_creation_that_storage_did_not_take_before_the_deadline(app: EventfulApp, writes: int) -> None:
    """The job ends as one that is late, and not by a fault of ours."""
    customer = app.customer()
    takes(app.accounts[customer], 3000)
    job = await send_response(app, customer, options={"deadline_s": 30})
    app.stored.table.faults.extend([*[None] * writes, *[Fault.REFUSED] * (len(attempt.STORAGE_WAITS_S) + 1)])
    await app.deliver()
    await finish(app, [job], within_s=600)
    assert "timeout" == app.result(job)["error"]["code"]


async def test_a_worker_that_lost_its_lease_leaves_the_name_of_what_it_created(app: EventfulApp) -> None:
    """Without any event, the next attempt adopts it."""
    customer = app.customer()
    account = app.accounts[customer]
    takes(account, 100)
    account.faults.route("responses.create", RouteFault("slow", after_s=1))
    job = await send_response(app, customer)
    ((message, _),) = app.stored.queues.sent["jobs"]
    first = asyncio.create_task(app.deliver())
    await asyncio.sleep(0.4)
    assert 1 == len(account.responses)
    table = app.stored.table
    row = table.rows[customer, f"j_{job}"]
    await table.merge(replace(row, values={"lease_until": now() - timedelta(seconds=1)}))
    await app.stored.queues.send("jobs", message)
    second = app._open(Process())
    (taken,) = app._take_due()
    await app._process(taken, second)
    assert "waiting" == app.rows(customer, "j_")[0]["state"]
    await first
    await finish(app, [job])
    assert "succeeded" == app.result(job)["status"]
    assert 1 == len(account.responses)
    assert ["answered"] == outcomes(app, customer)


async def test_events_of_jobs_that_have_just_ended_are_no_candidates(app: EventfulApp) -> None:
    """A creation without an answer has room for ten: these would be all of a busy connection's."""
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.route("responses.create", LOST)
    takes(account, 100)
    lost = await send_response(app, customer, job_id="lost")
    await app.deliver()
    others = [await send_response(app, customer, job_id=f"other-{n}") for n in range(MAX_CANDIDATES)]
    await app.deliver()
    await finish(app, others, step_s=2)
    for other in others:
        await receive(app, customer, app.result(other)["output"]["id"])
    own = next(iter(account.responses))
    await app.pass_time(60)
    await receive(app, customer, own)
    await finish(app, [lost])
    assert own == app.result(lost)["output"]["id"]
    assert ["answered"] * (MAX_CANDIDATES + 1) == outcomes(app, customer)


async def test_what_was_refused_leaves_no_row_behind(app: EventfulApp) -> None:
    """A job may be refused for days."""
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.route("responses.create", error(429, retry_after_s=200), 3)
    job = await send_response(app, customer)
    await app.deliver()
    for _ in range(2):
        await app.pass_time(230)
        assert [] == app.left_rows(customer)
    await finish(app, [job])
    assert "succeeded" == app.result(job)["status"]


async def test_a_job_that_waits_for_its_response_has_no_error(app: EventfulApp) -> None:
    """Its status says that it waits, and until when at the latest."""
    customer = app.customer()
    takes(app.accounts[customer], 3000)
    job = await send_response(app, customer)
    await app.deliver()
    record = await app.worker.services.queries.get(customer, job)
    assert record is not None
    document = document_of(record)
    assert ("waiting", None, True) == (document.status, document.error, document.due_at is not None)


async def test_what_is_adopted_says_how_it_was_adapted(app: EventfulApp) -> None:
    """The chat has become a response, whoever says which."""
    app.listen()
    customer = app.customer()
    app.accounts[customer].faults.route("responses.create", LOST)
    options = {"processing": "background", "deadline_s": 90_000}
    job = await send_response(app, customer, "chat", options=options)
    await app.deliver()
    await finish(app, [job], within_s=40_000, step_s=30)
    assert ["chat/completions became responses"] == app.result(job)["output"]["adapted"]
    assert ["answered"] == outcomes(app, customer)
