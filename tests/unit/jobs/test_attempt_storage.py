"""Storage fails while an attempt writes: no job is lost and nothing is bought twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.clock import now
from shared.errors import StorageUnavailable
from shared.jobs import attempt as attempts
from tests.support.endpoint import after, completion
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import Fault
from tests.support.job_kinds import JOB_KINDS
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


@pytest.mark.parametrize(("waits", "recorded"), [((0.001,), [("lost", 1, 18)]), ((), [])], ids=["one wait", "no wait"])
async def test_lost_calls_are_recorded_or_logged(
    worker: Worker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    waits: tuple[float, ...],
    recorded: list[tuple[str, int, int]],
):
    """An attempt that has lost its lease repeats the record of its calls, or logs that it can't: nobody else will."""
    monkeypatch.setattr(attempts, "STORAGE_WAITS_S", waits)
    customer = worker.customer()

    async def take_over() -> None:
        await worker.take_over(customer, "taken")
        worker.table.faults.extend([None, Fault.REFUSED])  # the attempt's own write is a conflict

    customer.account.will_answer(after(take_over))

    assert await worker.deliver(customer, job_id="taken") is None

    assert recorded == worker.outcomes(customer)
    logged = f"usage_not_recorded customer={customer.name} job_id=taken: The write was refused."
    assert (logged in caplog.text) == (not recorded)


@pytest.mark.usefixtures("without_storage_waits")
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
@pytest.mark.parametrize("members", STEPS.values(), ids=STEPS)
async def test_a_step_that_is_stored_late_is_not_called_again(worker: Worker, fault: Fault, members: dict[str, Any]):
    """A step or outcome that can't be stored, or whose response gets lost, is stored once with the job's release."""
    customer = worker.customer()
    worker.table.faults.extend([None, fault])

    assert await worker.deliver(customer, job_id="late", **members) is None
    result = await worker.run(customer, worker.requeued()[0][0])

    assert ("succeeded", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [("answered", 1, 18)] == worker.outcomes(customer)
    assert 1 == len(customer.account.received)


class RefusingBlobs(MemoryBlobs):
    """Blobs that refuse results, or what `refused` ends with, while `refusing`."""

    refusing = True
    refused = "result.json"

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """See Blobs."""
        if self.refusing and name.endswith(self.refused):
            raise StorageUnavailable("The blob is refused.")
        await super().write(container, name, data, content_type)


@pytest.mark.usefixtures("without_storage_waits")
async def test_an_attempt_whose_answer_got_lost_is_counted(open_worker: OpenWorker):
    """It may be paid for again at each attempt, so the job is given up after five of these, whatever its deadline."""
    blobs = RefusingBlobs()
    blobs.refused = "outcome.json"
    worker = open_worker(memory=Memory(blobs=blobs))
    customer = worker.customer()
    customer.account.will_answer(*[completion("word " * 20_000)] * 5)

    published = [await worker.deliver(customer, job_id="lost") for _ in range(6)]

    assert [None] * 5 == published[:5]
    assert "given up after 5 failed attempts" in (published[5] or {})["error"]["message"]
    assert ["lost"] * 5 == [outcome for outcome, _, _ in worker.outcomes(customer)]


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
@pytest.mark.parametrize(
    ("down", "reason", "calls"),
    [(False, "The blob is refused.", 1), (True, "The container is down.", 0)],
    ids=["noticed after the call", "noticed before the call"],
)
async def test_a_result_that_can_never_be_saved_ends_the_job(
    open_worker: OpenWorker, down: bool, reason: str, calls: int
):
    """
    However often it is tried, until ten minutes after its deadline; then the job fails with Storage's reason, in a
    message, and what it consumed is recorded. It makes no call while no blob can be written.
    """
    blobs = RefusingBlobs(down=down)
    blobs.refusing = not down
    worker = open_worker(memory=Memory(blobs=blobs))
    customer = worker.customer()
    members: dict[str, Any] = {"job_id": "unsaved", "output": {"blob": True}}
    submitted_at = now() - timedelta(days=1)  # the deadline

    published = [await worker.deliver(customer, **members) for _ in range(7)]
    assert ("waiting", 0) == tuple(worker.row(customer, "unsaved")[name] for name in ("state", "failed_attempts"))
    await worker.change_row(customer, "unsaved", submitted_at=submitted_at)
    published.append(await worker.deliver(customer, **members))
    await worker.change_row(customer, "unsaved", submitted_at=submitted_at - timedelta(seconds=601))
    result = await worker.run(customer, **members)

    assert [None] * 8 == published
    assert ("failed", "internal", 9) == (result["status"], result["error"]["code"], result["attempts"])
    assert f"The job's result could not be saved: {reason}" == result["error"]["message"]
    assert calls == result["usage"]["calls"] == len(customer.account.received)
    assert [("answered", 1, 18)] * calls == worker.outcomes(customer)
