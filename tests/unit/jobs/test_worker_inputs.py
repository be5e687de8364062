"""Jobs whose input is in a blob: read, missing, gone, or not read now."""

from __future__ import annotations

import json

from tests.support.customers import Customer
from tests.support.workers import Worker


async def with_blob(worker: Worker, customer: Customer, prompt: str = "Hello?") -> bytes:
    """Store the input of a job, and return the job, which names it."""
    await worker.memory.blobs.write("inputs", f"{customer.name}/x.json", json.dumps({"prompt": prompt}).encode(), "")
    job = customer.job(input_blob=f"inputs/{customer.name}/x.json", job_id="job")
    del job["input"]
    return json.dumps(job).encode()


async def test_an_input_is_read_from_a_blob(worker: Worker):
    """`input_blob` names an input that does not fit a message. A redelivered job gets its result without it."""
    customer, prompt = worker.customer(), "x" * 200_000
    body = await with_blob(worker, customer, prompt)

    result = await worker.run(customer, body)

    assert "succeeded" == result["status"]
    worker.memory.blobs.blobs.clear()
    assert result == await worker.run(customer, body)
    assert [prompt] == [received.json["messages"][0]["content"] for received in customer.account.received]


async def test_an_input_that_is_missing_is_an_invalid_job(worker: Worker):
    """A job without a row gets none. One that was requeued ends under its id, with what it may have consumed."""
    customer = worker.customer()
    body = await with_blob(worker, customer)
    worker.memory.blobs.blobs.clear()

    rejected = await worker.run(customer, body)
    assert {} == worker.table.rows
    await worker.crash(customer, "job", body)
    result = await worker.run(customer, body)

    assert ["`input_blob` names a blob that does not exist."] * 2 == [
        each["error"]["message"] for each in (rejected, result)
    ]
    assert ("invalid_job", 2) == (result["error"]["code"], result["attempts"])
    assert "done" == worker.row(customer, "job")["state"]
    assert [("unanswered", 0, 0)] == worker.outcomes(customer)


async def test_a_job_whose_input_can_not_be_read_now_waits(worker: Worker):
    """While blobs do not answer the job is requeued. It is claimed, so that its deadline counts, but not as failed."""
    customer = worker.customer()
    body = await with_blob(worker, customer)
    worker.memory.blobs.down = True

    assert await worker.deliver(customer, body) is None

    ((_, delay_s),) = worker.requeued()
    row = worker.row(customer, "job")
    assert 60 <= delay_s <= 66
    assert ("waiting", 1, 0) == (row["state"], row["attempt"], row["failed_attempts"])
