"""The way of a message: claimed, executed and published, or rejected, or requeued."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import now, rfc3339
from shared.jobs.versions import VERSION
from tests.support.blocking_endpoint import BlockingEndpoint
from tests.support.endpoint import after
from tests.support.invalid_jobs import INVALID_JOBS
from tests.support.rows import every_row
from tests.support.workers import Worker, delivery


@every_row(("body", "words"), INVALID_JOBS.values(), ids=INVALID_JOBS)
async def test_an_invalid_job_is_rejected_at_once(worker: Worker, body: bytes, words: str):
    """It ends as a failed result under its message's id, whose error says what is wrong; nothing is requeued."""
    result = json.loads(await worker.services.worker.process(delivery(body, "m-1")) or b"{}")

    assert ("failed", "invalid_job", "m-1") == (result["status"], result["error"]["code"], result["job_id"])
    assert words in result["error"]["message"]
    assert ([], {}) == (worker.requeued(), worker.table.rows)


@every_row(
    "members",
    [
        {"connection": "../other--default"},
        {"connection": "default--x"},
        {"input": {"prompt": "x", "api_key": "k"}},
        {"input": {"prompt": "x", "endpoint": "http://127.0.0.1"}},
        {"endpoint": "http://127.0.0.1"},
        {"api_key": "k"},
        *({"_envelope": envelope} for envelope in ({}, [], "x", 1)),
        *({"_envelope": {"submitted_at": at}} for at in ("2026-11-20T13:12:00", "yesterday", 7, None, {})),
    ],
    ids=str,
)
async def test_a_job_has_no_endpoint_key_or_envelope_of_its_own(worker: Worker, members: dict[str, Any]):
    """A job with an endpoint, a key, another customer's connection or a malformed envelope is invalid."""
    customer = worker.customer()

    result = await worker.run(customer, **members)

    assert "invalid_job" == result["error"]["code"]
    assert [] == customer.account.received


async def test_a_redelivered_job_gets_its_stored_result(worker: Worker):
    """A finished job that is delivered again publishes the same bytes without a call."""
    customer = worker.customer()
    message = delivery(customer.body(job_id="again"))

    first = await worker.services.worker.process(message)
    second = await worker.services.worker.process(message)

    assert first == second is not None
    assert 1 == len(customer.account.received) == len(worker.usage(customer))


async def test_of_two_deliveries_at_once_one_runs(worker: Worker):
    """The other one is requeued, and makes no call."""
    customer, blocking = worker.customer(), BlockingEndpoint()
    customer.account.will_answer(blocking)
    running = [asyncio.create_task(worker.deliver(customer, message_id="m-1")) for _ in range(2)]
    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    blocking.release.set()

    results = await asyncio.gather(*running)

    ((body, delay_s),) = worker.requeued()
    assert [False, True] == sorted(result is None for result in results)
    assert 1 == len(customer.account.received)
    assert "m-1" == json.loads(body)["job_id"]
    assert 15 <= delay_s <= 16.5


async def test_an_id_of_another_job_is_a_conflict(worker: Worker):
    """A second job with the id of another fails as `conflict` and makes no call."""
    customer = worker.customer()
    await worker.run(customer, job_id="taken")

    result = await worker.run(customer, job_id="taken", input={"prompt": "Something else"})

    assert ("taken", "conflict") == (result["job_id"], result["error"]["code"])
    assert 1 == len(customer.account.received)


async def test_a_deadline_counts_although_the_job_was_never_claimed(worker: Worker):
    """A job that is requeued before it got a row keeps its id and its first submission time, however often it is."""
    customer, first = worker.customer(), now() - timedelta(seconds=500)
    worker.table.down = True
    body = customer.body(options={"deadline_s": 600})
    for _ in range(3):
        assert await worker.deliver(customer, body, message_id="m-1", submitted_at=first) is None
        ((body, delay_s),) = worker.requeued()
        job = json.loads(body)
        assert ("m-1", {"submitted_at": rfc3339(first), "version": VERSION}) == (job["job_id"], job["_envelope"])
        assert 60 <= delay_s <= 66
    worker.table.down = False
    earlier = {"_envelope": {"submitted_at": rfc3339(first - timedelta(seconds=101))}}

    result = await worker.run(customer, json.dumps(json.loads(body) | earlier).encode())

    assert ("timeout", 1) == (result["error"]["code"], result["attempts"])
    assert ("m-1", rfc3339(first - timedelta(seconds=101))) == (result["job_id"], result["submitted_at"])
    assert [] == customer.account.received


@pytest.mark.parametrize(
    "submitted_at", [rfc3339(now() + timedelta(days=3)), "0001-01-01T00:00:00+14:00"], ids=["future", "past"]
)
async def test_a_caller_can_not_lengthen_a_deadline(worker: Worker, submitted_at: str):
    """A job with a submission time in the future, or before any deadline, ends when it would have without it."""
    customer = worker.customer()
    envelope = {"_envelope": {"submitted_at": submitted_at}}

    result = await worker.run(
        customer, options={"deadline_s": 60}, submitted_at=now() - timedelta(seconds=61), **envelope
    )

    assert ("timeout", "The job's deadline of 60 s passed before an attempt could start.") == (
        result["error"]["code"],
        result["error"]["message"],
    )
    assert rfc3339(now() - timedelta(days=9)) < result["submitted_at"] < rfc3339(now())
    assert [] == customer.account.received


@pytest.mark.parametrize(("ago_s", "least_s", "most_s"), [(0, 9, 10), (600, 60, 66)], ids=["before", "after"])
async def test_a_job_is_requeued_until_its_deadline_at_most(
    worker: Worker, ago_s: float, least_s: float, most_s: float
):
    """Before its deadline it returns in time to end there; after it, it waits for Storage as any other job does."""
    customer = worker.customer()
    worker.table.down = True
    submitted_at = now() - timedelta(seconds=ago_s)

    assert await worker.deliver(customer, options={"deadline_s": 10}, submitted_at=submitted_at) is None

    ((_, delay_s),) = worker.requeued()
    assert least_s <= delay_s <= most_s


async def test_a_fault_before_the_lease_rejects_the_job(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """No delivery would correct it: the result is `internal`, and the log names the message and the fault's kind."""

    def fail(*_: object, **__: object) -> None:
        raise ValueError("A fault in this software.")

    customer = worker.customer()
    monkeypatch.setattr("shared.jobs.claiming.fingerprint", fail)
    decoded = await worker.run(customer, job_id="mine")
    monkeypatch.setattr("shared.jobs.worker.decode_queued_job", fail)
    undecoded = await worker.run(customer, customer.body(), message_id="m-1")

    assert [("mine", "internal"), ("m-1", "internal")] == [
        (result["job_id"], result["error"]["code"]) for result in (decoded, undecoded)
    ]
    assert [f"job_error customer={customer.name} job_id=mine ValueError", "job_error job_id=m-1 ValueError"] == [
        record.getMessage().partition("\n")[0] for record in caplog.records
    ]


async def test_what_becomes_of_a_message_is_logged(worker: Worker, caplog: pytest.LogCaptureFixture):
    """A rejected job with its code, one that another worker has taken over, a requeued one with delay and reason."""
    caplog.set_level(logging.INFO, "customer_ai_jobs")
    customer = worker.customer()
    customer.account.will_answer(after(lambda: worker.take_over(customer, "taken")))

    await worker.run(customer, job_id="wrong", input={"prompt": 7})
    assert await worker.deliver(customer, job_id="taken") is None
    await worker.defer(customer, "waits")

    rejected, lost, requeued = [record.getMessage() for record in caplog.records]
    assert "job_rejected job_id=wrong code=invalid_job" == rejected
    assert f"lease_lost customer={customer.name} job_id=taken" == lost
    assert re.fullmatch(
        rf"job_requeued customer={customer.name} job_id=waits delay_s=3\d\d\d\.\d "
        r"UpstreamRetryLater: rate_limited \(429\)",
        requeued,
    )
