"""Ends of jobs that share a transaction, on Azurite."""

from __future__ import annotations

import asyncio
import uuid

from shared.jobs.ledger import Ledger
from shared.jobs.shared_writes import SharedWrites
from tests.support.harness import Harness
from tests.support.shared_ends import CountedTable, check, end, leases


async def test_ten_jobs_end_in_one_transaction(harness: Harness) -> None:
    """Storage returns an etag for each of its twenty rows, so that none is written again."""
    table = CountedTable(harness.services.table)
    ledger = Ledger(table, write=SharedWrites(table).write)
    jobs = await leases(table, 10, f"c-{uuid.uuid4().hex}")

    await asyncio.gather(*(end(ledger, lease) for lease in jobs))

    assert table.sizes == [20]
    await check(table, jobs)
