"""The lines of a batch as they stand in the table, one page at a time, for whoever sends them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from shared.batches.parts import BatchParts
from shared.batches.records import BatchRecord
from shared.errors import StorageUnavailable
from shared.jobs.lines import TAKEN_OUT, body_blob, line_key, line_number
from shared.storage.base import Blobs, Row, Table
from shared.storage.bulk import read_pages

_MAX_BODY = 64 * 1024 * 1024
MAX_KEPT_BYTES = 4 * 1024 * 1024
"""Of lines that are read once for two uses."""
_SIZES = ("size", TAKEN_OUT)
_BODIES = ("job_id", "digest", "body")


@dataclass(frozen=True, slots=True)
class BatchLines:
    """The lines of one batch that are to be sent."""

    table: Table
    blobs: Blobs
    container: str
    batch: BatchRecord
    _kept: list[Row] = field(default_factory=list, compare=False)
    """Those that are to be sent, once they are measured, if they are few. None leaves or joins the batch any more."""

    async def measure(self) -> tuple[int, int]:
        """Return how many lines there are, and how many bytes their bodies have. Raises StorageUnavailable."""
        keeps = self.batch.bytes <= MAX_KEPT_BYTES
        columns = (*_SIZES, *_BODIES) if keeps else _SIZES
        rows = [row async for row in self._rows(*columns)]
        if keeps:
            self._kept[:] = rows
        return len(rows), sum(row.values["size"] for row in rows)

    async def bodies(self) -> AsyncIterator[tuple[int, bytes]]:
        """Iterate over the numbers and bodies of its lines. Raises StorageUnavailable."""
        for row in self._kept:
            yield line_number(row.key), await self._body(row)
        if not self._kept:
            async for row in self._rows(*_BODIES, TAKEN_OUT):
                yield line_number(row.key), await self._body(row)

    async def _rows(self, *columns: str) -> AsyncIterator[Row]:
        async for row in line_rows(self.table, self.batch, *columns):
            if not row.values.get(TAKEN_OUT):
                yield row

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
