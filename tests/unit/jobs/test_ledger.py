"""The ledger on a table in memory."""

from __future__ import annotations

from typing import Any

import pytest

from shared.contract.result import Usage
from shared.errors import (
    AlreadyRunning,
    RateLimited,
    RetryLater,
    StorageUnavailable,
    UpstreamRetryLater,
)
from shared.jobs.ledger import Ledger
from shared.jobs.step_rows import StepRecord
from shared.storage.base import Row, RowChanged, RowExists
from tests.support.fakes import MemoryTable
from tests.support.ledger_contract import LATER, SUBMITTED, Advance, Case, LedgerContract


@pytest.fixture
def case() -> Case:
    """A ledger in memory."""
    table = MemoryTable()
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


class VanishingTable(MemoryTable):
    """A table whose rows exist when they are inserted, and are gone when they are read."""

    async def insert(self, row: Row, **_: Any) -> str:
        """Raise RowExists for every row."""
        raise RowExists(row.key)


async def test_a_row_that_was_just_deleted_is_waited_for():
    """Between the insert that found the row and its reading, it may be deleted: a moment later the job is new."""
    with pytest.raises(AlreadyRunning) as raised:
        await Ledger(VanishingTable()).claim("contoso", "job-1", fingerprint="fingerprint", submitted_at=SUBMITTED)

    assert 1 == raised.value.delay_s


class ChangingTable(MemoryTable):
    """A table whose rows somebody else changes before each merge."""

    async def merge(self, row: Row, **_: Any) -> str:
        """Raise RowChanged for every row."""
        raise RowChanged(row.key)


async def test_a_job_that_another_worker_has_just_claimed_is_waited_for():
    """If another claim comes between the reading of the row and the writing, the job is looked at a second later."""
    table = ChangingTable()
    await table.insert(
        Row("contoso", "j_job-1", {"state": "waiting", "attempt": 1, "fingerprint": "f", "submitted_at": SUBMITTED})
    )

    with pytest.raises(AlreadyRunning, match="Another worker has just claimed job job-1") as raised:
        await Ledger(table).claim("contoso", "job-1", fingerprint="f", submitted_at=SUBMITTED)

    assert 1 == raised.value.delay_s


@pytest.mark.parametrize("use", ["claim", "release", "complete", "find_unfinished", "steps"])
async def test_every_method_raises_if_storage_does_not_answer(case: Case, use: str):
    """It is StorageUnavailable."""
    lease = await case.lease()
    await case.ledger.release(lease, LATER)
    lease = await case.lease()
    case.table.down = True
    uses = {
        "claim": case.claim,
        "release": lambda: case.ledger.release(lease, LATER),
        "complete": lambda: case.complete(lease),
        "find_unfinished": lambda: case.queries.find_unfinished(case.customer, "fingerprint"),
        "steps": lambda: case.ledger.steps(lease),
    }

    with pytest.raises(StorageUnavailable):
        await uses[use]()


@pytest.mark.parametrize(
    ("because", "reason", "code"),
    [
        (RetryLater("Later.", 1), "Later.", ""),
        (UpstreamRetryLater(RateLimited("Slow down."), 60, 2), "Slow down.", "rate_limited"),
        (RetryLater("x" * 1001, 1), "x" * 1000, ""),
    ],
)
async def test_a_release_keeps_its_reason(case: Case, because: RetryLater, reason: str, code: str):
    """The next lease has the reason, up to 1000 characters, and its error code if it has one."""
    await case.ledger.release(await case.lease(), because)

    lease = await case.lease()

    assert (reason, code) == (lease.reason, lease.reason_code)


async def test_a_release_keeps_what_could_not_be_recovered(case: Case):
    """It is what all attempts have consumed in vain, unless this one adds nothing."""
    usage = Usage(calls=2, input_tokens=7)
    await case.ledger.release(await case.lease(), LATER, unrecoverable_usage=usage)
    lease = await case.lease()
    await case.ledger.release(lease, LATER)

    assert usage == lease.unrecoverable_usage == (await case.lease()).unrecoverable_usage


async def test_steps_are_stored_in_order_with_their_usage(case: Case):
    """A later attempt gets the steps of this job, not those of a job whose id begins alike; a first one reads none."""
    usage = Usage(calls=1, input_tokens=3)
    row = Row(case.customer, "u_2026-11_job-1_0002", {"calls": 1})
    for job_id in ("job-1", "job-1.2"):
        lease = await case.lease(job_id)
        operations = case.table.operations
        assert [] == await case.ledger.steps(lease)
        assert operations == case.table.operations
        steps = [StepRecord(f"{number:04}", f"{job_id}".encode(), usage) for number in (2, 1)]
        if job_id == "job-1":
            steps[0] = StepRecord("0002", b"job-1", usage, in_blob=True, usage_rows=[row])
        await case.ledger.release(await case.ledger.save_steps(lease, steps), LATER)

    steps = await case.ledger.steps(await case.lease())

    assert [("0001", b"job-1", usage, False), ("0002", b"job-1", usage, True)] == [
        (step.key, step.value, step.usage, step.in_blob) for step in steps
    ]
    assert [row.key] == await case.usage()


async def test_a_transaction_that_is_refused_without_a_conflict_loses_no_lease(
    case: Case, monkeypatch: pytest.MonkeyPatch
):
    """If Storage refuses added rows although none of them exists, the job is not dropped, and can still be ended."""
    lease = await case.lease()
    await case.table.insert(Row(case.customer, "u_2026-11_job-1_0000", {"calls": 9}))

    async def read_no_usage(partition: str, key: str) -> Row | None:
        return None if key.startswith("u_") else await MemoryTable.read(case.table, partition, key)

    monkeypatch.setattr(case.table, "read", read_no_usage)

    with pytest.raises(StorageUnavailable, match="refused a change of job job-1, although nothing conflicts"):
        await case.complete(lease)
    monkeypatch.undo()
    await case.complete(lease)

    assert "done" == case.table.rows[case.customer, "j_job-1"].values["state"]
