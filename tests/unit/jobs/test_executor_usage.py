"""Every call that was billed, or may have been, leaves one usage record, whatever becomes of its attempt."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from typing import Any

import pytest

from shared.actions import chat, multi_chat
from tests.support.blocking_endpoint import BlockingEndpoint
from tests.support.customers import Customer
from tests.support.endpoint import Answer, completion, error, reply, reset, truncated
from tests.support.fake_blobs import MemoryBlobs
from tests.support.job_kinds import JOB_KINDS
from tests.support.workers import Memory, OpenWorker, Worker

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


async def test_calls_that_were_never_sent_are_not_recorded(worker: Worker):
    """If nothing listens at the endpoint, nothing can have been billed."""
    customer = worker.customer(endpoint="http://127.0.0.1:1/openai/v1")

    result = await worker.run(customer, options=QUICK | {"max_retries": 2})

    assert "provider_unavailable" == result["error"]["code"]
    assert [] == worker.outcomes(customer)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
async def test_refusals_are_not_recorded(worker: Worker, status: int):
    """An endpoint that refuses a call does not bill it."""
    customer = worker.customer()
    customer.account.will_answer(*[error(status)] * 4)

    result = await worker.run(customer, options=QUICK | {"max_retries": 1})

    assert "failed" == result["status"]
    assert [] == worker.outcomes(customer)


async def test_a_call_that_only_reads_is_not_recorded_as_unanswered(worker: Worker):
    """A raw GET is not billed, so a broken response leaves no record of a loss."""
    customer = worker.customer()
    customer.account.will_answer(truncated, reply({"data": []}))

    result = await worker.run(customer, action="raw", input={"path": "models", "method": "GET"}, options=QUICK)

    assert "succeeded" == result["status"]
    assert [] == [outcome for outcome in worker.outcomes(customer) if outcome[0] == "unanswered"]


async def test_a_response_that_can_not_be_read_is_unanswered(worker: Worker):
    """A 200 whose body is not read to its end, here because it is compressed twice, may be billed."""
    customer = worker.customer()
    compressed = gzip.compress(gzip.compress(b"{}"))
    customer.account.will_answer(reply(compressed, headers={"content-encoding": "gzip, gzip"}))

    result = await worker.run(customer, options={"max_retries": 0})

    assert "provider_unavailable" == result["error"]["code"]
    assert [("unanswered", 0, 0)] == worker.outcomes(customer)


@pytest.mark.parametrize("kind", ["chat", "multi_chat"])
async def test_a_fault_after_a_response_is_recorded_as_lost(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str
):
    """What the provider counted is in a record and in the failed result, although the response was never read."""
    customer = worker.customer()

    def fail(*_: Any) -> None:
        raise ValueError("A fault in this software.")

    for module in (chat, multi_chat):
        monkeypatch.setattr(module, "parse_chat", fail)

    result = await worker.run(customer, **JOB_KINDS[kind])

    assert ("failed", "internal") == (result["status"], result["error"]["code"])
    assert (1, 11, 7) == tuple(result["usage"][name] for name in ("calls", "input_tokens", "output_tokens"))
    assert [("lost", 1, 18)] == worker.outcomes(customer)
    assert "job_error" in caplog.text


async def test_a_crashed_attempt_leaves_one_record(worker: Worker):
    """For each attempt whose worker died, the next one writes one record of what may have been billed."""
    customer, body = worker.customer(), b""
    for _ in range(2):
        body = await crash_in_call(worker, customer)

    result = await worker.run(customer, body)

    assert ("succeeded", 3, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [("answered", 1, 18), ("unanswered", 0, 0), ("unanswered", 0, 0)] == worker.outcomes(customer)
    assert 3 == len(customer.account.received)


async def test_a_crashed_attempt_is_recorded_by_an_attempt_that_is_requeued(worker: Worker):
    """An attempt that takes over and is requeued has written the record of the crash; the next one writes none."""
    customer = worker.customer()
    body = await crash_in_call(worker, customer)
    customer.account.will_answer(error(429, retry_after="600"))

    assert await worker.deliver(customer, body) is None
    assert [("unanswered", 0, 0)] == worker.outcomes(customer)
    result = await worker.run(customer, worker.requeued()[0][0])

    assert ("succeeded", 3) == (result["status"], result["attempts"])
    assert [("answered", 1, 18), ("unanswered", 0, 0)] == worker.outcomes(customer)


async def test_a_crash_after_the_outcome_was_stored_leaves_no_record(open_worker: OpenWorker):
    """A job whose outcome was stored when its worker died ends with it: nothing is bought, nothing is unclear."""
    blobs = BlockingBlobs()
    worker = open_worker(memory=Memory(blobs=blobs))
    customer = worker.customer()
    running = asyncio.create_task(worker.deliver(customer, job_id="stored", output={"blob": True}))
    await blobs.called.wait()
    await cancel(running)
    await worker.expire_lease(customer, "stored")
    blobs.blocking = False

    result = await worker.run(customer, job_id="stored", output={"blob": True})

    assert ("succeeded", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert "Hello." == result["output"]["text"]
    assert [("answered", 1, 18)] == worker.outcomes(customer)
    assert 1 == len(customer.account.received)


class BlockingBlobs(MemoryBlobs):
    """Blobs that never answer the write of a result while `blocking`."""

    def __init__(self) -> None:
        super().__init__()
        self.called, self.blocking = asyncio.Event(), True

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """See Blobs."""
        if name.endswith("result.json") and self.blocking:
            self.called.set()
            await asyncio.Event().wait()
        await super().write(container, name, data, content_type)


async def crash_in_call(worker: Worker, customer: Customer) -> bytes:
    """Leave what a worker leaves that died during its call; return the job's message."""
    blocking, body = BlockingEndpoint(), customer.body(job_id="crashed")
    customer.account.will_answer(blocking)
    running = asyncio.create_task(worker.deliver(customer, body))
    await blocking.called.wait()
    await cancel(running)
    await worker.expire_lease(customer, "crashed")
    return body


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
