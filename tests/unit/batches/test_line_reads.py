"""Reads of single lines, which share queries."""

from __future__ import annotations

import asyncio

import pytest

from shared.batches.line_reads import MAX_LINES, MAX_SPREAD, LineReads
from shared.errors import StorageUnavailable
from shared.jobs.lines import MAX_INLINE_BYTES, line_key
from shared.network.pool import MAX_RESPONSE_BYTES
from shared.storage.base import Row
from shared.storage.entities import render_entity
from tests.support.fakes import MemoryTable

CUSTOMER, BATCH = "acme", "00001764532800000-abc"


@pytest.fixture
async def table() -> MemoryTable:
    """A table with 300 lines of a batch."""
    table = MemoryTable()
    for number in range(300):
        values = {"job_id": f"job-{number}", "key": "~1", "body": b"{}", "status": 200, "answer": b"{}"}
        await table.insert(Row(CUSTOMER, line_key(BATCH, number), values))
    table.operations = 0
    return table


async def read(reads: LineReads, *numbers: int) -> list[str | None]:
    """Read lines at once; return their jobs."""
    rows = await asyncio.gather(*(reads.read(CUSTOMER, BATCH, number) for number in numbers))
    return [None if row is None else row.values["job_id"] for row in rows]


async def test_lines_that_are_wanted_at_once_are_read_by_one_query(table: MemoryTable) -> None:
    """Without what was sent, in whatever order they are wanted."""
    numbers = [12, 11, 24, 18, 10]
    assert await read(LineReads(table), *numbers) == [f"job-{number}" for number in numbers]
    assert table.operations == 1
    row, _ = await asyncio.gather(*(LineReads(table).read(CUSTOMER, BATCH, number) for number in (1, 2)))
    assert row is not None
    assert "answer" in row.values


async def test_lines_that_are_far_apart_are_read_one_by_one(table: MemoryTable) -> None:
    """A query would read what nobody wants. So is one alone, and a line may be gone, or be wanted twice."""
    reads = LineReads(table)
    assert await read(reads, 1, 280, 301) == ["job-1", "job-280", None]
    assert table.operations == 3
    assert await read(reads, 7) == ["job-7"]
    assert table.operations == 4
    assert await read(reads, 298, 299, 299, 301) == ["job-298", "job-299", "job-299", None]
    assert table.operations == 5


async def test_no_query_is_for_too_many_lines(table: MemoryTable) -> None:
    """Their answers are in memory at once."""
    assert await read(LineReads(table), *range(90)) == [f"job-{number}" for number in range(90)]
    assert table.operations == 3
    longest = Row(CUSTOMER, line_key(BATCH, 1), {"answer": b"x" * MAX_INLINE_BYTES, "request_id": "x" * 500})
    assert MAX_LINES * MAX_SPREAD * len(render_entity(longest)) < MAX_RESPONSE_BYTES


async def test_batches_have_queries_of_their_own(table: MemoryTable) -> None:
    """As have customers."""
    await table.insert(Row("other", line_key(BATCH, 1), {"job_id": "other"}))
    reads = LineReads(table)
    wanted = [(CUSTOMER, BATCH), ("other", BATCH), (CUSTOMER, "another")]
    rows = await asyncio.gather(*(reads.read(*of, 1) for of in wanted))
    assert [row and row.values["job_id"] for row in rows] == ["job-1", "other", None]


async def test_storage_may_fail(table: MemoryTable) -> None:
    """All who want a line then know it, and may ask again."""
    table.down, reads = True, LineReads(table)
    for numbers in ((1, 2), (1, 299), (1,)):
        outcomes = await asyncio.gather(*(reads.read(CUSTOMER, BATCH, n) for n in numbers), return_exceptions=True)
        assert {StorageUnavailable} == set(map(type, outcomes))
    table.down = False
    assert await read(reads, 1, 2) == ["job-1", "job-2"]
