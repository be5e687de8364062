"""Jobs that are submitted directly: their row first, then their message."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from shared.clock import rfc3339
from shared.contract.job import Job, decode_job
from shared.errors import JobConflict, StorageUnavailable
from shared.jobs.fingerprint import fingerprint
from shared.jobs.submission import RESEND_S, Submissions
from shared.telemetry.base import Telemetry
from tests.support.customers import Customer
from tests.support.workers import SETTINGS, Worker


class Traced(Telemetry):
    """Telemetry that gives every job a traceparent."""

    def job_submitted(self, job: Job) -> str | None:
        """See Telemetry."""
        return f"trace of {job.id}"


def submissions(worker: Worker, **parts: Any) -> Submissions:
    """The submissions of an app with that worker."""
    services = worker.services
    return Submissions(services.ledger, services.queries, services.schedule, services.outputs, **parts)


def job_of(customer: Customer, **members: Any) -> Job:
    return decode_job(customer.body(job_id="job-1", **members), default_id="")


async def test_a_submitted_job_runs(worker: Worker):
    """
    It is queued until its message comes; the result has the time of its submission. The job is the same whether its
    input is in the message or, because it does not fit there, in a blob of its own.
    """
    customer, prompt = worker.customer(), "x" * 100_000
    job = job_of(customer, input={"prompt": prompt})

    record = await submissions(worker, telemetry=Traced()).submit(job)
    ((body, delay_s),) = worker.requeued()
    result = await worker.run(customer, body)

    assert ("queued", 0, 0) == (record.state, record.attempt, delay_s)
    assert len(body) < 1000
    assert [SETTINGS.results_container] == [container for container, _ in worker.memory.blobs.blobs]
    assert "trace of job-1" == json.loads(body)["_envelope"]["traceparent"]
    assert fingerprint(job) == worker.row(customer, "job-1")["fingerprint"]
    assert ("succeeded", 1, rfc3339(record.submitted_at)) == (
        result["status"],
        result["attempts"],
        result["submitted_at"],
    )
    assert prompt == customer.account.received[0].json["messages"][0]["content"]


async def test_a_message_that_was_not_sent_is_sent_by_the_next_submission(worker: Worker):
    """The row exists after the first try; the message has the first submission's time."""
    customer = worker.customer()
    worker.queues.down = True
    with pytest.raises(StorageUnavailable):
        await submissions(worker).submit(job_of(customer))
    worker.queues.down = False
    before = worker.row(customer, "job-1")["submitted_at"]

    record = await submissions(worker).submit(job_of(customer))

    ((body, _),) = worker.requeued()
    assert before == record.submitted_at
    assert rfc3339(before) == json.loads(body)["_envelope"]["submitted_at"]


async def test_a_flood_of_submissions_is_one_message(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """
    Hundreds of submissions of a job that has not started are one message, together or one after the other. A while
    later, and from a worker that has sent none, it is another: the first one's worker may be gone.
    """
    customer, flooded = worker.customer(), submissions(worker)
    job = job_of(customer)

    records = await asyncio.gather(*(flooded.submit(job) for _ in range(200)))
    await flooded.submit(job)

    assert {("queued", "job-1")} == {(record.state, record.job_id) for record in records}
    assert 1 == len(worker.requeued())
    await submissions(worker).submit(job)
    assert 1 == len(worker.requeued())
    later = time.monotonic() + RESEND_S
    monkeypatch.setattr(time, "monotonic", lambda: later)
    await flooded.submit(job)
    assert 1 == len(worker.requeued())


async def test_a_failed_send_is_nobodys_message(worker: Worker):
    """Requests that share a send that fails get its error, and the next submission sends the message."""
    customer, flooded = worker.customer(), submissions(worker)
    worker.queues.down = True
    failed = await asyncio.gather(*(flooded.submit(job_of(customer)) for _ in range(5)), return_exceptions=True)
    worker.queues.down = False

    await flooded.submit(job_of(customer))

    assert [StorageUnavailable] * 5 == [type(each) for each in failed]
    assert 1 == len(worker.requeued())


@pytest.mark.parametrize("state", ["cancelled", "running", "waiting", "done"])
async def test_a_job_is_submitted_again(worker: Worker, state: str):
    """A job that has started needs no other message; a cancelled one needs it to end."""
    customer = worker.customer()
    await submissions(worker).submit(job_of(customer))
    worker.requeued()
    await worker.change_row(customer, "job-1", state=state)

    record = await submissions(worker).submit(job_of(customer))

    assert state == record.state
    assert int(state == "cancelled") == len(worker.requeued())


async def test_a_job_is_found_by_its_id_and_content(worker: Worker):
    """If it was never submitted, there is none. Another job with the same id is a conflict, and sends nothing."""
    customer = worker.customer()
    other = job_of(customer, input={"prompt": "Something else"})
    assert await submissions(worker).find(job_of(customer)) is None

    record = await submissions(worker).submit(job_of(customer))

    worker.requeued()
    assert record == await submissions(worker).find(job_of(customer))
    with pytest.raises(JobConflict):
        await submissions(worker).submit(other)
    with pytest.raises(JobConflict):
        await submissions(worker).find(other)
    assert [] == worker.requeued()
