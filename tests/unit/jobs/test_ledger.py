"""The ledger on a table in memory: its contract, and what only that table can do between two operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import pytest

from shared.contract.documents import CallbackState
from shared.contract.result import Usage
from shared.errors import AlreadyRunning, LeaseLost, StorageUnavailable
from shared.jobs.lease import Lease
from shared.jobs.step_rows import StepRecord
from shared.storage.base import Row, RowChanged
from tests.support.fakes import Fault, MemoryTable
from tests.support.ledger_contract import LATER, RESULT, Advance, Case, LedgerContract


class UncertainTable(MemoryTable):
    """A table whose row to be changed is gone, changed or the very same, in spite of a refusal."""

    vanishing = changing = refusing = False

    async def merge(self, row: Row, *, operation_id: str = "") -> str:
        """See Table."""
        return (await self.merge_and_insert(row, (), operation_id=operation_id))[0]

    async def merge_and_insert(self, changed: Row, added: Sequence[Row], *, operation_id: str = "") -> Sequence[str]:
        """See Table."""
        if (self.vanishing and not changed.etag) or (self.changing and changed.etag):
            raise RowChanged(changed.key)
        if self.refusing:
            raise RowChanged(changed.key, self.rows[changed.partition, changed.key])
        return await super().merge_and_insert(changed, added, operation_id=operation_id)


@pytest.fixture
def table() -> UncertainTable:
    """A table in memory."""
    return UncertainTable()


@pytest.fixture
def case(table: UncertainTable) -> Case:
    """A ledger in memory."""
    return Case(table, table.faults)


class TestLedgerInMemory(LedgerContract):
    """See LedgerContract."""

    async def test_a_crashed_attempt_is_remembered_until_usage_is_written(self, case: Case, advance: Advance):
        """The first usage records after a crash include that of the crashed attempt; from then on it is forgotten."""
        await case.lease()
        advance(100)
        lease = await case.lease()
        renewed = await case.ledger.renew(lease)
        saved = await case.ledger.save_steps(renewed, [StepRecord("0001", b"1", Usage())])

        assert [(1,), (1,), ()] == [each.crashed_attempts for each in (lease, renewed, saved)]
        assert "" == (await case.values())["crashed_attempts"]
        await case.ledger.release(saved, LATER)
        assert () == (await case.lease()).crashed_attempts


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("vanishing", "The row of job job-1 has just been deleted."),
        ("changing", "Another worker has just claimed job job-1."),
    ],
)
async def test_a_claim_that_meets_a_change_is_repeated(case: Case, table: UncertainTable, attribute: str, message: str):
    """If a row is deleted between the insert that found it and its reading, or claimed: the job waits for a second."""
    await case.ledger.release(await case.lease(), LATER)
    setattr(table, attribute, True)

    with pytest.raises(AlreadyRunning, match=message) as raised:
        await case.claim()

    assert 1 == raised.value.delay_s


async def test_the_lease_on_a_deleted_job_is_lost(case: Case, table: UncertainTable):
    """A job whose row is deleted while it runs is not written any more, nor is its usage."""
    lease = await case.lease()
    table.rows.clear()

    for write in (case.ledger.renew(lease), case.complete(lease, calls=1)):
        with pytest.raises(LeaseLost, match="job-1"):
            await write

    assert {} == table.rows


async def test_every_read_raises_if_storage_does_not_answer(case: Case, table: UncertainTable):
    """It is StorageUnavailable, as it is for writes."""
    await case.ledger.release(await case.lease(), LATER)
    lease = await case.lease()
    table.down = True

    for read in (case.claim(), case.queries.find_unfinished(case.customer, "fingerprint"), case.ledger.steps(lease)):
        with pytest.raises(StorageUnavailable):
            await read


async def test_steps_are_stored_in_order_with_their_usage(case: Case, table: UncertainTable):
    """A later attempt gets the steps of this job, not those of a job whose id begins alike; a first one reads none."""
    usage = Usage(calls=1, input_tokens=3)
    row = Row(case.customer, "u_2026-11_job-1_0002", {"calls": 1})
    for job_id, records in (("job-1", [row]), ("job-1.2", [])):
        lease = await case.lease(job_id)
        operations = table.operations
        assert [] == await case.ledger.steps(lease)
        assert operations == table.operations
        value = job_id.encode()
        steps = [
            StepRecord("0002", value, usage, in_blob=True, usage_rows=records),
            StepRecord("0001", value, usage),
        ]
        await case.ledger.release(await case.ledger.save_steps(lease, steps), LATER)

    steps = await case.ledger.steps(await case.lease())

    assert [("0001", b"job-1", usage, False), ("0002", b"job-1", usage, True)] == [
        (step.key, step.value, step.usage, step.in_blob) for step in steps
    ]
    assert [row.key] == await case.usage()


@pytest.mark.parametrize("calls", [0, 1])
async def test_a_refusal_without_a_conflict_loses_no_lease(case: Case, table: UncertainTable, calls: int):
    """If Storage refuses a change although the row and the lease are the same, the job can still be ended."""
    lease, table.refusing = await case.lease(), True

    with pytest.raises(StorageUnavailable, match="refused a change of job job-1, although nothing conflicts"):
        await case.complete(lease, calls=calls)
    table.refusing = False
    await case.complete(lease, calls=calls)

    assert ("done", calls) == ((await case.values())["state"], len(await case.usage()))


def release(case: Case, lease: Lease) -> Awaitable[object]:
    """Release the job under an operation id."""
    return case.ledger.release(lease, LATER, operation_id="operation")


def complete(case: Case, lease: Lease) -> Awaitable[object]:
    """Complete the job under an operation id."""
    usage = [Row(case.customer, "u_2026-11_job-1_0000", {"calls": 1})]
    return case.ledger.complete(lease, RESULT, status="succeeded", usage=usage, operation_id="operation")


def cancel(case: Case) -> Awaitable[object]:
    """Cancel the job."""
    return case.updates.cancel(case.customer, "job-1")


Write = Callable[[Case, Lease], Awaitable[object]]
Change = Callable[[Case], Awaitable[object]]


@pytest.mark.parametrize(
    ("write", "change"),
    [
        (release, cancel),
        (release, lambda case: case.updates.add_failed_attempt(case.customer, "job-1")),
        (
            complete,
            lambda case: case.updates.save_callback_state(
                case.customer, "job-1", CallbackState(status="waiting", attempts=1)
            ),
        ),
    ],
    ids=["released, then cancelled", "released, then failed attempt added", "completed, then callback saved"],
)
async def test_a_write_without_a_response_is_recognized_after_another_change(
    case: Case, table: UncertainTable, write: Write, change: Change
):
    """
    If somebody without a lease has changed the row before the write is repeated, its operation id is the other's; its
    owner and its state show that the write was made. It is not made again.
    """
    lease = await case.lease()
    table.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await write(case, lease)
    await change(case)
    before = dict(table.rows)

    await write(case, lease)

    assert before == table.rows


@pytest.mark.parametrize(
    ("change", "repeated"), [(Case.lease, release), (cancel, complete)], ids=["release", "completion"]
)
async def test_another_write_is_not_taken_for_the_leases_own(
    case: Case, table: UncertainTable, change: Change, repeated: Write
):
    """A released job is not released again once another worker has it, nor completed once it was cancelled."""
    lease = await case.lease()
    table.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await release(case, lease)
    await change(case)

    with pytest.raises(LeaseLost):
        await repeated(case, lease)
