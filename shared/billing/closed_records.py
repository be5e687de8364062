"""
The records of closed months: a row `x_{month}` for a month's own document, `x_{month}-{k}` for its corrections.

A document is closed once it has a record, which is inserted last and never changed: number, total and the hash of each
file. The row `x_erased` says when a customer's usage records were erased: its documents stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from shared.clock import rfc3339
from shared.contract.closed_month import ClosedMonthSummary, DocumentFile, DocumentId, parse_document_id
from shared.storage.base import Blobs, Row, RowExists, Table

RECORD_PREFIX = "x_"
ERASED_KEY = f"{RECORD_PREFIX}erased"
WHOLE_BEFORE = "whole_before"
"""The column of that row with the month before which the records are here again, as an import has restored them."""
CLOSED_AT = "closed_at"
"""The column by which retention goes."""
MEDIA_TYPES = {"json": "application/json", "csv": "text/csv", "html": "text/html"}
"""The files of a document that its customer gets, by the ends of their names."""
INTERNAL = "internal"
"""The operator's file."""


@dataclass(frozen=True, slots=True)
class ClosedRecord:
    """A closed document."""

    customer: str
    document: DocumentId
    number: int
    printed_number: str
    closed_at: datetime
    currency: str
    total: str
    price_book: str
    files: dict[str, DocumentFile] = field(default_factory=dict)
    """By MEDIA_TYPES, and INTERNAL."""

    def summary(self, *, internal: bool = False) -> ClosedMonthSummary:
        """Return what a list says of the document; `internal`: also of the operator's file."""
        return ClosedMonthSummary(
            month=self.document.month,
            correction=self.document.correction or None,
            number=self.printed_number,
            closed_at=rfc3339(self.closed_at),
            currency=self.currency,
            total=self.total,
            files={name: file for name, file in self.files.items() if internal or name != INTERNAL},
        )


@dataclass(frozen=True, slots=True)
class ClosedRecords:
    """The records of all customers. Every method raises StorageUnavailable."""

    table: Table

    async def read(self, customer: str, document: DocumentId) -> ClosedRecord | None:
        """Return the record of a document, None if it is not closed."""
        row = await self.table.read(customer, record_key(document))
        return None if row is None else _record(row, document)

    async def list(self, customer: str, month: str = "") -> list[ClosedRecord]:
        """Return all records of a customer, or of a month: newest month first, each before its corrections."""
        prefix = f"{RECORD_PREFIX}{month}"
        rows = [row async for row in self.table.scan(customer, prefix, f"{prefix}~")]
        documents = [(document, row) for row in rows if (document := document_of(row.key)) is not None]
        documents.sort(key=lambda each: each[0].correction)
        documents.sort(key=lambda each: each[0].month, reverse=True)
        return [_record(row, document) for document, row in documents]

    async def insert(self, record: ClosedRecord) -> ClosedRecord:
        """Close a document. Return its record, which may have existed before."""
        values = {
            "number": record.number,
            "printed_number": record.printed_number,
            CLOSED_AT: record.closed_at,
            "currency": record.currency,
            "total": record.total,
            "price_book": record.price_book,
            "files": msgspec.json.encode(record.files).decode(),
        }
        try:
            await self.table.insert(Row(record.customer, record_key(record.document), values))
        except RowExists as exc:
            return record if exc.row is None else _record(exc.row, record.document)
        return record

    async def erased_at(self, customer: str, month: str) -> datetime | None:
        """Return when the customer's usage records were last erased; None if those of the month were restored since."""
        row = await self.table.read(customer, ERASED_KEY)
        return None if row is None or month < row.values.get(WHOLE_BEFORE, "") else row.values["at"]


def record_key(document: DocumentId) -> str:
    """Return the key of a document's record."""
    return f"{RECORD_PREFIX}{document}"


def document_of(key: str) -> DocumentId | None:
    """Return the document whose record has this key, None if it is another row's."""
    return parse_document_id(key.removeprefix(RECORD_PREFIX))


def blob_name(customer: str, document: DocumentId, file: str) -> str:
    """Return the name of a document's file in the container of statements."""
    return f"{customer}/{document}.{file}{'.json' if file == INTERNAL else ''}"


def is_customers_file(blob: str) -> bool:
    """Return whether a blob of this name is a document's file that its customer gets; see `blob_name`."""
    document, _, file = blob.partition("/")[2].rpartition(".")
    return file in MEDIA_TYPES and parse_document_id(document) is not None


def _record(row: Row, document: DocumentId) -> ClosedRecord:
    values = row.values
    return ClosedRecord(
        customer=row.partition,
        document=document,
        number=values["number"],
        printed_number=values["printed_number"],
        closed_at=values[CLOSED_AT],
        currency=values["currency"],
        total=values["total"],
        price_book=values["price_book"],
        files=msgspec.json.decode(values["files"], type=dict[str, DocumentFile]),
    )


async def printed_documents(blobs: Blobs, container: str, customer: str) -> list[DocumentId]:
    """Return the customer's documents that are written, with a number, on record or not. Raises StorageUnavailable."""
    documents, after = [], ""
    while True:
        page = await blobs.page(container, f"{customer}/", after)
        names = (blob.name.partition("/")[2] for blob in page.blobs)
        documents += [parse_document_id(name.removesuffix(".json")) for name in names if name.endswith(".json")]
        after = page.after
        if not after:
            return [document for document in documents if document is not None]
