"""What a worker does with a job that it has no room for."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import now, rfc3339
from shared.contract.result import MESSAGE_LIMIT
from shared.jobs import admission
from shared.jobs.admission import ConnectionLimit
from shared.jobs.versions import VERSION
from tests.support.blocking_endpoint import BlockingEndpoint
from tests.support.customers import Customer
from tests.support.scripted_model import ScriptedModel
from tests.support.workers import Worker


@pytest.fixture(autouse=True)
def _short_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold a job for a moment only."""
    monkeypatch.setattr(admission, "MAX_HOLD_S", 0.3)


def fill(worker: Worker, customer: Customer) -> ConnectionLimit:
    """Leave no room for the customer's jobs, which take long."""
    limit = worker.services.limiter.of(customer.name, "default")
    limit.jobs, limit.job_seconds = 1000, 60
    return limit


async def test_a_throttled_job_is_requeued_unchanged(worker: Worker):
    """
    A job without room is requeued with its first submission time: it has no row, no attempt, and no call was made.
    Another customer's job runs at once.
    """
    busy, other = worker.customer(), worker.customer()
    limit = fill(worker, busy)
    submitted_at = now() - timedelta(seconds=40)

    assert await worker.deliver(busy, job_id="out", metadata={"a": "b"}, submitted_at=submitted_at) is None
    result = await worker.run(other)

    ((body, delay_s),) = worker.requeued()
    job = json.loads(body)
    assert {"submitted_at": rfc3339(submitted_at), "version": VERSION} == job.pop("_envelope")
    assert busy.job(job_id="out", metadata={"a": "b"}) == job
    assert delay_s >= 0.9
    assert (busy.name, "j_out") not in worker.table.rows
    assert ("succeeded", []) == (result["status"], busy.account.received)
    limit.jobs = 0

    late = await worker.run(busy, body)

    assert ("succeeded", 1, "out") == (late["status"], late["attempts"], late["job_id"])
    assert rfc3339(submitted_at) == late["submitted_at"]


async def test_a_job_is_held_until_there_is_room(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """It runs as soon as the job before it has ended, and is not requeued again."""
    first, customer = BlockingEndpoint(), worker.customer(max_concurrency=1)
    await worker.run(customer)  # so that the limiter knows `max_concurrency`
    worker.services.limiter.of(customer.name, "default").job_seconds = 60
    customer.account.will_answer(first)
    running = asyncio.create_task(worker.run(customer, job_id="first"))
    await first.called.wait()
    assert await worker.deliver(customer, job_id="second", submitted_at=now() - timedelta(seconds=40)) is None
    ((body, _),) = worker.requeued()
    monkeypatch.setattr(admission, "MAX_HOLD_S", 60)
    second = asyncio.create_task(worker.run(customer, body))
    while not worker.services.limiter.held.taken:  # noqa: ASYNC110  # a count has no event
        await asyncio.sleep(0)

    first.release.set()

    assert ["first", "second"] == [(await job)["job_id"] for job in (running, second)]
    assert [] == worker.requeued()


async def test_a_job_ends_at_its_deadline_while_it_is_held(worker: Worker):
    """A job whose deadline passes while it is held is not requeued once more."""
    customer = worker.customer()
    fill(worker, customer)
    envelope = {"_envelope": {"submitted_at": rfc3339(now() - timedelta(seconds=10))}}

    result = await worker.run(customer, customer.body(options={"deadline_s": 10.2}, **envelope))

    assert "timeout" == result["error"]["code"]
    assert [] == worker.requeued()


@pytest.mark.parametrize(("encode", "largest"), [(base64.b64encode, MESSAGE_LIMIT), (bytes, 65_536)])
async def test_a_job_of_full_size_is_requeued_in_a_smaller_message(
    worker: Worker, encode: Callable[[bytes], bytes], largest: int
):
    """If the job does not fit the next message, which is base64, its input goes to a blob of the job's own."""
    customer = worker.customer()
    limit = fill(worker, customer)
    size = largest - len(packed(customer.job(job_id="full", input={"prompt": ""})))
    body = packed(customer.job(job_id="full", input={"prompt": "x" * size}))
    assert 65_536 == len(encode(body))

    published = await worker.deliver(customer, body)

    ((requeued, _),) = worker.requeued()
    limit.jobs, limit.job_seconds = 0, 1
    assert published is None
    assert len(requeued) < 1000
    result = await worker.run(customer, requeued)
    assert ("succeeded", "full") == (result["status"], result["job_id"])
    assert "x" * size == customer.account.received[0].json["messages"][0]["content"]
    assert result == await worker.run(customer, body)  # another copy of the first message is no conflict


def packed(job: dict[str, Any]) -> bytes:
    return json.dumps(job, separators=(",", ":")).encode()


async def test_a_connections_calls_are_limited(worker: Worker):
    """However many jobs are admitted, no more than `max_concurrency` calls run at once."""
    customer = worker.customer(max_concurrency=3)
    model = ScriptedModel(after_s=0.02, wait_for=3).serve(customer)

    results = await asyncio.gather(*(worker.run(customer, job_id=f"j-{number}") for number in range(12)))

    assert {"succeeded"} == {result["status"] for result in results}
    assert 3 == model.max_in_flight
