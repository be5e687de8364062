"""Jobs through the real parts: Azurite, the vault stand-in, an AI endpoint over HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shared.jobs.drain import Drain
from shared.jobs.message import Delivery
from shared.upstream import retry
from tests.support.blocking_endpoint import BlockingEndpoint
from tests.support.endpoint import completion, error
from tests.support.harness import Harness


async def test_a_chat_job_ends_with_a_result(harness: Harness):
    """
    A chat job's result names the job, its answer, usage, connection and times, and repeats its metadata. Its call
    leaves one usage record with the provider's own counts, and the job's row is done.
    """
    customer = harness.customer()
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    customer.account.will_answer(completion(usage=usage))

    result = await customer.run(job_id="job-1", metadata={"order": "7"})

    output, timings = result.pop("output"), result.pop("timings")
    times = [datetime.fromisoformat(result.pop(name)) for name in ("submitted_at", "started_at", "finished_at")]
    assert ("Hello.", "stop") == (output["text"], output["finish_reason"])
    assert (sorted(times), {UTC}) == (times, {each.tzinfo for each in times})
    assert {"queued_ms", "upstream_ms", "overhead_ms"} == timings.keys()
    run_ms = (times[2] - times[1]).total_seconds() * 1000
    assert 0 < timings["overhead_ms"] <= timings["overhead_ms"] + timings["upstream_ms"] <= run_ms + 2
    counts = {"input_tokens": 100, "output_tokens": 50, "cached_tokens": 64, "reasoning_tokens": 40}
    assert {
        "job_id": "job-1",
        "customer": customer.name,
        "action": "chat",
        "model": "gpt-4o",
        "status": "succeeded",
        "metadata": {"order": "7"},
        "attempts": 1,
        "usage": {"calls": 1, **counts, "processing": "standard", "consistent": True},
        "connection": {
            "name": "default",
            "source": "key_vault",
            "provider": "azure_openai",
            "billed_to": "customer",
        },
    } == result
    (record,) = await customer.usage()
    (row,) = [row for row in await customer.rows() if row["RowKey"] == "j_job-1"]
    assert f"u_{times[2]:%Y-%m-%d}_job-1_{row['incarnation']}_0000" == record["RowKey"]
    expected = counts | {"calls": 1, "reported": True, "billed_to": "customer", "request_id": "req-1"}
    assert expected == {name: record[name] for name in expected}
    assert ("done", "succeeded") == (row["state"], row["status"])


async def test_a_requeued_job_is_in_the_jobs_queue(harness: Harness, monkeypatch: pytest.MonkeyPatch):
    """A job whose endpoint asks for a longer wait than a call sits out is hidden in its queue for that long."""
    monkeypatch.setattr(retry, "MAX_INLINE_WAIT_S", 0.5)
    customer = harness.customer()
    customer.account.will_answer(error(429, retry_after="2"))
    start = time.monotonic()

    published = await customer.deliver(message_id="m-1")

    assert published is None
    async with asyncio.timeout(60):
        while not (messages := await customer.queued()):  # noqa: ASYNC110  # a queue has no event
            await asyncio.sleep(0.1)
    assert ["m-1"] == [json.loads(body)["job_id"] for body in messages]
    assert time.monotonic() - start >= 2
    result = await customer.run(*messages)
    assert ("succeeded", 2, "m-1") == (result["status"], result["attempts"], result["job_id"])


async def test_message_that_a_stopped_worker_had_is_dropped_when_it_comes_again(harness: Harness):
    """The queue delivers it again with its id and its time of insertion, after the one that has taken its place."""
    customer, endpoint = harness.customer(), BlockingEndpoint()
    customer.account.will_answer(endpoint)
    queue = harness.queues.get_queue_client(harness.environment["JOBS_QUEUE"])
    await queue.clear_messages()

    async def receive(hidden_s: int) -> Delivery:
        while True:
            message = await queue.receive_message(visibility_timeout=hidden_s)
            if message is not None:
                return Delivery(base64.b64decode(message.content), message.id, message.inserted_on)
            await asyncio.sleep(0.1)

    await queue.send_message(base64.b64encode(customer.body(job_id="job-1")).decode())
    first = await receive(4)
    stopped = replace(harness.services, drain=Drain(calls_s=0))

    async def invocation() -> bytes | None:
        stopped.drain.join()
        return await stopped.worker.process(first)

    job = asyncio.create_task(invocation())
    await endpoint.called.wait()
    await stopped.drain.stop()
    endpoint.release.set()
    second = await receive(300)
    result = await harness.services.worker.process(second)
    again = await receive(300)

    assert None is await job
    assert result is not None
    assert (first, None) == (again, await harness.services.worker.process(again))
    outcomes = sorted(record["outcome"] for record in await customer.usage())
    assert ("succeeded", ["answered", "unanswered"]) == (json.loads(result)["status"], outcomes)
    await queue.clear_messages()
