"""Where a result is published, and what becomes of it if that fails."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from shared.clock import now, rfc3339
from tests.support.workers import SETTINGS, OpenWorker, Worker


async def test_results_go_where_the_job_says(worker: Worker):
    """
    `output.queue` false publishes nothing; an allowed queue gets the result; any other queue is refused. A callback is
    ordered besides.
    """
    customer, url = worker.customer(), "https://example.com/hook"

    assert await worker.deliver(customer, output={"queue": False}) is None
    assert await worker.deliver(customer, job_id="special", output={"queue": "special"}) is None
    default = await worker.run(customer, job_id="default", output={"queue": SETTINGS.results_queue, "callback": url})
    refused = await worker.run(customer, output={"queue": SETTINGS.jobs_queue})

    ((body, delay_s),) = worker.queues.sent.pop("special")
    ((order, _),) = worker.queues.sent.pop(SETTINGS.callbacks_queue)
    callback = json.loads(order)
    assert ("special", 0) == (json.loads(body)["job_id"], delay_s)
    assert ("default", "succeeded") == (default["job_id"], default["status"])
    assert (customer.name, "default") == (callback["customer"], callback["job_id"])
    assert url == worker.row(customer, "default")["callback_url"]
    assert url not in order.decode()
    assert "invalid_job" == refused["error"]["code"]
    assert ({}, 3) == (worker.queues.sent, len(customer.account.received))


async def test_a_result_whose_queue_is_missing_goes_to_the_default_queue(worker: Worker):
    """
    Until ten minutes after the job's deadline the result is requeued like anything that is unavailable; then it is
    published on the results queue. Nothing is retried forever.
    """
    customer = worker.customer()
    worker.queues.missing = frozenset({"special"})
    members = {"job_id": "special", "output": {"queue": "special"}, "options": {"deadline_s": 3600}}

    assert await worker.deliver(customer, **members) is None
    ((body, delay_s),) = worker.requeued()
    before, after = (
        json.dumps(json.loads(body) | {"_envelope": {"submitted_at": rfc3339(now() - timedelta(minutes=minutes))}})
        for minutes in (65, 75)
    )
    assert await worker.deliver(customer, before.encode()) is None
    assert 1 == len(worker.requeued())
    result = await worker.run(customer, after.encode())

    assert delay_s >= 60
    assert ("succeeded", "special") == (result["status"], result["job_id"])
    assert (1, []) == (len(customer.account.received), worker.requeued())


async def test_a_queue_that_is_no_longer_allowed_gets_nothing(worker: Worker, open_worker: OpenWorker):
    """A job that was accepted when its queue was allowed has its result on the results queue."""
    customer = worker.customer()
    await worker.deliver(customer, job_id="special", output={"queue": "special"})
    settings = type(SETTINGS)(job_storage=SETTINGS.job_storage, allow_local_endpoints=True)
    other = open_worker(memory=worker.memory, settings=settings)
    worker.queues.sent.clear()
    envelope = {"_envelope": {"submitted_at": rfc3339(now())}}

    result = await other.run(customer, job_id="special", output={"queue": "special"}, **envelope)

    assert "succeeded" == result["status"]
    assert {} == worker.queues.sent


async def test_a_fault_while_a_result_is_published_is_raised(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """A job that has its result is not rejected: the host delivers it again."""
    customer = worker.customer()

    async def fail(*_: object, **__: object) -> None:
        raise RuntimeError("A fault in this software.")

    monkeypatch.setattr(worker.queues, "send", fail)

    with pytest.raises(RuntimeError):
        await worker.deliver(customer, job_id="done", output={"callback": "https://example.com/hook"})

    assert "done" == worker.row(customer, "done")["state"]
