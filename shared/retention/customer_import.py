"""
Brings an export of one customer into this deployment: the rows and blobs that are not here yet.

Nothing that is here is changed, so an import that failed is repeated, and one into a deployment that has newer data
says what it left. Credentials, messages and the price book are not in an export (docs/disaster.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from shared.billing.closed_records import ERASED_KEY, WHOLE_BEFORE, ClosedRecords, printed_documents
from shared.billing.customer_records import RECORD_KEY
from shared.billing.outbox import Outbox
from shared.clock import rfc3339
from shared.errors import InvalidJob, StorageUnavailable
from shared.jobs.batch_message import PREFIX
from shared.jobs.records import job_id_of
from shared.jobs.schedule_entries import add_batch_entry, add_entry
from shared.retention.batch_rows import as_imported, batch_keys, is_open
from shared.retention.export_directory import CUSTOMERS, OPERATORS
from shared.retention.export_reader import ExportReader, StoredBlob
from shared.settings import Settings
from shared.storage.base import Blobs, BlobTooLarge, ContainerMissing, Row, RowConflict, RowExists, Table
from shared.storage.bulk import gather_limited

_ROWS_AT_ONCE = 50
_BYTES_AT_ONCE = 2 << 20
"""Of lines of JSON; a transaction takes 4 MB of rows, in which bytes are base64."""
_STILL_WRITTEN = timedelta(minutes=30)
"""How long after a month's end its last records may be written, and more."""


@dataclass(slots=True)
class Imported:
    """What an import did."""

    rows: int = 0
    blobs: int = 0
    existing: int = 0
    """Rows and blobs that were here already, as they are in the export."""
    different: list[str] = field(default_factory=list)
    """Keys of rows, and names of blobs with their containers, that are here with other contents. They were left."""
    unfinished: int = 0
    """Jobs that had not ended, and of which nothing waits in the schedule: they go on when they are submitted again."""
    batches: int = 0
    """Batches of jobs that had not ended: they go on here, with their jobs."""
    callbacks: int = 0
    """Callbacks that were to be sent, and of which nothing waits in the schedule."""
    documents: list[str] = field(default_factory=list)
    """Documents of closed months that are written here, but not on record: the export is older."""
    erased_at: str = ""
    """When the customer was erased here, if that was after its export: this has undone it."""


class CustomerImport:
    """
    An import of one export.

    Raises InvalidJob if the export has blobs of a container that the settings don't name, since nobody would read them,
    and InvalidExport.
    """

    def __init__(self, table: Table, blobs: Blobs, settings: Settings, export: ExportReader) -> None:
        self._table, self._blobs, self._export = table, blobs, export
        self._statements = settings.statements_container
        containers = {
            settings.results_container,
            settings.templates_container,
            settings.statements_container,
            *settings.input_containers,
        }
        for blob in self._every_blob():
            if blob.container not in containers:
                own = ", ".join(sorted(containers))
                raise InvalidJob(
                    f"The export has blobs of the container {blob.container}, but the settings name only {own}."
                )

    async def run(self) -> Imported:
        """
        Write what is not here: the customer's state first, then blobs, then rows, then what the schedule needs.

        So a customer that is exported as suspended is so before any job can run. Raises StorageUnavailable,
        InvalidExport.
        """
        done = Imported()
        for row, _ in self._export.rows(OPERATORS):
            if row.key == RECORD_KEY:
                await self._insert_each([row], done)
        for blob in self._every_blob():
            await self._write_blob(blob, done)
        for lists in (CUSTOMERS, OPERATORS):
            for rows in _batches(row for row in self._export.rows(lists) if row[0].key != RECORD_KEY):
                await self._insert([as_imported(row) for row in rows], done)
        open_batches = [row for row, _ in self._export.rows(CUSTOMERS) if is_open(row)]
        for row in open_batches:
            await add_batch_entry(self._table, row.partition, row.key.removeprefix(PREFIX), row.values["due_at"])
        done.batches = len(open_batches)
        keys = {row.key for row in open_batches}
        for row, _ in self._export.rows(CUSTOMERS):
            if row.key.startswith("j_") and not keys & batch_keys(row):
                await self._continue(row, done)
        await Outbox(self._table).announce_left(self._export.customer)
        await self._note_erasure(done)
        await self._find_documents(done)
        return done

    def _every_blob(self) -> Iterator[StoredBlob]:
        for lists in (CUSTOMERS, OPERATORS):
            yield from self._export.blobs(lists)

    async def _insert(self, rows: Sequence[Row], done: Imported) -> None:
        first, *others = rows
        try:
            await self._table.insert(first, beside=others)
        except RowConflict:
            await self._insert_each(rows, done)
        else:
            done.rows += len(rows)

    async def _insert_each(self, rows: Sequence[Row], done: Imported) -> None:
        async def insert(row: Row) -> None:
            try:
                await self._table.insert(row)
            except RowExists as exc:
                if exc.row is not None and exc.row.values == row.values:
                    done.existing += 1
                else:
                    done.different.append(row.key)
            else:
                done.rows += 1

        await gather_limited(map(insert, rows))

    async def _write_blob(self, blob: StoredBlob, done: Imported) -> None:
        data = self._export.read_blob(blob)
        try:
            if await self._blobs.write_once(blob.container, blob.name, data, blob.content_type):
                done.blobs += 1
            elif await self._blobs.read(blob.container, blob.name, len(data) or 1) == data:
                done.existing += 1
            else:
                done.different.append(f"{blob.container}/{blob.name}")
        except BlobTooLarge:
            done.different.append(f"{blob.container}/{blob.name}")

    async def _continue(self, row: Row, done: Imported) -> None:
        values: dict[str, Any] = dict(row.values)
        if values.get("waits"):
            await add_entry(self._table, row.partition, job_id_of(row), values["due_at"])
        elif values["state"] != "done":
            done.unfinished += 1
        elif values.get("callback_url") and values.get("callback_status", "") in {"", "waiting"}:
            done.callbacks += 1

    async def _note_erasure(self, done: Imported) -> None:
        """Note which months have their usage records again; those since the export have lost some."""
        row, at = await self._table.read(self._export.customer, ERASED_KEY), self._export.exported_at
        if row is None or any(row.key == ERASED_KEY for row, _ in self._export.rows(OPERATORS)):
            return
        if row.values["at"] > at:
            done.erased_at = rfc3339(row.values["at"])
        month = f"{at - _STILL_WRITTEN:%Y-%m}"
        if month > row.values.get(WHOLE_BEFORE, ""):
            try:
                await self._table.merge(Row(row.partition, row.key, {WHOLE_BEFORE: month}, row.etag))
            except RowConflict:
                raise StorageUnavailable(f"{row.partition} is just being erased, or imported.") from None

    async def _find_documents(self, done: Imported) -> None:
        customer = self._export.customer
        with suppress(ContainerMissing):  # then it has none
            closed = {each.document for each in await ClosedRecords(self._table).list(customer)}
            printed = await printed_documents(self._blobs, self._statements, customer)
            done.documents = [f"{document}" for document in printed if document not in closed]


def _batches(rows: Iterator[tuple[Row, int]]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row, length in rows:
        if batch and (len(batch) == _ROWS_AT_ONCE or size + length > _BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch
