"""Queries of jobs: one by its id, many by time, one by its content."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.errors import AlreadyRunning, JobConflict, RetryLater, StorageUnavailable
from shared.jobs import queries as module
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.jobs.queries import MAX_READ, JobQueries, is_continuation
from shared.storage.base import Row, RowPage
from tests.support.fakes import MemoryTable
from tests.support.rows import every_row

SUBMITTED = datetime(2026, 11, 20, tzinfo=UTC)


class ObservedTable(MemoryTable):
    """A table that records the bounds of its scans, and the rows of its pages."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.bounds: list[str] = []
        self.page_rows: list[Row] = []

    def scan(self, partition: str, first: str, last: str) -> AsyncIterator[Row]:
        """See Table."""
        self.bounds += [first, last]
        return super().scan(partition, first, last)

    async def page(self, *arguments: Any, **options: Any) -> RowPage:
        """See Table."""
        page = await super().page(*arguments, **options)
        self.page_rows += page.rows
        return page


async def claim(table: MemoryTable, job_id: str, submitted_at: datetime = SUBMITTED, fingerprint: str = "x") -> Lease:
    lease = await Ledger(table).claim("acme", job_id, fingerprint=fingerprint, submitted_at=submitted_at)
    assert isinstance(lease, Lease)
    return lease


async def table_of(*job_ids: str) -> ObservedTable:
    """A table with these jobs, submitted in the same millisecond."""
    table = ObservedTable()
    for job_id in job_ids:
        await claim(table, job_id)
    return table


async def newest(
    table: MemoryTable, wanted: Collection[str] | None = None, *, after: str = "", limit: int = 10
) -> tuple[list[str], str]:
    """The ids on a page, all or those that are wanted, and where the next one starts."""
    records, after = await JobQueries(table).newest(
        "acme", after=after, limit=limit, wanted=lambda job: wanted is None or job.job_id in wanted
    )
    return [record.job_id for record in records], after


async def test_a_job_is_read_by_its_id():
    """A job that does not exist, or is another customer's, is None."""
    table = await table_of("job-1")
    queries = JobQueries(table)

    record = await queries.get("acme", "job-1")

    assert record is not None
    assert ("acme", "job-1", "running", 1) == (record.customer, record.job_id, record.state, record.attempt)
    assert record == await queries.get_same("acme", "job-1", "x")
    assert [None] * 3 == [
        await queries.get("acme", "job-2"),
        await queries.get("other", "job-1"),
        await queries.get_same("acme", "job-2", "x"),
    ]
    with pytest.raises(JobConflict):
        await queries.get_same("acme", "job-1", "y")


async def test_the_newest_jobs_come_first():
    """Whatever their ids, and whatever the order in which they got their rows. A job whose row is gone is left out."""
    table = MemoryTable()
    for job_id, minutes in (("b", 3), ("a", 1), ("c", 2), ("d", 0)):
        await claim(table, job_id, SUBMITTED + timedelta(minutes=minutes))

    everything = await newest(table)
    _, after = await newest(table, limit=2)
    del table.rows["acme", "j_c"], table.rows["acme", "j_a"]  # a page may start there all the same

    assert (["b", "c", "a", "d"], "") == everything
    assert (["d"], "") == await newest(table, after=after)


@every_row(
    ("limit", "wanted", "read"),
    [(1, range(200), 1), (20, range(200), 20), (100, range(200), 100), (1, [1], 51), (1, [50], 51), (1, [51], 101)],
)
async def test_a_page_reads_few_jobs(limit: int, wanted: Sequence[int], read: int):
    """The first batch is as long as the page. If not all of it is wanted, batches of 50 jobs follow."""
    table = await table_of(*(f"j{number:03}" for number in range(200)))
    ids, before = {f"j{number:03}" for number in wanted}, table.operations

    await newest(table, ids, limit=limit)

    assert before + 1 + read == table.operations  # and the scan


@pytest.mark.parametrize(("limit", "last"), [(50, "j0999"), (1, "j1000")])
async def test_a_page_ends_although_no_job_is_wanted(limit: int, last: str):
    """After MAX_READ jobs, if it is for one job, too; it names where the next one starts, which finds the rest."""
    table = await table_of(*(f"j{number:04}" for number in range(MAX_READ + 20)))

    ids, after = await newest(table, {"j1010"}, limit=limit)

    assert ([], True) == (ids, after.endswith(f"_{last}"))
    end = "" if limit > 1 else after.replace(last, "j1010")
    assert (["j1010"], end) == await newest(table, {"j1010"}, after=after, limit=limit)


@every_row("size", [1, 2, 3, 60])
async def test_no_job_is_left_out_between_pages(size: int):
    """Whatever is between the jobs that are wanted, and wherever a page ends, each of them is on one page."""
    suffixes = ("", "-", ".-", "_", "0", "A", "a", "aa", "a-")
    ids = {f"{beginning}{number}{end}" for beginning in "ab" for number in range(5) for end in suffixes}
    table = await table_of(*ids)
    for wanted in (ids, {"a0-", "a4aa", "b2a-"}, {"b4a-"}, {"a0"}):
        seen: list[str] = []
        after = ""
        while True:
            page, after = await newest(table, wanted, after=after, limit=size)
            assert len(page) <= size
            seen += page
            if not after:
                break
            assert is_continuation(after)
        assert sorted(wanted) == sorted(seen)
    assert all(bound.isprintable() for bound in table.bounds)  # Azure takes no control character in a filter


async def test_a_job_is_found_by_its_content_without_reading_results():
    """Storage filters by fingerprint and state: no finished job is read, and no column that is not needed."""
    table = ObservedTable(page_size=1)
    ledger = Ledger(table)
    for number in range(3):
        lease = await claim(table, f"done-{number}", fingerprint="same")
        await ledger.complete(lease, b"large", status="succeeded", usage=[])
    for job_id in ("one", "two"):
        lease = await claim(table, job_id, fingerprint="same")
        await ledger.release(lease, (StorageUnavailable if job_id == "two" else RetryLater)("Later.", 1))

    assert "two" == await JobQueries(table).find_unfinished("acme", "same")
    assert ["j_one", "j_two"] == [row.key for row in table.page_rows]
    assert {"state", "lease_until", "failed_attempts", "storage_failed"} == {
        name for row in table.page_rows for name in row.values
    }
    assert [] == table.bounds


@every_row("state", ["running", "waiting"], ids=["died", "storage failed"])
@every_row(
    ("failed_attempts", "closest"),
    [({"A": 0, "a": 1, "b": 3, "zz": 2}, "b"), ({"-": None}, "-"), ({"A": None}, "A"), ({"zz": None}, "zz")],
)
async def test_the_job_with_the_most_failed_attempts_is_found(
    monkeypatch: pytest.MonkeyPatch, state: str, failed_attempts: dict[str, int | None], closest: str
):
    """
    Of several with the same content, the one that is closest to being given up. A crashed one is found before any
    attempt is counted as failed, wherever its id is in the order of keys.
    """
    table = MemoryTable()
    for job_id, number in failed_attempts.items():
        await claim(table, job_id, fingerprint="same")
        row = table.rows["acme", f"j_{job_id}"]
        await table.merge(Row("acme", row.key, {"state": state, "failed_attempts": number}, row.etag))
    if state == "running":
        with pytest.raises(AlreadyRunning, match="same content still runs, or its worker died a moment ago"):
            await JobQueries(table).find_unfinished("acme", "same")
    tomorrow = module.now() + timedelta(days=1)
    monkeypatch.setattr(module, "now", lambda: tomorrow)

    expected = closest if state == "running" or failed_attempts[closest] else None
    assert expected == await JobQueries(table).find_unfinished("acme", "same")


@every_row(
    ("text", "expected"),
    [
        ("t_00000000000001_job-1", True),
        ("t_00000000000001_a_b", True),
        ("j_00000000000001_job-1", False),
        ("t_0000000000001_job-1", False),
        ("t_000000000000011_job-1", False),
        ("t_0000000000000x_job-1", False),
        ("t_0000000000000²_job-1", False),
        ("t_00000000000001_", False),
        ("t_00000000000001_a/b", False),
        ("t_00000000000001", False),
        ("", False),
    ],
)
def test_a_continuation_is_a_key_of_the_order_of_time(text: str, expected: bool):
    """Anything else that a caller sends is refused."""
    assert expected is is_continuation(text)
