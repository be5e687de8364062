"""Jobs over HTTP: cancelling them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import now
from shared.errors import StorageUnavailable
from shared.jobs.envelope import decode_queued_job
from shared.jobs.fingerprint import fingerprint
from tests.support.harness import Customer, Harness
from tests.support.http_client import send
from tests.support.http_jobs import post, run_queue


@pytest.fixture(name="harness")
def _harness(own_harness: Harness) -> Harness:
    return own_harness


@pytest.fixture
def customer(harness: Harness) -> Customer:
    """A customer of one test."""
    return harness.customer()


async def test_a_queued_job_can_be_cancelled(customer: Customer):
    """It ends as cancelled without a call, however often it is cancelled; one that has ended is a conflict."""
    await post(customer, job_id="off")
    path = f"jobs/{customer.name}/off"
    cancelled = await send(customer.harness, "DELETE", path)
    (result,) = await run_queue(customer)
    late = await send(customer.harness, "DELETE", path)
    calls = [*customer.account.received]
    await customer.run(job_id="done")
    ended = await send(customer.harness, "DELETE", f"jobs/{customer.name}/done")

    assert (200, "cancelled") == (cancelled.status, cancelled.json["status"])
    assert ("failed", "cancelled") == (result["status"], result["error"]["code"])
    assert [] == calls
    assert (200, "cancelled") == (late.status, late.json["status"])
    assert late.json == (await send(customer.harness, "GET", path)).json
    assert (409, "conflict") == (ended.status, ended.json["code"])


async def test_a_job_that_was_cancelled_before_its_message_was_sent_ends(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
):
    """Submitted again, its message is sent, so that it ends with a result, as cancelled."""
    queues = type(customer.harness.services.queues)
    working = queues.send

    async def fail(*_: Any, **__: Any) -> None:
        raise StorageUnavailable("The queue is down.")

    monkeypatch.setattr(queues, "send", fail)
    await post(customer, job_id="off")
    monkeypatch.setattr(queues, "send", working)
    await send(customer.harness, "DELETE", f"jobs/{customer.name}/off")
    again = await post(customer, job_id="off")
    (result,) = await run_queue(customer)

    assert (202, "cancelled") == (again.status, again.json["status"])
    assert ("failed", "cancelled") == (result["status"], result["error"]["code"])


async def test_a_job_whose_worker_died_can_be_cancelled(customer: Customer):
    """It waits for its next attempt; cancelled, it ends, and what its worker may have bought is on record."""
    await post(customer, job_id="dead")
    (message,) = await customer.queued()
    job = decode_queued_job(message, default_id="")
    ledger = customer.harness.services.ledger
    await ledger.claim(customer.name, "dead", fingerprint=fingerprint(job), submitted_at=now())
    key = {"PartitionKey": customer.name, "RowKey": "j_dead"}
    await customer.harness.table.update_entity(key | {"lease_until": now() - timedelta(seconds=1)})
    path = f"jobs/{customer.name}/dead"

    waiting = await send(customer.harness, "GET", path)
    cancelled = await send(customer.harness, "DELETE", path)
    result = json.loads(await customer.harness.deliver(message) or b"{}")

    assert ("waiting", 200, "cancelled") == (waiting.json["status"], cancelled.status, cancelled.json["status"])
    assert "cancelled" == result["error"]["code"]
    assert ["unanswered"] == [row["outcome"] for row in await customer.usage()]
