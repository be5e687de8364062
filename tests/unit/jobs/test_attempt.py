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
from tests.support.fakes import Fault
from tests.support.job_kinds import JOB_KINDS
from tests.support.simulated_time import SimulatedTime
from tests.support.workers import Memory, OpenWorker, Worker


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> SimulatedTime:
    """Time that passes only while attempts sleep."""
    time = SimulatedTime()
    time.install(monkeypatch)
    return time


class ObservedLedger(Ledger):
    """A ledger that sets `lost` when a renewal finds that the lease was lost."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.lost = asyncio.Event()

    async def renew(self, lease: Lease, *, operation_id: str = "") -> Lease:
        """See Ledger."""
        try:
            return await super().renew(lease, operation_id=operation_id)
        except LeaseLost:
            self.lost.set()
            raise


async def test_the_lease_is_kept_while_the_attempt_lasts(open_worker: OpenWorker, time: SimulatedTime):
    """An attempt that takes longer than its lease keeps its job: no other worker can claim it at any moment."""
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


async def test_no_lease_is_renewed_after_the_attempt(open_worker: OpenWorker):
    """When the attempt has ended, nothing is renewed: the row stays as it was closed."""
    worker = open_worker(lease_s=0.06)
    customer = worker.customer()

    await worker.run(customer, job_id="short")
    before = worker.table.rows[customer.name, "j_short"]
    await asyncio.sleep(0.1)

    assert before == worker.table.rows[customer.name, "j_short"]


async def test_a_renewal_that_fails_is_repeated(
    open_worker: OpenWorker, time: SimulatedTime, caplog: pytest.LogCaptureFixture
):
    """If Storage does not take one renewal, or loses its response, the next one is in time."""
    worker, blocking = open_worker(lease_s=90), BlockingEndpoint()
    customer = worker.customer()
    worker.table.faults.extend([None, Fault.REFUSED, Fault.LOST])
    customer.account.will_answer(blocking)
    running = asyncio.create_task(worker.run(customer, job_id="long"))

    await blocking.called.wait()
    await time.wait(150)  # both renewals that fail, and two more
    left = worker.row(customer, "long")["lease_until"] - time.time
    blocking.release.set()
    result = await running

    assert not worker.table.faults
    assert left > timedelta(0)
    assert ("succeeded", 1) == (result["status"], result["attempts"])
    assert [("answered", 1, 18)] == worker.outcomes(customer)
    assert 2 == caplog.text.count(f"lease_not_renewed customer={customer.name} job_id=long")


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


@pytest.mark.parametrize("second_ends_first", [True, False])
@pytest.mark.parametrize("members", JOB_KINDS.values(), ids=JOB_KINDS)
async def test_an_attempt_that_was_slow_is_recorded_once(
    worker: Worker, members: dict[str, Any], second_ends_first: bool
):
    """
    Whether the attempt that took a job over ends before or after the first one gets its response: the first one's call
    has one record, with what it consumed, and no placeholder counts.
    """
    customer, slow, quick = worker.customer(), BlockingEndpoint(), BlockingEndpoint()
    customer.account.will_answer(slow, quick)
    first = asyncio.create_task(worker.deliver(customer, job_id="taken", **members))
    await slow.called.wait()
    await worker.expire_lease(customer, "taken")
    second = asyncio.create_task(worker.another().run(customer, job_id="taken", **members))
    await quick.called.wait()

    for endpoint, attempt in (
        [(quick, second), (slow, first)] if second_ends_first else [(slow, first), (quick, second)]
    ):
        endpoint.release.set()
        await attempt

    result = second.result()
    assert first.result() is None
    assert ("succeeded", 2, 1) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [("answered", 1, 18), ("lost", 1, 18)] == worker.outcomes(customer)


async def test_a_slow_attempt_that_was_billed_nothing_supersedes_its_placeholder(worker: Worker):
    """An attempt that was taken for dead, and whose call was refused, records that it was billed nothing."""
    customer, slow = worker.customer(), BlockingEndpoint(error(400))
    customer.account.will_answer(slow)
    first = asyncio.create_task(worker.deliver(customer, job_id="taken"))
    await slow.called.wait()
    await worker.expire_lease(customer, "taken")
    await worker.another().run(customer, job_id="taken")
    between = worker.outcomes(customer)

    slow.release.set()
    await first

    assert [("answered", 1, 18), ("unanswered", 0, 0)] == between
    assert [("answered", 1, 18)] == worker.outcomes(customer)


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
