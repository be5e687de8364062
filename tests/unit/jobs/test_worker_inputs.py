"""Jobs whose input is in a blob: read, missing, gone, or not read now."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator

import pytest

from shared.jobs import inputs
from tests.support.customers import Customer
from tests.support.endpoint import completion, error
from tests.support.workers import Worker


@pytest.fixture
def without_collector() -> Iterator[None]:
    """Nothing that refers to itself is freed."""
    gc.disable()
    yield
    gc.enable()


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


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("case", ["answered", "refused", "deferred", "no connection", "invalid", "no table"])
async def test_memory_is_free_as_soon_as_a_job_ends(worker: Worker, case: str):
    """However it ends: nothing that is left of it, such as an error's frames, keeps its input or its answer."""
    customer = worker.customer(connection=None if case == "no connection" else "default")
    body = await with_blob(worker, customer)
    written = b"{" if case == "invalid" else b'{"prompt": "Hi."}'
    worker.memory.blobs.blobs["inputs", f"{customer.name}/x.json"] = (written.ljust(2_000_000), "")
    answers = {"refused": error(400, message="No."), "deferred": error(429, message="No.", retry_after="3600")}
    customer.account.will_answer(answers.get(case) or completion("y" * 2_000_000))
    worker.memory.table.down = case == "no table"

    await worker.deliver(customer, body)
    await asyncio.sleep(0.01)

    assert {} == worker.services.inputs._memory.taken
    assert customer.name not in worker.services.client._memory.taken


async def test_a_job_does_not_wait_long_for_memory(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """
    It gives its place, and the memory that it has, to others. So two jobs that each need what the other one has do not
    wait for each other.
    """
    monkeypatch.setattr(inputs, "MAX_WAIT_S", 0.05)
    customer = worker.customer()
    memory = worker.services.inputs._memory
    body = await with_blob(worker, customer)
    name = ("inputs", f"{customer.name}/x.json")
    worker.memory.blobs.blobs[name] = (b'{"prompt": "Hi."}'.ljust(2_000_000), "")
    memory.add(customer.name, memory.total // 2)

    assert await worker.deliver(customer, body) is None
    ((again, delay_s),) = worker.requeued()
    memory.give_back(customer.name, memory.total // 2)

    assert 10 <= delay_s <= 11
    assert 0 == worker.row(customer, "job")["failed_attempts"]
    assert "succeeded" == (await worker.run(customer, again))["status"]
