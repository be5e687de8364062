"""Jobs that are submitted directly: their row first, then their message."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.contract.job import Job, decode_job
from shared.errors import JobConflict, StorageUnavailable
from shared.jobs.fingerprint import fingerprint
from shared.jobs.submission import Submissions
from shared.telemetry.base import Telemetry
from tests.support.customers import Customer
from tests.support.workers import SETTINGS, OpenWorker, Worker


class Traced(Telemetry):
    """Telemetry that gives every job a traceparent."""

    def job_submitted(self, job: Job) -> str | None:
        """See Telemetry."""
        return f"trace of {job.id}"


def submissions(worker: Worker, **parts: Any) -> Submissions:
    """The submissions of an app with that worker."""
    services = worker.services
    return Submissions(services.settings, services.ledger, services.queries, services.queues, services.outputs, **parts)


def job_of(customer: Customer, **members: Any) -> Job:
    return decode_job(customer.body(job_id="job-1", **members), default_id="")


async def test_a_submitted_job_runs(worker: Worker):
    """It is queued until its message comes; the result has the time of its submission."""
    customer = worker.customer()

    record = await submissions(worker, telemetry=Traced()).submit(job_of(customer))
    ((body, delay_s),) = worker.requeued()
    result = await worker.run(customer, body)

    assert ("queued", 0, 0) == (record.state, record.attempt, delay_s)
    assert "trace of job-1" == json.loads(body)["_envelope"]["traceparent"]
    assert ("succeeded", 1) == (result["status"], result["attempts"])
    assert record.submitted_at.replace(microsecond=0) == datetime.fromisoformat(result["submitted_at"]).replace(
        microsecond=0
    )


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
    assert before.replace(microsecond=0) == datetime.fromisoformat(
        json.loads(body)["_envelope"]["submitted_at"]
    ).replace(microsecond=0, tzinfo=UTC)


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


async def test_another_job_with_the_same_id_is_a_conflict(worker: Worker):
    """It sends nothing."""
    customer = worker.customer()
    await submissions(worker).submit(job_of(customer))
    worker.requeued()

    with pytest.raises(JobConflict):
        await submissions(worker).submit(job_of(customer, input={"prompt": "Something else"}))
    with pytest.raises(JobConflict):
        await submissions(worker).find(job_of(customer, input={"prompt": "Something else"}))

    assert [] == worker.requeued()


async def test_a_job_is_found_by_its_id_and_content(worker: Worker):
    """If it was never submitted, there is none."""
    customer = worker.customer()
    assert await submissions(worker).find(job_of(customer)) is None

    record = await submissions(worker).submit(job_of(customer))

    assert record == await submissions(worker).find(job_of(customer))


async def test_an_input_that_fits_no_message_goes_to_a_blob(worker: Worker, open_worker: OpenWorker):
    """The job is the same whether its input is in the message or in its own blob."""
    customer, prompt = worker.customer(), "x" * 100_000

    await submissions(worker).submit(job_of(customer, input={"prompt": prompt}))
    ((body, _),) = worker.requeued()
    result = await open_worker(memory=worker.memory).run(customer, body)

    assert len(body) < 1000
    assert [SETTINGS.results_container] == [container for container, _ in worker.memory.blobs.blobs]
    assert fingerprint(job_of(customer, input={"prompt": prompt})) == worker.row(customer, "job-1")["fingerprint"]
    assert "succeeded" == result["status"]
    assert prompt == customer.account.received[0].json["messages"][0]["content"]
