"""The file of a batch: its lines as they stand in the table, one page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from shared.batches.files import line
from shared.batches.records import BatchRecord
from shared.errors import StorageUnavailable
from shared.jobs.lines import TAKEN_OUT, body_blob, custom_id, line_key, line_number
from shared.storage.base import Blobs, Row, Table
from shared.storage.bulk import read_pages

_MAX_BODY = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LineFile:
    """The file of one batch, whose lines call the operation at `url`."""

    table: Table
    blobs: Blobs
    container: str
    batch: BatchRecord
    url: str

    async def size(self) -> int:
        """Return the file's bytes; 0 if it has no line. Raises StorageUnavailable."""
        beside = len(line(custom_id(0), self.url, b""))
        rows = [row async for row in line_rows(self.table, self.batch, "size", TAKEN_OUT)]
        return sum(row.values["size"] + beside for row in rows if not row.values.get(TAKEN_OUT))

    async def lines(self) -> AsyncIterator[bytes]:
        """Iterate over its lines. Raises StorageUnavailable."""
        async for row in line_rows(self.table, self.batch, "job_id", "digest", "body", TAKEN_OUT):
            if not row.values.get(TAKEN_OUT):
                yield line(custom_id(line_number(row.key)), self.url, await self._body(row))

    async def _body(self, row: Row) -> bytes:
        body: bytes | None = row.values.get("body")
        if body is None:
            name = body_blob(row.partition, row.values["job_id"], row.values["digest"])
            body = await self.blobs.read(self.container, name, _MAX_BODY)
        if body is None:
            raise StorageUnavailable("The body of a line is gone.")
        return body


async def line_rows(table: Table, batch: BatchRecord, *columns: str, first: int = 0) -> AsyncIterator[Row]:
    """Iterate over a batch's lines in their order, from the number `first` on. Raises StorageUnavailable."""
    keys = line_key(batch.batch_id, first), line_key(batch.batch_id, batch.lines)
    async for rows in read_pages(table, batch.customer, *keys, columns=columns):
        for row in rows:
            yield row
