"""The ends of jobs that share a transaction: what becomes of each if one is in the way, or Storage fails."""

from __future__ import annotations

import asyncio

import pytest

from shared.clock import now
from shared.errors import LeaseLost, StorageUnavailable
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.jobs.shared_writes import MAX_RESULT_BYTES, SharedWrites
from tests.support.fakes import Fault, MemoryTable
from tests.support.shared_ends import CUSTOMER, CountedTable, check, end, leases, record_of


@pytest.fixture
def table() -> CountedTable:
    """A table in memory."""
    return CountedTable(MemoryTable())


@pytest.fixture
def ledger(table: CountedTable) -> Ledger:
    """A ledger whose jobs end together."""
    return Ledger(table, write=SharedWrites(table).write)


async def test_jobs_that_end_at_once_share_transactions(table: CountedTable, ledger: Ledger) -> None:
    """Of one customer, as many as a transaction takes."""
    jobs = [*await leases(table, 60), *await leases(table, 2, "other")]
    table.sizes.clear()

    await asyncio.gather(*(end(ledger, lease) for lease in jobs))

    await check(table, jobs)
    assert sorted(table.sizes) == [4, 20, 100]


async def test_a_job_that_ends_alone_is_written_alone(table: CountedTable, ledger: Ledger) -> None:
    """As are large results, and whatever is not the end."""
    single, large, *small = await leases(table, 4)
    await end(ledger, single)
    large = await ledger.renew(large)
    assert table.sizes == [2, 1]
    table.sizes.clear()

    await asyncio.gather(end(ledger, large, b"x" * (MAX_RESULT_BYTES + 1)), *(end(ledger, lease) for lease in small))

    assert sorted(table.sizes) == [2, 4]


async def test_a_job_that_another_worker_has_ended_is_in_nobody_s_way(table: CountedTable, ledger: Ledger) -> None:
    """It has lost its lease; the others end."""
    jobs = await leases(table, 5)
    again = await Ledger(table).claim(
        CUSTOMER, jobs[2].job_id, fingerprint="f", submitted_at=now(), exists=True, buys=False
    )
    assert isinstance(again, Lease)
    await end(Ledger(table), again)

    outcomes = await asyncio.gather(*(end(ledger, lease) for lease in jobs), return_exceptions=True)

    assert [None, None, LeaseLost, None, None] == [each and type(each) for each in outcomes]
    await check(table, jobs)


async def test_a_job_that_ends_twice_on_one_worker_ends_once(table: CountedTable, ledger: Ledger) -> None:
    """Two deliveries of its message at once have the same rows, which no transaction takes."""
    jobs = await leases(table, 3)
    again = await Ledger(table).claim(
        CUSTOMER, jobs[0].job_id, fingerprint="f", submitted_at=now(), exists=True, buys=False
    )
    assert isinstance(again, Lease)

    outcomes = await asyncio.gather(*(end(ledger, lease) for lease in [*jobs, again]), return_exceptions=True)

    assert [LeaseLost] == [type(each) for each in outcomes if each is not None]
    await check(table, jobs)


async def test_a_record_that_exists_is_in_nobody_s_way(table: CountedTable, ledger: Ledger) -> None:
    """Each finds its own conflicts, as if it had been alone."""
    jobs = await leases(table, 3)
    await table.insert(record_of(jobs[1]))

    await asyncio.gather(*(end(ledger, lease) for lease in jobs))

    await check(table, jobs)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("faults", range(1, 4))
async def test_storage_may_fail(table: CountedTable, ledger: Ledger, fault: Fault, faults: int) -> None:
    """Whether it was made or not, each is repeated under its id until it succeeds, and is made once."""
    jobs = await leases(table, 3)
    table.faults.extend([fault] * faults)

    async def persist(lease: Lease) -> None:
        for _ in range(5):
            try:
                await end(ledger, lease, operation_id=f"end of {lease.job_id}")
            except StorageUnavailable:
                continue
            return
        raise AssertionError

    await asyncio.gather(*map(persist, jobs))

    await check(table, jobs)
