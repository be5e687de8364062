"""Jobs on record, page by page: how many are looked at, and that none is left out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from shared.jobs.ledger import Ledger
from shared.jobs.queries import MAX_READ, JobQueries
from shared.storage.base import Row
from tests.support.fakes import MemoryTable


class Watched(MemoryTable):
    """A table that keeps the bounds of its scans."""

    def __init__(self) -> None:
        super().__init__()
        self.bounds: list[str] = []

    def scan(self, partition: str, first: str, last: str) -> AsyncIterator[Row]:
        """See `stores.Table`."""
        self.bounds += [first, last]
        return super().scan(partition, first, last)


async def recorded(*job_ids: str) -> Watched:
    """A table with these jobs, submitted in the same millisecond."""
    table = Watched()
    for job_id in job_ids:
        await Ledger(table).claim("acme", job_id, fingerprint="x", submitted_at=datetime(2026, 11, 20, tzinfo=UTC))
    return table


async def test_jobs_that_are_not_wanted_are_looked_at_by_number():
    """A page of one looks at as many jobs as any other page, for one that is wanted."""
    table = await recorded(*(f"j{number:03}" for number in range(MAX_READ - 20)))

    assert ([], "") == await JobQueries(table).newest("acme", after="", limit=1, wanted=lambda _: False)


@pytest.mark.parametrize("size", [1, 2, 3, 60])
async def test_pages_of_one_status_leave_nothing_out(size: int):
    """Whatever is between those that are wanted, and wherever a page ends, each of them is on one page."""
    ends = ("", "-", ".", "_", "0", "A", "a", "aa", "a-")
    ids = {f"{beginning}{number}{end}" for beginning in "ab" for number in range(5) for end in ends}
    table = await recorded(*ids)
    for wanted in (ids, {"a0-", "a4aa", "b2a-"}, {"b4a-"}, {"a0"}):
        seen: list[str] = []
        after = ""
        while True:
            page, after = await JobQueries(table).newest(
                "acme", after=after, limit=size, wanted=lambda one, wanted=wanted: one.job_id in wanted
            )
            assert len(page) <= size
            seen += [one.job_id for one in page]
            if not after:
                break
        assert sorted(wanted) == sorted(seen)
    assert all(bound.isprintable() for bound in table.bounds)  # Azure takes no control character in a filter
