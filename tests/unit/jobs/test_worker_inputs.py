"""Jobs whose input is in a blob: read, refused, gone, or not read now."""

from __future__ import annotations

import json

import pytest

from tests.support.workers import Worker


async def test_an_input_is_read_from_a_blob(worker: Worker):
    """`input_blob` names an input that does not fit a message."""
    customer, prompt = worker.customer(), "x" * 200_000
    await worker.memory.blobs.write("inputs", f"{customer.name}/big.json", json.dumps({"prompt": prompt}).encode(), "")
    job = customer.job(input_blob=f"inputs/{customer.name}/big.json")
    del job["input"]

    result = await worker.run(customer, json.dumps(job).encode())

    assert "succeeded" == result["status"]
    assert prompt == customer.account.received[0].json["messages"][0]["content"]


@pytest.mark.parametrize("name", ["inputs/other/big.json", "results/{me}/x/result.json", "inputs/{me}/none"])
async def test_an_input_of_others_is_refused(worker: Worker, name: str):
    """A blob outside the input containers, under another customer's name, or missing, is `invalid_job`."""
    customer = worker.customer()
    await worker.memory.blobs.write("inputs", "other/big.json", b'{"prompt": "x"}', "")
    await worker.memory.blobs.write("results", f"{customer.name}/x/result.json", b'{"prompt": "x"}', "")
    job = customer.job(input_blob=name.format(me=customer.name))
    del job["input"]

    result = await worker.run(customer, json.dumps(job).encode())

    assert "invalid_job" == result["error"]["code"]
    assert "`input_blob`" in result["error"]["message"]


async def test_a_finished_job_needs_no_input_blob(worker: Worker):
    """A redelivered job whose input was deleted gets its stored result."""
    customer, blob = worker.customer(), "once.json"
    await worker.memory.blobs.write("inputs", f"{customer.name}/{blob}", b'{"prompt": "Hello?"}', "")
    job = customer.job(input_blob=f"inputs/{customer.name}/{blob}", job_id="once")
    del job["input"]
    first = await worker.run(customer, json.dumps(job).encode())
    await worker.memory.blobs.delete("inputs", f"{customer.name}/{blob}")

    assert first == await worker.run(customer, json.dumps(job).encode())
    assert 1 == len(customer.account.received)


async def test_a_job_that_was_requeued_ends_although_its_input_is_gone(worker: Worker):
    """A job with a row ends with its error under its own id, and what it had consumed, in the ledger as well."""
    customer = worker.customer()
    await worker.memory.blobs.write("inputs", f"{customer.name}/x.json", b'{"prompt": "Hello?"}', "")
    job = customer.job(input_blob=f"inputs/{customer.name}/x.json", job_id="gone")
    del job["input"]
    body = json.dumps(job).encode()
    await worker.crash(customer, "gone", body)
    await worker.memory.blobs.delete("inputs", f"{customer.name}/x.json")

    result = await worker.run(customer, body)

    assert ("invalid_job", 2) == (result["error"]["code"], result["attempts"])
    assert "done" == worker.row(customer, "gone")["state"]
    assert [("unanswered", 0, 0)] == worker.outcomes(customer)


async def test_a_job_whose_input_can_not_be_read_now_waits(worker: Worker):
    """While blobs do not answer the job is requeued; it is claimed, so that its deadline and attempts count."""
    customer = worker.customer()
    job = customer.job(input_blob=f"inputs/{customer.name}/x.json", job_id="waits")
    del job["input"]
    worker.memory.blobs.down = True

    assert await worker.deliver(customer, json.dumps(job).encode()) is None

    ((_, delay_s),) = worker.requeued()
    row = worker.row(customer, "waits")
    assert 60 <= delay_s <= 66
    assert ("waiting", 1, 1) == (row["state"], row["attempt"], row["failed_attempts"])
