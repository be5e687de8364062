"""The lines of a batch as they are read to be sent."""

from __future__ import annotations

import pytest

from shared.batches.batch_lines import MAX_KEPT_BYTES, BatchLines
from shared.batches.records import BatchRecord
from shared.clock import now
from shared.jobs.lines import MAX_INLINE_BYTES, TAKEN_OUT, Line, body_blob, digest, line_key, line_row
from shared.storage.base import Row
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import MemoryTable

CUSTOMER, BATCH = "acme", "00001764532800000-abc"


@pytest.mark.parametrize(("size", "pages"), [(MAX_KEPT_BYTES, 1), (MAX_KEPT_BYTES + 1, 2)])
async def test_lines_are_measured_and_sent(size: int, pages: int) -> None:
    """Those of a small batch are read once for both. What was taken out is neither."""
    table, blobs, at = MemoryTable(), MemoryBlobs(), now()
    bodies = [b'{"n":0}', b'"taken out"', b'"' + b"x" * MAX_INLINE_BYTES + b'"']
    for number, body in enumerate(bodies):
        line = Line("~1", "chat/completions", body)
        await table.insert(line_row(CUSTOMER, f"job-{number}", BATCH, number, line, message=b"{}"))
    row = table.rows[CUSTOMER, line_key(BATCH, 1)]
    await table.merge(Row(CUSTOMER, row.key, {TAKEN_OUT: True}, row.etag))
    await blobs.write("results", body_blob(CUSTOMER, "job-2", digest(bodies[2])), bodies[2], "application/json")
    members = {"connection": "default", "model": "gpt", "operation": "chat/completions", "lines": 3, "bytes": size}
    batch = BatchRecord(CUSTOMER, BATCH, "e", opened_at=at, first_deadline=at, cancel_at=at, due_at=at, **members)
    lines = BatchLines(table, blobs, "results", batch)

    assert await lines.measure() == (2, len(bodies[0]) + len(bodies[2]))
    assert [each async for each in lines.bodies()] == [(0, bodies[0]), (2, bodies[2])]

    assert table.counts["page"] == pages
    assert [each async for each in BatchLines(table, blobs, "results", batch).bodies()] == [
        (0, bodies[0]),
        (2, bodies[2]),
    ]
