"""How an attempt ends: deadlines, failed attempts, results and errors."""

from __future__ import annotations

import json
import logging
import time
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import now, rfc3339
from shared.contract.result import MESSAGE_LIMIT
from shared.errors import StorageUnavailable
from shared.jobs.lease import Lease
from shared.jobs.step_rows import StepRecord
from tests.support.endpoint import completion, error, reply
from tests.support.fakes import Fault
from tests.support.workers import OpenWorker, Worker

TWO_PROMPTS = {"action": "multi_chat", "input": {"prompts": ["One?", "Two?"]}}


# Deadlines.


async def test_a_job_past_its_deadline_makes_no_call(worker: Worker):
    """A job that comes after its deadline ends as `timeout`."""
    customer = worker.customer()

    result = await worker.run(customer, options={"deadline_s": 5}, submitted_at=now() - timedelta(seconds=6))

    assert ("timeout", "The job's deadline of 5 s passed before an attempt could start.") == (
        result["error"]["code"],
        result["error"]["message"],
    )
    assert [] == customer.account.received


async def test_a_wait_beyond_the_deadline_fails_the_job(worker: Worker):
    """If the deadline comes before the end of the wait that the endpoint asks for, the job fails now."""
    customer = worker.customer()
    customer.account.will_answer(error(429, message="Slow down.", retry_after="30"))

    result = await worker.run(customer, options={"deadline_s": 20})

    assert "rate_limited" == result["error"]["code"]
    assert "Slow down." in result["error"]["message"]


async def test_the_deadline_ends_a_call(worker: Worker):
    """A call that is in flight when the job's deadline comes is cancelled then."""
    customer = worker.customer()
    customer.account.will_answer(completion(after_s=30))
    start = time.monotonic()

    result = await worker.run(customer, options={"deadline_s": 0.5})

    assert "timeout" == result["error"]["code"]
    assert time.monotonic() - start < 20


async def test_the_deadline_counts_from_the_first_submission(worker: Worker):
    """A job that is requeued keeps its first submission time, and ends when that is too long ago."""
    customer, first = worker.customer(), now() - timedelta(seconds=500)
    customer.account.will_answer(*[error(429, retry_after="70")] * 9)
    body = customer.body(job_id="waits", options={"deadline_s": 600})
    assert await worker.deliver(customer, body, submitted_at=first) is None

    ((body, _),) = worker.requeued()
    assert first == worker.row(customer, "waits")["submitted_at"]
    await worker.change_row(customer, "waits", submitted_at=first - timedelta(seconds=40))
    result = await worker.run(customer, body)

    assert rfc3339(first - timedelta(seconds=40)) == result["submitted_at"]
    assert ("rate_limited", 2) == (result["error"]["code"], result["attempts"])
    assert 2 == len(customer.account.received)


# Failed attempts.


async def test_a_job_is_given_up_after_five_crashes(worker: Worker):
    """A job whose workers died five times ends with the last known reason, and makes no further call."""
    customer = worker.customer()
    body = await worker.defer(customer, "waits")
    for _ in range(5):
        await worker.crash(customer, "waits", body)

    result = await worker.run(customer, body)

    assert ("failed", "rate_limited", 7) == (result["status"], result["error"]["code"], result["attempts"])
    assert "given up after 5 failed attempts" in result["error"]["message"]
    assert "Slow down." in result["error"]["message"]
    assert 1 == len(customer.account.received)
    assert [("unanswered", 0, 0)] * 5 == worker.outcomes(customer)


async def test_four_crashes_are_not_too_many(worker: Worker):
    """The job runs once more."""
    customer = worker.customer()
    body = await worker.defer(customer, "waits")
    for _ in range(4):
        await worker.crash(customer, "waits", body)

    assert "succeeded" == (await worker.run(customer, body))["status"]


@pytest.mark.usefixtures("without_storage_waits")
async def test_a_job_that_storage_fails_five_times_is_given_up(worker: Worker):
    """It ends with Storage's reason, and what it had consumed is counted."""
    customer = worker.customer()
    body = customer.body(job_id="unkept", **TWO_PROMPTS)
    for attempt in range(5):
        worker.table.faults.extend([None] * (1 if attempt == 0 else 2) + [Fault.REFUSED] * 2)
        assert await worker.deliver(customer, body) is None
        ((body, _),) = worker.requeued()
        worker.table.faults.clear()
        if "running" == worker.row(customer, "unkept")["state"]:
            await worker.expire_lease(customer, "unkept")
    before = len(customer.account.received)

    result = await worker.run(customer, body)

    assert ("failed", "internal") == (result["status"], result["error"]["code"])
    assert "given up after 5 failed attempts" in result["error"]["message"]
    assert before == len(customer.account.received)


async def test_waits_are_no_failed_attempts(worker: Worker):
    """A job that its endpoint asks to wait any number of times is not given up for that."""
    customer = worker.customer()
    customer.account.will_answer(*[error(429, retry_after="600")] * 8)
    body = customer.body(job_id="patient", options={"max_retries": 1})
    for _ in range(8):
        assert await worker.deliver(customer, body) is None
        ((body, _),) = worker.requeued()

    result = await worker.run(customer, body)

    assert ("succeeded", 9) == (result["status"], result["attempts"])


async def test_a_job_waits_if_its_steps_can_not_be_read(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """An attempt that can't read what earlier ones have stored makes no call, and counts as failed."""
    customer = worker.customer()
    body = await worker.defer(customer, "waits")
    steps = worker.ledger.steps

    async def fail(_: Lease) -> list[StepRecord]:
        raise StorageUnavailable("The table is down.")

    monkeypatch.setattr(worker.ledger, "steps", fail)
    assert await worker.deliver(customer, body) is None
    monkeypatch.setattr(worker.ledger, "steps", steps)

    assert 1 == len(customer.account.received)
    assert ("waiting", 1) == tuple(worker.row(customer, "waits")[name] for name in ("state", "failed_attempts"))
    result = await worker.run(customer, body)
    assert ("succeeded", 3) == (result["status"], result["attempts"])


# Results.


async def test_a_filtered_answer_fails_and_is_billed(worker: Worker):
    """An answer that the content filter stopped fails the job, keeps its details, and is recorded."""
    customer = worker.customer()
    customer.account.will_answer(completion("", finish_reason="content_filter"))

    result = await worker.run(customer)

    assert ("failed", "content_filtered") == (result["status"], result["error"]["code"])
    assert "content_filter" == result["output"]["finish_reason"]
    assert 11 == result["usage"]["input_tokens"]
    assert [("answered", 1, 18)] == worker.outcomes(customer)


async def test_usage_that_the_provider_does_not_report_is_marked(worker: Worker):
    """Without `usage` in the response the record counts the call, and says that tokens were not reported."""
    customer = worker.customer()
    customer.account.will_answer(reply({"choices": [{"index": 0, "message": {"content": "x"}}]}))

    result = await worker.run(customer)

    (record,) = worker.usage(customer)
    assert (False, 1, 0) == (record["reported"], record["calls"], record["input_tokens"])
    assert 1 == result["usage"]["calls"]


async def test_a_large_result_goes_to_a_blob(worker: Worker):
    """A result that does not fit a message is in its blob, and the message names the blob."""
    customer = worker.customer()
    customer.account.will_answer(completion("word " * 20_000))

    result = await worker.run(customer, job_id="large")

    assert len(json.dumps(result)) <= MESSAGE_LIMIT
    assert "output" not in result
    blob = result["output_blob"]
    data, _ = worker.memory.blobs.blobs[blob["container"], blob["name"]]
    assert (f"{customer.name}/large/result.json", len(data)) == (blob["name"], blob["size"])
    assert "word " * 20_000 == json.loads(data)["output"]["text"]


async def test_a_finished_job_is_logged(worker: Worker, caplog: pytest.LogCaptureFixture):
    """One line has its action, status, attempt, calls, tokens and run time."""
    caplog.set_level(logging.INFO, "customer_ai_jobs")
    customer = worker.customer()

    await worker.run(customer, job_id="logged")

    (line,) = [record.getMessage() for record in caplog.records]
    start, _, run_ms = line.partition(" run_ms=")
    assert (
        f"job_finished customer={customer.name} job_id=logged action=chat status=succeeded code=- attempt=1 calls=1 "
        "input_tokens=11 output_tokens=7" == start
    )
    assert 0 <= int(run_ms) < 60_000


async def test_a_fault_before_the_call_fails_the_job(open_worker: OpenWorker, caplog: pytest.LogCaptureFixture):
    """It ends as `internal`; the log has the fault's kind and place, not its text."""

    class Faulty:
        """Connections that fail."""

        async def resolve(self, customer: str, name: str) -> None:
            """Raise a fault."""
            raise ValueError(f"A text about {customer} and {name}.")

    worker = open_worker(connections=Faulty())
    customer = worker.customer()

    result = await worker.run(customer)

    assert ("failed", "internal") == (result["status"], result["error"]["code"])
    assert "job_error" in caplog.text
    assert "ValueError" in caplog.text
    assert f"A text about {customer.name}" not in caplog.text


async def test_a_fault_while_the_result_is_saved_fails_the_job(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """The result becomes `internal`, and what was billed is recorded as lost."""
    customer = worker.customer()

    def fail(*_: Any) -> None:
        raise ValueError("A fault in this software.")

    monkeypatch.setattr("shared.jobs.outputs.Outputs.inline_body", fail)

    result = await worker.run(customer)

    assert ("failed", "internal", 1) == (result["status"], result["error"]["code"], result["usage"]["calls"])
    assert [("lost", 1, 18)] == worker.outcomes(customer)


async def test_a_fault_while_a_new_key_is_looked_for_fails_the_job(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """It is as any other fault."""
    customer = worker.customer()
    customer.account.will_answer(error(401))

    async def fail(*_: Any) -> None:
        raise ValueError("A fault in this software.")

    monkeypatch.setattr(worker.services.connections, "find_rotated", fail)

    assert "internal" == (await worker.run(customer))["error"]["code"]
