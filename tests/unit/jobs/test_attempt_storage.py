"""Storage fails while an attempt writes: no job is lost and nothing is bought twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.errors import StorageUnavailable
from shared.jobs import attempt as attempts
from shared.storage.base import Row
from tests.support.endpoint import after
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import Fault
from tests.support.job_kinds import JOB_KINDS
from tests.support.simulated_time import SimulatedTime
from tests.support.workers import Memory, OpenWorker, Worker

STEPS = {name: members for name, members in JOB_KINDS.items() if name != "chat"}


@pytest.mark.usefixtures("short_storage_waits")
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST, Fault.TWICE])
@pytest.mark.parametrize("members", JOB_KINDS.values(), ids=JOB_KINDS)
async def test_a_short_outage_is_waited_for(worker: Worker, fault: Fault, members: dict[str, Any]):
    """A write that fails twice is repeated, whichever it is: the job ends in its first attempt, bought once."""
    customer = worker.customer()
    for writes in (1, 2):
        worker.table.faults.clear()
        worker.table.faults.extend([*[None] * writes, fault, fault])
        before = len(customer.account.received)

        result = await worker.run(customer, job_id=f"job-{writes}", **members)

        assert ("succeeded", 1, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
        assert before + 1 == len(customer.account.received)
        assert [] == worker.requeued()
    assert [("answered", 1, 18)] * 2 == worker.outcomes(customer)


@pytest.mark.usefixtures("short_storage_waits")
async def test_a_long_outage_requeues_the_job(worker: Worker):
    """When an attempt has waited often enough, the job is requeued, and the next attempt makes the call again."""
    customer = worker.customer()
    worker.table.faults.extend([None, *[Fault.REFUSED] * (len(attempts.STORAGE_WAITS_S) + 1)])

    assert await worker.deliver(customer, job_id="down") is None
    ((body, delay_s),) = worker.requeued()
    await worker.expire_lease(customer, "down")
    result = await worker.run(customer, body)

    assert 60 <= delay_s <= 66
    assert ("succeeded", 2) == (result["status"], result["attempts"])
    assert [("answered", 1, 18), ("unanswered", 0, 0)] == worker.outcomes(customer)


@pytest.mark.usefixtures("short_storage_waits")
async def test_lost_calls_are_recorded_although_storage_fails(worker: Worker):
    """A read that fails while an attempt without a lease records its calls is repeated; no call is forgotten."""
    customer = worker.customer()

    async def take_over() -> None:
        await worker.take_over(customer, "taken")
        read = worker.table.read

        async def fail_once(partition: str, key: str) -> Row | None:
            if key.startswith("u_"):
                worker.table.read = read  # type: ignore[method-assign]
                raise StorageUnavailable("The table is down.")
            return await read(partition, key)

        worker.table.read = fail_once  # type: ignore[method-assign]

    customer.account.will_answer(after(take_over))

    await worker.deliver(customer, job_id="taken", **JOB_KINDS["multi_chat"])

    assert [("lost", 1, 18)] == worker.outcomes(customer)


@pytest.mark.usefixtures("without_storage_waits")
async def test_lost_calls_that_storage_does_not_take_are_logged(worker: Worker, caplog: pytest.LogCaptureFixture):
    """An attempt that has lost its lease and can't record its calls says so: nobody else will."""
    customer = worker.customer()

    async def take_over() -> None:
        await worker.take_over(customer, "taken")
        worker.table.faults.extend([None, Fault.REFUSED])  # the attempt's own write is a conflict

    customer.account.will_answer(after(take_over))

    assert await worker.deliver(customer, job_id="taken") is None

    assert f"usage_not_recorded customer={customer.name} job_id=taken: The write was refused." in caplog.text


@pytest.mark.parametrize("members", STEPS.values(), ids=STEPS)
async def test_a_step_whose_response_got_lost_is_not_called_again(
    open_worker: OpenWorker, monkeypatch: pytest.MonkeyPatch, members: dict[str, Any]
):
    """
    A step is stored, but no response comes for as long as the attempt waits. Then Storage answers again, and the lease
    is renewed before the job is released. The job is requeued, and ends with the stored step.
    """
    due = asyncio.Event()

    class Time(SimulatedTime):
        """Time in which the lease is due to be renewed only while the step waits to be stored."""

        async def sleep(self, seconds: float) -> None:
            """See SimulatedTime."""
            if seconds == worker.ledger.lease_s / 3:
                await due.wait()
                due.clear()
            else:
                due.set()
                await asyncio.sleep(0.005)

    monkeypatch.setattr(attempts, "asyncio", Time())
    monkeypatch.setattr(attempts, "STORAGE_WAITS_S", (1, 1, 1))
    worker = open_worker()
    customer = worker.customer()
    worker.table.faults.extend([None, Fault.LOST, Fault.REFUSED, Fault.REFUSED, Fault.REFUSED])

    assert await worker.deliver(customer, job_id="unseen", **members) is None
    ((body, _),) = worker.requeued()
    result = await worker.run(customer, body)

    assert ("succeeded", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [("answered", 1, 18)] == worker.outcomes(customer)
    assert 1 == len(customer.account.received)


@pytest.mark.usefixtures("without_storage_waits")
async def test_an_outcome_that_is_stored_late_is_not_recorded_as_lost(worker: Worker):
    """An outcome that could not be stored at once is stored with the job's release: it was bought once."""
    customer = worker.customer()
    worker.table.faults.extend([None, Fault.REFUSED])

    assert await worker.deliver(customer, job_id="late", output={"blob": True}) is None
    result = await worker.run(customer, worker.requeued()[0][0])

    assert ("succeeded", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [("answered", 1, 18)] == worker.outcomes(customer)
    assert 1 == len(customer.account.received)


class RefusingBlobs(MemoryBlobs):
    """Blobs that refuse results while `refusing`."""

    refusing = True

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """See Blobs."""
        if self.refusing and name.endswith("result.json"):
            raise StorageUnavailable("The blob is refused.")
        await super().write(container, name, data, content_type)


@pytest.mark.usefixtures("without_storage_waits")
async def test_a_result_that_can_not_be_saved_costs_no_second_call(open_worker: OpenWorker):
    """Its outcome is stored as a step before the blob is written; the next attempt only writes the blob."""
    blobs = RefusingBlobs()
    worker = open_worker(memory=Memory(blobs=blobs))
    customer = worker.customer()

    assert await worker.deliver(customer, job_id="unsaved", output={"blob": True}) is None
    blobs.refusing = False
    result = await worker.run(customer, worker.requeued()[0][0])

    assert ("succeeded", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert ("Hello.", "gpt-4o", "default") == (
        result["output"]["text"],
        result["model"],
        result["connection"]["name"],
    )
    assert f"{customer.name}/unsaved/result.json" == result["output_blob"]["name"]
    assert [("answered", 1, 18)] == worker.outcomes(customer)
    assert 1 == len(customer.account.received)


@pytest.mark.usefixtures("without_storage_waits")
async def test_a_result_that_can_never_be_saved_ends_the_job(open_worker: OpenWorker):
    """After five failed attempts the job fails with Storage's reason, in a message; what it consumed is recorded."""
    worker = open_worker(memory=Memory(blobs=RefusingBlobs()))
    customer = worker.customer()

    published = [await worker.deliver(customer, job_id="unsaved", output={"blob": True}) for _ in range(6)]

    assert [None] * 5 == published[:5]
    result = published[5] or {}
    assert ("failed", "internal", 6) == (result["status"], result["error"]["code"], result["attempts"])
    assert "The job's result could not be saved: The blob is refused." == result["error"]["message"]
    assert 1 == result["usage"]["calls"]
    assert [("answered", 1, 18)] == worker.outcomes(customer)


@pytest.mark.usefixtures("without_storage_waits")
async def test_blobs_that_can_not_be_written_are_noticed_before_the_call(worker: Worker):
    """A job that needs a blob is requeued, and makes no call, while blobs can't be written; then it ends."""
    customer = worker.customer()
    worker.memory.blobs.down = True

    published = [await worker.deliver(customer, job_id="unkept", output={"blob": True}) for _ in range(6)]

    assert [None] * 5 == published[:5]
    assert ("internal", "The job's result could not be saved: The container is down.") == (
        (published[5] or {})["error"]["code"],
        (published[5] or {})["error"]["message"],
    )
    assert [] == customer.account.received
