"""Responses of a customer that is erased: they are cancelled at the provider, and so are the jobs that wait."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from local.provider.faults import LOST, ResponseFault, error
from shared.batches import response_erasure
from shared.batches.response_erasure import ResponseErasure, cancel_responses
from shared.jobs import batch_context
from shared.jobs.response_rows import creation_row
from shared.jobs.schedule_entries import POLLS
from shared.retention.customer_data import CustomerData
from tests.support.response_jobs import EventfulApp, eventful_app, send_response
from tests.support.sampled import Sampled
from tests.support.worker_crashes import Process

HOUR = 3600.0


@dataclass
class Erasing(Process):
    """A process beside which a customer's rows are erased, right before its operation `erases_at`."""

    erases_at: int = 0
    app: Any = None
    customer: str = ""

    def begin(self, name: str) -> bool:
        """See Process. What follows of the jobs' messages is not looked at: each would be a new job."""
        is_last = Process.begin(self, name)
        if len(self.operations) == self.erases_at:
            self.app.held.add("jobs")
            for key in [key for key in self.app.stored.table.rows if key[0] == self.customer]:
                del self.app.stored.table.rows[key]
        return is_last


@pytest.fixture
async def app(client, monkeypatch) -> AsyncIterator[EventfulApp]:
    """An app that gets no events."""
    monkeypatch.setattr(response_erasure, "_WAIT_S", 0)
    async with eventful_app(client, monkeypatch, Process()) as app:
        yield app


async def _waiting(app: EventfulApp, jobs: int = 1, **options: object) -> str:
    """Return a customer of which so many jobs wait for responses that take hours."""
    customer = app.customer()
    for number in range(jobs):
        app.accounts[customer].faults.responses.add(ResponseFault("completed", in_progress_s=3 * HOUR))
        options = {"deadline_s": 90_000, **options}
        await send_response(app, customer, job_id=f"job-{number}", options=options)
    await app.deliver()
    assert {row["state"] for row in app.rows(customer, "j_")} == {"waiting"}
    return customer


async def _erase(app: EventfulApp, customer: str) -> ResponseErasure:
    services = app.worker.services
    erasure = await cancel_responses(services.batch_worker.parts, customer)
    await CustomerData(services.table, services.blobs, services.settings, customer).erase()
    return erasure


async def test_responses_are_cancelled(app: EventfulApp) -> None:
    """Nothing is billed, and nothing of the customer is left."""
    customer = await _waiting(app, 3)
    account = app.accounts[customer]
    erasure = await _erase(app, customer)
    await app.pass_time(4 * HOUR, step_s=60)
    assert (sorted(erasure.cancelled), erasure.left) == (sorted(account.responses), {})
    assert {made.status for made in account.responses.values()} == {"cancelled"}
    assert account.journal.billed() == []
    assert [key for key in app.stored.table.rows if key[0] == customer] == []


async def test_no_job_buys_another_one(app: EventfulApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though the provider's event wakes it before its rows are gone, and its response may be replaced."""
    monkeypatch.setattr(batch_context, "MIN_BATCH_S", 1e9)
    app.listen()
    customer = await _waiting(app, processing="cheapest")
    account = app.accounts[customer]
    erasure = await cancel_responses(app.worker.services.batch_worker.parts, customer)
    await app.pass_time(HOUR)
    assert erasure.cancelled == [*account.responses]
    assert app.result("job-0")["error"]["code"] == "cancelled"


async def test_one_that_only_a_step_names_is_cancelled_too(app: EventfulApp) -> None:
    """Its worker has died, or has not come to say that its job waits."""
    customer = await _waiting(app)
    for key in [key for key in app.stored.table.rows if key[0] == customer and key[1].startswith("w_")]:
        del app.stored.table.rows[key]
    (made,) = app.accounts[customer].responses.values()
    await app.stored.table.insert(creation_row(customer, "default", made.request["metadata"]["customer_job"], "job-0"))
    assert (await _erase(app, customer)).cancelled == [*app.accounts[customer].responses]


async def test_what_can_not_be_reached_is_named_and_the_rest_erased(app: EventfulApp) -> None:
    """By the provider's id; one that is refused only for now is cancelled."""
    customer = await _waiting(app)
    account = app.accounts[customer]
    account.faults.route("*", error(503), None)
    erasure = await _erase(app, customer)
    assert erasure == ResponseErasure([], dict.fromkeys(account.responses, "provider_unavailable (503)"))
    assert [key for key in app.stored.table.rows if key[0] == customer] == []

    customer = await _waiting(app)
    account = app.accounts[customer]
    account.faults.route("responses.cancel", error(429), 2)
    assert await _erase(app, customer) == ResponseErasure([*account.responses])


async def test_one_at_another_account_is_named(app: EventfulApp) -> None:
    """That account knows nothing of it."""
    customer = await _waiting(app)
    account = app.accounts[customer]
    app.connect(customer, account, project="another")
    app.worker.services.connections.forget(customer, "default")
    erasure = await _erase(app, customer)
    assert (erasure.cancelled, [*erasure.left]) == ([], [*account.responses])
    assert account.calls("responses.cancel") == []


async def test_one_that_may_exist_is_named_by_its_metadata(app: EventfulApp) -> None:
    """Its creation got no answer."""
    customer = app.customer()
    account = app.accounts[customer]
    account.faults.route("responses.create", LOST)
    await send_response(app, customer)
    await app.deliver()
    (made,) = account.responses.values()
    assert [*(await _erase(app, customer)).left] == [made.request["metadata"]["customer_job"]]


async def test_what_has_ended_is_left_alone(app: EventfulApp) -> None:
    """One that its job has not read yet is none that was cancelled, nor one that the provider refuses to cancel."""
    customer = await _waiting(app, 2)
    account = app.accounts[customer]
    for made in account.responses.values():
        made.body["status"] = "completed"
    account.faults.route("responses.cancel", error(400))
    assert await _erase(app, customer) == ResponseErasure()
    assert len(account.calls("responses.get")) == 1


async def test_what_a_job_has_left_behind_is_not_looked_at(app: EventfulApp) -> None:
    """The job has ended, or is gone."""
    customer = await _waiting(app)
    del app.stored.table.rows[customer, "j_job-0"]
    received = len(app.accounts[customer].received)
    assert await _erase(app, customer) == ResponseErasure()
    assert len(app.accounts[customer].received) == received


@pytest.mark.parametrize("hears", [False, True])
async def test_nothing_is_written_of_a_wait_after_the_erasure(
    app: EventfulApp, sampled: Sampled, *, hears: bool
) -> None:
    """Whatever its job, its poll or an event was about to do: no row says any more that a response is waited for."""
    if hears:
        app.listen()
    for number in sampled(itertools.count(1), share=5):
        customer = app.customer()
        app.accounts[customer].faults.responses.add(ResponseFault("completed", in_progress_s=20))
        await send_response(app, customer, job_id=f"job-{number}")
        process = Erasing(erases_at=number, app=app, customer=customer)
        app.begin(process)
        await app.deliver()
        await app.pass_time(60)
        app.held.clear()
        app.messages = [each for each in app.messages if each.queue == "batches"]
        await app.pass_time(900, step_s=60)
        assert app.left_rows(customer) == [], process.operations[:number]
        assert [key for key in app.stored.table.rows if key[0] == POLLS] == []
        if len(process.operations) < number:
            break
    assert number > 20
