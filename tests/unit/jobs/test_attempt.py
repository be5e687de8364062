"""An attempt keeps its lease while it lasts, and spends nothing once it has lost it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import now
from shared.errors import AlreadyRunning, LeaseLost
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from tests.support.blocking_endpoint import BlockingEndpoint
from tests.support.endpoint import Answer, after, error
from tests.support.job_kinds import JOB_KINDS
from tests.support.simulated_time import SimulatedTime
from tests.support.workers import Memory, OpenWorker, Worker


class ObservedLedger(Ledger):
    """A ledger that sets `lost` when a renewal finds that the lease was lost."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.lost = asyncio.Event()

    async def renew(self, lease: Lease, *, skipped: str = "", operation_id: str = "") -> Lease:
        """See Ledger."""
        try:
            return await super().renew(lease, skipped=skipped, operation_id=operation_id)
        except LeaseLost:
            self.lost.set()
            raise


async def test_the_lease_is_kept_while_the_attempt_lasts(open_worker: OpenWorker, monkeypatch: pytest.MonkeyPatch):
    """An attempt that takes longer than its lease keeps its job: no other worker can claim it at any moment."""
    time = SimulatedTime()
    time.install(monkeypatch)
    worker, blocking = open_worker(lease_s=90), BlockingEndpoint()
    customer = worker.customer()
    customer.account.will_answer(blocking)
    running = asyncio.create_task(worker.run(customer, job_id="long"))
    await blocking.called.wait()
    fingerprint, start, refused_at = worker.row(customer, "long")["fingerprint"], time.time, set()
    while time.time - start < timedelta(seconds=270):
        with pytest.raises(AlreadyRunning):
            await worker.ledger.claim(customer.name, "long", fingerprint=fingerprint, submitted_at=now())
        refused_at.add(time.time)
    blocking.release.set()

    result = await running

    assert ("succeeded", 1) == (result["status"], result["attempts"])
    assert len(refused_at) >= 9
    assert [("answered", 1, 18)] == worker.outcomes(customer)


@pytest.mark.parametrize("members", JOB_KINDS.values(), ids=JOB_KINDS)
async def test_a_response_after_a_lost_lease_is_recorded_as_lost(worker: Worker, members: dict[str, Any]):
    """
    A worker whose job was taken over during its call publishes nothing, changes nothing in the job's row, and writes
    one record of the call that was billed.
    """
    customer = worker.customer()
    customer.account.will_answer(after(lambda: worker.take_over(customer, "taken")))

    published = await worker.deliver(customer, job_id="taken", **members)

    row = worker.row(customer, "taken")
    assert (None, []) == (published, worker.requeued())
    assert ("running", 2) == (row["state"], row["attempt"])
    assert [("lost", 1, 18)] == worker.outcomes(customer)
    assert 1 == len(customer.account.received)


async def test_no_further_call_is_made_with_a_lost_lease(worker: Worker):
    """
    The first response that can't be stored shows that another worker has the job: one more call may be in flight then,
    none is begun. What was answered is recorded.
    """
    customer = worker.customer(max_concurrency=1)
    customer.account.will_answer(after(lambda: worker.take_over(customer, "many")))

    published = await worker.deliver(
        customer, job_id="many", action="multi_chat", input={"prompts": ["One?", "Two?", "Three?"]}
    )

    calls = len(customer.account.received)
    assert published is None
    assert calls in {1, 2}
    assert [("lost", 1, 18)] * calls == worker.outcomes(customer)


@pytest.mark.parametrize(
    ("answer", "members"),
    [
        (error(400), {"action": "multi_chat", "input": {"prompts": ["One?", "Two?"]}}),
        (error(500), {"options": {"retry_delay_ms": 1}}),
    ],
    ids=["next call", "next try"],
)
async def test_a_renewal_that_finds_the_lease_lost_stops_calls_and_tries(
    open_worker: OpenWorker, answer: Answer, members: dict[str, Any]
):
    """Neither a call that waits for its turn nor a retry is made, although nothing of the attempt's has failed."""
    memory = Memory()
    ledger = ObservedLedger(memory.table, lease_s=0.06)
    worker = open_worker(memory=memory, ledger=ledger)
    customer = worker.customer(max_concurrency=1)

    async def take_over() -> None:
        await worker.take_over(customer, "taken")
        await ledger.lost.wait()

    customer.account.will_answer(after(take_over, answer))

    published = await worker.deliver(customer, job_id="taken", **members)

    assert published is None
    assert 1 == len(customer.account.received)
