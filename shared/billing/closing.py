"""
Closes months: a customer's usage, credits and debits become a numbered document that never changes.

Each step is made once, whoever makes it and however often it is begun: the operator's file, which has all sums, is
written unless it exists; then the number is taken; then the customer's files are written unless they exist; the record
is inserted last. Whoever comes second takes what the first one wrote, so that a crash between two steps, two workers at
a time, and a repetition years later end with the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import msgspec

from shared.billing.closed_records import (
    INTERNAL,
    MEDIA_TYPES,
    ClosedRecord,
    ClosedRecords,
    blob_name,
    printed_documents,
)
from shared.billing.closing_facts import MAX_FILE_BYTES, ClosingFacts, describe_file
from shared.billing.customer_records import CustomerRecords
from shared.billing.price_books import PriceBooks
from shared.billing.statement_documents import closed_month, encode_document_csv, number_text, read_number
from shared.billing.statement_numbers import StatementNumbers
from shared.billing.statement_page import closed_page
from shared.clock import now
from shared.contract.closed_month import ClosedMonth, DocumentFile, DocumentId, InternalMonth
from shared.errors import InvalidJob, StorageUnavailable
from shared.storage.base import Blobs, Table

_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Closing:
    """
    The months of all customers. Every method raises StorageUnavailable, and InvalidJob, which says why not.

    A month that can be closed in a few minutes raises RetryLater.
    """

    table: Table
    blobs: Blobs
    container: str
    price_books: PriceBooks
    customers: CustomerRecords
    retain_usage_months: int
    """Whole months for which usage records are kept; 0: forever."""
    clock: Callable[[], datetime] = now

    @property
    def records(self) -> ClosedRecords:
        """What is closed."""
        return ClosedRecords(self.table)

    @property
    def facts(self) -> ClosingFacts:
        """What months are closed with."""
        stores = (self.table, self.blobs, self.container, self.price_books, self.customers)
        return ClosingFacts(*stores, self.retain_usage_months, self.clock)

    async def close(self, customer: str, document: DocumentId, *, allow_unpriced: bool = False) -> ClosedRecord | None:
        """
        Close a month, or correct a closed one. Return the document's record, None if there is nothing to correct.

        Repeated, it returns the same record and changes nothing. Raises InvalidJob if a billed call has no price,
        unless `allow_unpriced`.
        """
        if (record := await self.records.read(customer, document)) is not None:
            return record
        internal = await self.facts.written(customer, document)
        if internal is None:
            made = None
            if not await StatementNumbers(self.table).find(customer, document):
                made = await self.facts.collect(customer, document)
                if made is None:
                    return None
                if made.unpriced and not allow_unpriced:
                    raise InvalidJob(_unpriced_message(made))
                name = blob_name(customer, document, INTERNAL)
                await self.blobs.write_once(self.container, name, msgspec.json.encode(made), _JSON)
            internal = await self.facts.written(customer, document)  # maybe another one's, which was first
            if internal is None and made is None:
                raise InvalidJob(f"{document} was closed, and its documents have been removed.")
        if internal is None:
            raise StorageUnavailable(f"The blob {blob_name(customer, document, INTERNAL)} has just been deleted.")
        number = await self._number(customer, document)
        return await self._write(customer, document, *internal, number)

    async def preview(self, customer: str, document: DocumentId) -> InternalMonth | None:
        """
        Return what a month would be closed with now, None if there is nothing to correct. Changes nothing.

        If closing it was begun, that is what is written already, whatever has changed since.
        """
        internal = await self.facts.written(customer, document)
        return await self.facts.collect(customer, document) if internal is None else internal[0]

    async def read_file(self, record: ClosedRecord, file: str) -> bytes:
        """Return a file of a closed document. Raises StorageUnavailable if it is not what was written."""
        name = blob_name(record.customer, record.document, file)
        data = await self.blobs.read(self.container, name, MAX_FILE_BYTES)
        if data is None or describe_file(data) != record.files[file]:
            raise StorageUnavailable(f"The blob {self.container}/{name} is missing, or was changed.")
        return data

    async def _number(self, customer: str, document: DocumentId) -> int:
        numbers = StatementNumbers(self.table)
        if (number := await self._printed_number(customer, document)) is not None:
            await numbers.adopt(customer, document, number)
            return number
        # The table may be older than the documents, which its customer may have: what they are printed with is taken.
        numbered = await numbers.documents(customer)
        for other in await printed_documents(self.blobs, self.container, customer):
            if f"{other}" not in numbered and (number := await self._printed_number(customer, other)) is not None:
                with suppress(InvalidJob):  # given twice already, which is reported when that one is closed
                    await numbers.adopt(customer, other, number)
        return await numbers.take(customer, document)

    async def _printed_number(self, customer: str, document: DocumentId) -> int | None:
        data = await self.blobs.read(self.container, blob_name(customer, document, "json"), MAX_FILE_BYTES)
        return None if data is None else read_number(msgspec.json.decode(data, type=ClosedMonth).number)

    async def _write(
        self, customer: str, document: DocumentId, internal: InternalMonth, internal_file: DocumentFile, number: int
    ) -> ClosedRecord:
        files = {INTERNAL: internal_file}
        made = closed_month(internal, number)
        for name, encode in _ENCODERS.items():
            blob, data = blob_name(customer, document, name), encode(made)
            if not await self.blobs.write_once(self.container, blob, data, MEDIA_TYPES[name]):
                # By another worker, by an earlier attempt, maybe by an earlier version: what is written stays.
                existing = await self.blobs.read(self.container, blob, MAX_FILE_BYTES)
                if existing is None:
                    raise StorageUnavailable(f"The blob {blob} has just been deleted.")
                data = existing
            files[name] = describe_file(data)
        record = ClosedRecord(
            customer=customer,
            document=document,
            number=number,
            printed_number=number_text(internal.invoice_prefix, number),
            closed_at=datetime.fromisoformat(internal.closed_at),
            currency=internal.currency,
            total=internal.total,
            price_book=internal.price_book,
            files=files,
        )
        return await self.records.insert(record)


_ENCODERS: dict[str, Callable[[ClosedMonth], bytes]] = {
    "json": msgspec.json.encode,
    "csv": encode_document_csv,
    "html": closed_page,
}
assert _ENCODERS.keys() == MEDIA_TYPES.keys()  # noqa: S101


def _unpriced_message(internal: InternalMonth) -> str:
    """Say which billed calls have no price. Not why: the job's result is also the customer's, who sees no prices."""
    models: dict[str, int] = {}
    for each in internal.unpriced:
        models[each.model] = models.get(each.model, 0) + each.records
    names = ", ".join(f"{records} of {model or 'no model'}" for model, records in sorted(models.items()))
    return (
        f"Billed calls of {internal.month} have no price: {names}. `aijobs close-month --check` says what is missing, "
        "and `--allow-unpriced` closes the month without them."
    )
