"""The lines of a batch as they stand in the table, one page at a time, for whoever sends them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from shared.batches.parts import BatchParts
from shared.batches.records import BatchRecord
from shared.errors import StorageUnavailable
from shared.jobs.lines import TAKEN_OUT, body_blob, line_key, line_number
from shared.storage.base import Blobs, Row, Table
from shared.storage.bulk import read_pages

_MAX_BODY = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BatchLines:
    """The lines of one batch that are to be sent."""

    table: Table
    blobs: Blobs
    container: str
    batch: BatchRecord

    async def measure(self) -> tuple[int, int]:
        """Return how many lines there are, and how many bytes their bodies have. Raises StorageUnavailable."""
        rows = [row async for row in line_rows(self.table, self.batch, "size", TAKEN_OUT)]
        sizes = [row.values["size"] for row in rows if not row.values.get(TAKEN_OUT)]
        return len(sizes), sum(sizes)

    async def bodies(self) -> AsyncIterator[tuple[int, bytes]]:
        """Iterate over the numbers and bodies of its lines. Raises StorageUnavailable."""
        async for row in line_rows(self.table, self.batch, "job_id", "digest", "body", TAKEN_OUT):
            if not row.values.get(TAKEN_OUT):
                yield line_number(row.key), await self._body(row)

    async def _body(self, row: Row) -> bytes:
        body: bytes | None = row.values.get("body")
        if body is None:
            name = body_blob(row.partition, row.values["job_id"], row.values["digest"])
            body = await self.blobs.read(self.container, name, _MAX_BODY)
        if body is None:
            raise StorageUnavailable("The body of a line is gone.")
        return body


def lines_of(parts: BatchParts, batch: BatchRecord) -> BatchLines:
    """Return a batch's lines."""
    return BatchLines(parts.table, parts.blobs, parts.settings.results_container, batch)


async def line_rows(table: Table, batch: BatchRecord, *columns: str, first: int = 0) -> AsyncIterator[Row]:
    """Iterate over a batch's lines in their order, from the number `first` on. Raises StorageUnavailable."""
    keys = line_key(batch.batch_id, first), line_key(batch.batch_id, batch.lines)
    async for rows in read_pages(table, batch.customer, *keys, columns=columns):
        for row in rows:
            yield row
