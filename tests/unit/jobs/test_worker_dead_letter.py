"""What becomes of a message in the poison queue: its job ends with a result, unless it only waits."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import now, rfc3339
from shared.contract.result import MESSAGE_LIMIT
from shared.errors import StorageUnavailable
from tests.support.endpoint import completion, error
from tests.support.workers import SETTINGS, Worker


async def dead_letter(worker: Worker, body: bytes, **delivery: Any) -> dict[str, Any]:
    """The result of a message in the poison queue; fails if nothing is published."""
    result = await worker.dead_letter(body, **delivery)
    assert result is not None
    return result


async def test_the_last_known_refusal_is_the_result(worker: Worker):
    """A job whose deadline has passed ends with the code and the message of its last attempt."""
    customer = worker.customer()
    body = await worker.defer(customer, "waits")
    submitted_at = worker.row(customer, "waits")["submitted_at"] - timedelta(days=2)
    await worker.change_row(customer, "waits", submitted_at=submitted_at)

    result = await dead_letter(worker, body)

    assert ("failed", "rate_limited", 2) == (result["status"], result["error"]["code"], result["attempts"])
    assert "The job was given up by the queue." in result["error"]["message"]
    assert "Slow down." in result["error"]["message"]


async def test_a_job_without_a_known_refusal_is_internal(worker: Worker):
    """A late job whose worker died ends so; what may be billed is recorded."""
    customer = worker.customer()
    body = customer.body(job_id="job")
    await worker.crash(customer, "job", body)
    await worker.change_row(customer, "job", submitted_at=now() - timedelta(days=2))

    result = await dead_letter(worker, body)

    error = result["error"]
    assert ("job", "internal", 2) == (result["job_id"], error["code"], result["attempts"])
    assert "given up after 1 failed attempt. The last known reason: The worker" in error["message"]
    assert [("unanswered", 0, 0)] == worker.outcomes(customer)
    assert [] == customer.account.received


async def test_a_job_whose_worker_died_runs_again(worker: Worker):
    """The crash and the poison queue count as two of its five failed attempts; it is not given up before."""
    customer = worker.customer()
    body = customer.body(job_id="job")
    await worker.crash(customer, "job", body)

    assert await worker.dead_letter(body) is None
    ((body, _),) = worker.requeued()
    assert ("running", 1) == tuple(worker.row(customer, "job")[name] for name in ("state", "failed_attempts"))
    result = await worker.run(customer, body)

    assert ("succeeded", 2) == (result["status"], worker.row(customer, "job")["failed_attempts"])


async def test_a_job_that_was_cancelled_after_a_crash_ends(worker: Worker):
    """Nobody waits for it any more."""
    customer = worker.customer()
    body = customer.body(job_id="job")
    await worker.crash(customer, "job", body)
    await worker.services.updates.cancel(customer.name, "job")

    assert "cancelled" == (await dead_letter(worker, body))["error"]["code"]


@pytest.mark.parametrize("members", [{"job_id": "job"}, {}], ids=["id", "no id"])
async def test_a_job_that_no_attempt_could_begin_runs(worker: Worker, members: dict[str, Any]):
    """Nothing is on record about it: it is put on record, as if it came over HTTP, and goes back to the jobs queue."""
    customer = worker.customer()
    submitted_at = now() - timedelta(hours=1)

    assert await worker.dead_letter(customer.body(**members), "poison-1", submitted_at) is None
    ((body, _),) = worker.requeued()
    result = await worker.run(customer, body)

    assert ("succeeded", members.get("job_id", "poison-1")) == (result["status"], result["job_id"])
    assert rfc3339(submitted_at) == result["submitted_at"]


async def test_a_job_that_never_begins_ends_at_its_deadline(worker: Worker):
    """Whatever kept it from its first attempt, its deadline counts; it is no fault of the app that ended it."""
    customer = worker.customer()

    result = await dead_letter(worker, customer.body(job_id="late"), submitted_at=now() - timedelta(days=2))

    assert ("timeout", 0) == (result["error"]["code"], len(customer.account.received))
    assert "deadline of 86400 s passed before an attempt could start" in result["error"]["message"]


async def test_a_finished_job_is_replayed(worker: Worker):
    """A message of a finished job gets its stored result; one that is no job is rejected, as in the jobs queue."""
    customer = worker.customer()
    result = await worker.run(customer, job_id="done")
    rejected = await dead_letter(worker, b"\x00\xff", message_id="m-9")

    assert result == await worker.dead_letter(customer.body(job_id="done"))
    assert 1 == len(customer.account.received)
    assert ("m-9", "invalid_job") == (rejected["job_id"], rejected["error"]["code"])


async def test_a_job_without_an_id_waits_for_its_lease(worker: Worker):
    """Of two jobs with the same content, the one whose worker died runs again, once its lease has expired."""
    customer = worker.customer()
    body = customer.body()
    customer.account.will_answer(error(429, retry_after="300"))
    assert await worker.deliver(customer, body, message_id="waits") is None
    await worker.claim(customer, "dead", body)

    assert await worker.dead_letter(body, "poison-1") is None
    ((again, _),) = worker.queues.sent.pop(SETTINGS.poison_queue)
    await worker.expire_lease(customer, "dead")
    assert await worker.dead_letter(again, "poison-2") is None
    ((body, _),) = [sent for sent in worker.requeued() if b'"dead"' in sent[0]]
    result = await worker.run(customer, body)

    assert ("dead", "succeeded") == (result["job_id"], result["status"])
    assert ("done", "waiting") == tuple(worker.row(customer, job_id)["state"] for job_id in ("dead", "waits"))


async def test_a_large_job_without_an_id_stays_in_the_poison_queue(worker: Worker):
    """Plain JSON that does not fit base64, and whose blob would belong to no job: the host delivers it again."""
    customer = worker.customer()
    body = customer.body(input={"prompt": "x" * MESSAGE_LIMIT})
    await worker.claim(customer, "runs", body)

    with pytest.raises(StorageUnavailable, match="does not fit a message"):
        await worker.dead_letter(body, "poison-1")

    assert ({}, {}) == (dict(worker.queues.sent), worker.memory.blobs.blobs)


async def test_after_its_deadline_a_message_waits_for_no_other_job(worker: Worker):
    """A job with the same content that runs just now does not delay it any more."""
    customer = worker.customer()
    body = customer.body(options={"deadline_s": 5})
    await worker.claim(customer, "other", body)

    result = await dead_letter(worker, body, message_id="poison-9", submitted_at=now() - timedelta(days=2))

    assert "poison-9" == result["job_id"]


@pytest.mark.parametrize("has_row", [True, False])
async def test_a_job_without_an_id_has_one_result(worker: Worker, has_row: bool):
    """
    The host gives the message a new id: the result, and the callback, have the one that the job with its content had
    before. If the result can't be published at once, it is published later, and no other one is made.
    """
    customer = worker.customer()
    body = customer.body(
        output={"queue": "special", "callback": "https://example.com/hook"}, options={"deadline_s": 60}
    )
    if has_row:
        await worker.crash(customer, "first-id", body)
        await worker.change_row(customer, "first-id", submitted_at=now() - timedelta(minutes=2))
    worker.queues.missing = frozenset({"special"})

    assert await worker.dead_letter(body, "poison-9", now() - timedelta(minutes=2)) is None
    ((again, _),) = worker.queues.sent.pop(SETTINGS.poison_queue)
    worker.queues.missing = frozenset()
    assert await worker.dead_letter(again, "poison-10") is None

    published, callback = (json.loads(worker.queues.sent[name][0][0]) for name in ("special", SETTINGS.callbacks_queue))
    job_id = "first-id" if has_row else "poison-9"
    assert (job_id, 1 + has_row, job_id) == (published["job_id"], published["attempts"], callback["job_id"])
    assert {1} == {len(messages) for messages in worker.queues.sent.values()}
    assert 1 == sum(key.startswith("j_") for partition, key in worker.table.rows if partition == customer.name)


async def test_a_waiting_job_is_requeued(worker: Worker):
    """
    A job that its endpoint asked to wait while nothing could be sent to the queue: the host gives its message up after
    some deliveries. Once the queue takes messages again, the job waits on, and runs.
    """
    customer = worker.customer()
    body = customer.body(job_id="waits")
    customer.account.will_answer(*[error(429, retry_after="100")] * 5)
    worker.queues.down = True
    for _ in range(5):
        with pytest.raises(StorageUnavailable):
            await worker.deliver(customer, body)
    with pytest.raises(StorageUnavailable):
        await worker.dead_letter(body)
    worker.queues.down = False

    assert await worker.dead_letter(body) is None
    ((body, delay_s),) = worker.requeued()
    result = await worker.run(customer, body)

    assert 60 <= delay_s <= 66
    assert "succeeded" == result["status"]
    assert [("answered", 1, 18)] == worker.outcomes(customer)


@pytest.mark.parametrize(("attempts", "code"), [(1, "rate_limited"), (0, "internal")])
async def test_a_waiting_job_is_not_requeued_forever(worker: Worker, attempts: int, code: str):
    """A job that returns from the poison queue again and again is given up the sixth time, if it began or not."""
    customer = worker.customer()
    body = await worker.defer(customer, "waits") if attempts else customer.body(job_id="waits")
    for _ in range(5):
        assert await worker.dead_letter(body) is None
        ((body, _),) = worker.requeued()

    result = await dead_letter(worker, body)

    assert ("waits", code) == (result["job_id"], result["error"]["code"])
    assert "given up after 5 failed attempts" in result["error"]["message"]
    assert attempts == len(customer.account.received)


async def test_a_job_that_is_given_up_has_the_usage_of_its_steps(worker: Worker):
    """What earlier attempts were billed is in the result of an attempt that makes no call."""
    customer = worker.customer(max_concurrency=1)
    customer.account.will_answer(completion("One."), error(429, retry_after="600"))
    members = {"action": "multi_chat", "input": {"prompts": ["a", "b"]}, "job_id": "half"}
    assert await worker.deliver(customer, **members) is None
    await worker.change_row(customer, "half", failed_attempts=5)

    result = await dead_letter(worker, customer.body(**members))

    assert ("failed", 1, 11) == (result["status"], result["usage"]["calls"], result["usage"]["input_tokens"])
    assert [("answered", 1, 18)] == worker.outcomes(customer)
