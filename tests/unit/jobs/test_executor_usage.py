"""Every call that was billed, or may have been, leaves one usage record, whatever becomes of its attempt."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from shared.jobs.ledger import Ledger
from tests.support.blocking_endpoint import BlockingEndpoint
from tests.support.customers import Customer
from tests.support.endpoint import Answer, after, completion, error, reply, reset, truncated
from tests.support.job_kinds import JOB_KINDS
from tests.support.workers import Worker

QUICK = {"retry_delay_ms": 1, "exponential_backoff": False}
BROKEN = {f"{answer.__name__} {kind}": (answer, kind) for answer in (reset, truncated) for kind in JOB_KINDS}


@pytest.mark.parametrize(
    ("answer", "kind"), [*BROKEN.values(), (completion(after_s=30), "chat")], ids=[*BROKEN, "slow chat"]
)
async def test_tries_without_a_whole_response_are_unanswered(worker: Worker, answer: Answer, kind: str):
    """A try without a whole response may be billed: each leaves one record, without calls or tokens."""
    customer = worker.customer()
    customer.account.will_answer(answer, answer)
    options = QUICK | ({} if answer in {reset, truncated} else {"timeout_s": 1.5})

    result = await worker.run(customer, options=options, **JOB_KINDS[kind])

    assert ("succeeded", 1) == (result["status"], result["usage"]["calls"])
    assert [("answered", 1, 18), ("unanswered", 0, 0), ("unanswered", 0, 0)] == worker.outcomes(customer)


async def test_unanswered_tries_are_recorded_with_the_release(worker: Worker):
    """The record is written when the job is released, and not again by the next attempt."""
    customer = worker.customer()
    customer.account.will_answer(reset)
    options = {"retry_delay_ms": 60_000, "exponential_backoff": False}

    assert await worker.deliver(customer, job_id="cut", options=options) is None
    between = worker.outcomes(customer)
    ((body, _),) = worker.requeued()
    result = await worker.run(customer, body)

    assert [("unanswered", 0, 0)] == between
    assert ("succeeded", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [("answered", 1, 18), ("unanswered", 0, 0)] == worker.outcomes(customer)


async def test_a_call_that_only_reads_is_not_recorded_as_unanswered(worker: Worker):
    """A raw GET is not billed, so a broken response leaves no record of a loss."""
    customer = worker.customer()
    customer.account.will_answer(truncated, reply({"data": []}))

    result = await worker.run(customer, action="raw", input={"path": "models", "method": "GET"}, options=QUICK)

    assert "succeeded" == result["status"]
    assert [] == [outcome for outcome in worker.outcomes(customer) if outcome[0] == "unanswered"]


async def test_each_crashed_attempt_leaves_one_record(worker: Worker):
    """The next attempt writes a record for each, even if it is requeued; the one after that writes none."""
    customer, body = worker.customer(), b""
    for _ in range(2):
        body = await crash_in_call(worker, customer)
    customer.account.will_answer(error(429, retry_after="600"))

    assert await worker.deliver(customer, body) is None
    between = worker.outcomes(customer)
    result = await worker.run(customer, worker.wakeup(customer, "crashed"))

    assert [("unanswered", 0, 0)] * 2 == between
    assert ("succeeded", 4, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [("answered", 1, 18), *between] == worker.outcomes(customer)
    assert 4 == len(customer.account.received)


async def crash_in_call(worker: Worker, customer: Customer) -> bytes:
    """Leave what a worker leaves that died during its call; return the job's message."""
    blocking, body = BlockingEndpoint(), customer.body(job_id="crashed")
    customer.account.will_answer(blocking)
    running = asyncio.create_task(worker.deliver(customer, body))
    await blocking.called.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await worker.expire_lease(customer, "crashed")
    return body


STORED = {"object": "response", "id": "resp_1", "usage": {"input_tokens": 30, "output_tokens": 4, "total_tokens": 34}}
FETCH = {"action": "raw", "input": {"path": "responses/resp_1", "method": "GET"}}


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_stored_response_is_recorded_once(worker: Worker, monkeypatch: pytest.MonkeyPatch, at_once: bool):
    """However often it is fetched, and if two jobs fetch it at the same time, its tokens are on record once."""
    customer = worker.customer()
    pending = reply(STORED | {"status": "queued", "usage": None})
    customer.account.will_answer(pending, pending, *[reply(STORED)] * 3)
    if at_once:  # neither sees what the other writes
        monkeypatch.setattr(Ledger, "is_metered", always_false)

    created = await worker.run(customer, action="raw", input={"path": "responses", "json": {"background": True}})
    fetched = [await worker.run(customer, **FETCH, job_id=f"fetch-{number}") for number in range(4)]

    assert {"succeeded"} == {result["status"] for result in [created, *fetched]}
    assert [("answered", 0, 34), ("answered", 1, 0)] == worker.outcomes(customer)
    assert [None, 30] == [result["usage"]["input_tokens"] for result in fetched[:2]]


async def always_false(*_: object) -> bool:
    """Return False."""
    return False


async def test_a_stored_response_whose_job_was_lost_is_recorded_once(worker: Worker):
    """If the job that created it lost its lease, its record and a later fetch's don't both count."""
    customer = worker.customer()
    customer.account.will_answer(after(lambda: worker.take_over(customer, "slow"), reply(STORED)), reply(STORED))

    assert await worker.deliver(customer, action="raw", input={"path": "responses", "json": {}}, job_id="slow") is None
    await worker.run(customer, **FETCH)

    assert [("lost", 1, 34)] == worker.outcomes(customer)
