"""How an attempt ends: deadlines, failed attempts, results and errors."""

from __future__ import annotations

import json
import logging
import time
from datetime import timedelta
from typing import Any

import pytest

from shared.actions import chat, multi_chat
from shared.clock import now, rfc3339
from shared.connections.resolver import Connections
from shared.contract.result import MESSAGE_LIMIT
from shared.errors import StorageUnavailable
from shared.jobs.lease import Lease
from shared.jobs.outputs import Outputs
from shared.jobs.step_rows import StepRecord
from tests.support.endpoint import completion, error
from tests.support.job_kinds import JOB_KINDS
from tests.support.workers import Worker

# Deadlines.


async def test_the_deadline_ends_a_call(worker: Worker):
    """A call that is in flight when the job's deadline comes is cancelled then."""
    customer = worker.customer()
    customer.account.will_answer(completion(after_s=30))
    start = time.monotonic()

    result = await worker.run(customer, options={"deadline_s": 0.5})

    assert "timeout" == result["error"]["code"]
    assert result["error"]["message"].startswith("The job's deadline of 0.5 s passed during a call. 127.0.0.1 did not")
    assert time.monotonic() - start < 20


async def test_the_endpoints_timeout_is_not_the_deadlines(worker: Worker):
    """A call that takes longer than `timeout_s` has failed for that, however near the deadline is."""
    customer = worker.customer()
    customer.account.will_answer(completion(after_s=30))

    result = await worker.run(customer, options={"timeout_s": 0.2, "deadline_s": 60, "max_retries": 0})

    assert "timeout" == result["error"]["code"]
    assert "127.0.0.1 did not answer within 0.2 s." == result["error"]["message"]


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
    """It ends with what the endpoint had said before, names the crashes once, and makes no further call."""
    customer = worker.customer()
    body = await worker.defer(customer, "waits")
    for _ in range(5):
        await worker.crash(customer, "waits", body)

    result = await worker.run(customer, body)

    message = result["error"]["message"]
    assert ("failed", "rate_limited", 7) == (result["status"], result["error"]["code"], result["attempts"])
    assert "given up after 5 failed attempts" in message
    assert ("Slow down." in message, 1) == (True, message.count("The worker that ran it died."))
    assert 1 == len(customer.account.received)
    assert [("unanswered", 0, 0)] * 5 == worker.outcomes(customer)


async def test_waits_are_no_failed_attempts(worker: Worker):
    """A job that its endpoint asks to wait any number of times is not given up for that."""
    customer = worker.customer()
    customer.account.will_answer(*[error(429, retry_after="600")] * 8)
    body = customer.body(job_id="patient", options={"max_retries": 1})
    for _ in range(8):
        assert await worker.deliver(customer, body) is None
        body = worker.wakeup(customer, "patient")

    result = await worker.run(customer, body)

    assert ("succeeded", 9) == (result["status"], result["attempts"])


async def test_a_job_waits_if_its_steps_can_not_be_read(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """An attempt that can't read what earlier ones have stored makes no call, and does not count as failed."""
    customer = worker.customer()
    body = await worker.defer(customer, "waits")
    steps = worker.ledger.steps

    async def fail(_: Lease) -> list[StepRecord]:
        raise StorageUnavailable("The table is down.")

    monkeypatch.setattr(worker.ledger, "steps", fail)
    assert await worker.deliver(customer, body) is None
    monkeypatch.setattr(worker.ledger, "steps", steps)

    assert 1 == len(customer.account.received)
    assert ("waiting", 0) == tuple(worker.row(customer, "waits")[name] for name in ("state", "failed_attempts"))
    result = await worker.run(customer, body)
    assert ("succeeded", 3) == (result["status"], result["attempts"])


# Results.


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


@pytest.mark.parametrize(
    ("target", "name", "kind", "usage"),
    [
        (Connections, "resolve", "chat", []),
        (Connections, "find_rotated", "chat", []),
        (chat, "parse_chat", "chat", [("lost", 1, 18)]),
        (multi_chat, "read_chat", "multi_chat", [("lost", 1, 18)]),
        (Outputs, "is_inline", "chat", [("lost", 1, 18)]),
    ],
    ids=["connection", "new key", "response", "response of a part", "result"],
)
async def test_a_fault_of_ours_fails_the_job(
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    target: object,
    name: str,
    kind: str,
    usage: list[tuple[str, int, int]],
):
    """
    It ends as `internal`. What the provider counted is in a record and in the result, although the response is lost.
    The log has the fault's kind and place, not its text.
    """
    customer = worker.customer()
    if name == "find_rotated":
        customer.account.will_answer(error(401))

    def fail(*_: Any) -> None:
        raise ValueError(f"A text about {customer.name}.")

    monkeypatch.setattr(target, name, fail)

    result = await worker.run(customer, **JOB_KINDS[kind])

    consumed = result["usage"]
    assert ("failed", "internal") == (result["status"], result["error"]["code"])
    assert usage == worker.outcomes(customer)
    assert sum(tokens for _, _, tokens in usage) == sum(
        consumed.get(name) or 0 for name in ("input_tokens", "output_tokens")
    )
    assert len(usage) == consumed["calls"]
    assert "job_error" in caplog.text
    assert "ValueError" in caplog.text
    assert f"A text about {customer.name}" not in caplog.text
