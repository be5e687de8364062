"""Jobs that a batch has woken, and that end at once; see `shared.jobs.shared_writes`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from shared.clock import now
from shared.contract.usage import Usage
from shared.jobs.lease import Lease, waiting_values
from shared.jobs.ledger import Ledger
from shared.jobs.records import FinishedJob
from shared.storage.base import Row, Table

CUSTOMER = "acme"


class CountedTable:
    """A table that keeps how many rows each transaction had."""

    def __init__(self, table: Table) -> None:
        self.sizes: list[int] = []
        self._table = table

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    async def merge_and_insert(self, changed: Row, added: Sequence[Row], *, operation_id: str = "") -> Sequence[str]:
        """See Table."""
        self.sizes.append(1 + len(added))
        return await self._table.merge_and_insert(changed, added, operation_id=operation_id)


async def leases(table: CountedTable, number: int, customer: str = CUSTOMER) -> list[Lease]:
    """Return leases of jobs that a batch has woken: their claims have written nothing."""
    made = []
    for each in range(number):
        members = {"fingerprint": "f", "submitted_at": now()}
        plain, job_id = Ledger(table), f"job-{each}"
        lease = await plain.claim(customer, job_id, **members)
        assert isinstance(lease, Lease)
        values = waiting_values(lease, Usage(), skipped="", stepless=True) | {"lines": f"b:{each}+1"}
        await table.merge(replace(lease.first_write(values)[0]))
        woken = await plain.claim(customer, job_id, **members, exists=True, buys=False)
        assert isinstance(woken, Lease)
        assert woken.unwritten is not None
        made.append(woken)
    table.sizes.clear()
    return made


def record_of(lease: Lease) -> Row:
    """Return the usage record of a call that ends now: one of an earlier day would be written under a later one."""
    return Row(lease.customer, f"u_{now():%Y-%m-%d}_{lease.job_id}_{lease.incarnation}_0000", {"calls": 1})


async def end(ledger: Ledger, lease: Lease, result: bytes = b"{}", operation_id: str = "") -> None:
    """End a job with one usage record."""
    usage = [record_of(lease)]
    await ledger.complete(lease, result, status="succeeded", usage=usage, operation_id=operation_id)


async def check(table: CountedTable, jobs: Sequence[Lease]) -> None:
    """Fail if a job is not done, or has not its one record."""
    for lease in jobs:
        done = await Ledger(table).claim(lease.customer, lease.job_id, fingerprint="f", submitted_at=now(), exists=True)
        assert done == FinishedJob(b"{}")
    customers = {lease.customer for lease in jobs}
    records = [row for customer in customers async for row in table.scan(customer, "u_", "u`")]
    assert len(records) == len(jobs)
