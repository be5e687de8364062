"""
Closes months: a customer's usage, credits and debits become a numbered document that never changes.

Each step is made once, whoever makes it and however often it is begun: the operator's file, which has all sums, is
written if there is none; then the number is taken; then the customer's files are written if there are none; the record
is inserted last. Whoever comes second takes what the first one wrote, so that a crash between two steps, two workers at
a time, and a repetition years later end with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import msgspec

from shared.billing.adjustments import Adjustments
from shared.billing.closed_records import INTERNAL, MEDIA_TYPES, ClosedRecord, ClosedRecords, blob_name
from shared.billing.customer_records import CustomerRecords
from shared.billing.periods import Days
from shared.billing.price_books import PriceBooks
from shared.billing.pricing import Pricing
from shared.billing.statement_documents import (
    DIMENSIONS,
    adjustment_lines,
    closed_month,
    differences,
    encode_document_csv,
    markups_of,
    number_text,
    usage_lines,
    with_total,
)
from shared.billing.statement_numbers import StatementNumbers
from shared.billing.statement_page import closed_page
from shared.billing.statements import Statements
from shared.clock import now, rfc3339
from shared.contract.closed_month import ClosedMonth, DocumentFile, DocumentId, DocumentLine, InternalMonth, Party
from shared.contract.customer import CustomerProfile
from shared.errors import InvalidJob, StorageUnavailable
from shared.storage.base import Blobs, Table

CLOSABLE_AFTER = timedelta(minutes=30)
"""How long after its end a month can be closed. A day takes no new record a quarter of an hour after its end."""
MAX_FILE_BYTES = 256 * 1024 * 1024
_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a document is made by: for a correction, what its month was closed by."""

    pricing: Pricing
    price_book: str
    currency: str
    outcomes: Sequence[str]
    documented: Sequence[DocumentLine] = ()
    """The lines of the month's earlier documents."""
    corrects: str | None = None


@dataclass(frozen=True, slots=True)
class Closing:
    """The months of all customers. Every method raises StorageUnavailable, and InvalidJob, which says why not."""

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

    async def close(self, customer: str, document: DocumentId, *, allow_unpriced: bool = False) -> ClosedRecord | None:
        """
        Close a month, or correct a closed one. Return the document's record, None if there is nothing to correct.

        Repeated, it returns the same record and changes nothing. Raises InvalidJob if a billed call has no price,
        unless `allow_unpriced`.
        """
        if (record := await self.records.read(customer, document)) is not None:
            return record
        internal = await self._read_internal(customer, document)
        if internal is None:
            if await StatementNumbers(self.table).find(customer, document):
                raise InvalidJob(f"{document} was closed, and its documents have been removed.")
            made = await self.preview(customer, document)
            if made is None:
                return None
            if made.unpriced and not allow_unpriced:
                raise InvalidJob(_unpriced_message(made))
            name = blob_name(customer, document, INTERNAL)
            await self.blobs.write_once(self.container, name, msgspec.json.encode(made), _JSON)
            internal = await self._read_internal(customer, document)  # maybe another one's, which was first
        if internal is None:
            raise StorageUnavailable(f"The blob {blob_name(customer, document, INTERNAL)} has just been deleted.")
        number = await StatementNumbers(self.table).take(customer, document)
        return await self._write(customer, document, *internal, number)

    async def preview(self, customer: str, document: DocumentId) -> InternalMonth | None:
        """Return what a month would be closed with now, None if there is nothing to correct. Changes nothing."""
        self._check_closable(document.month)
        profile = (await self.customers.read(customer)).profile
        basis = await (self._correction(customer, document) if document.correction else self._first(profile))
        days = Days.of_month(document.month)
        statement = await Statements(self.table).read(customer, days.first, days.last, DIMENSIONS, basis.pricing)
        adjustments = await Adjustments(self.table).list(customer, document.month)
        if other := next((each for each in adjustments if each.currency != basis.currency), None):
            raise InvalidJob(
                f"The credit or debit {other.id} is in {other.currency}, the customer's documents in {basis.currency}."
            )
        lines = [*usage_lines(statement, basis.outcomes), *adjustment_lines(adjustments, basis.currency)]
        if document.correction:
            lines = differences(lines, basis.documented, basis.currency)
            if not lines:
                return None
        lines, total = with_total(lines, basis.currency)
        has_unpriced = any(line.unpriced > 0 for line in lines)
        return InternalMonth(
            customer=customer,
            month=document.month,
            correction=document.correction or None,
            corrects=basis.corrects,
            closed_at=rfc3339(self.clock()),
            party=Party(legal_name=profile.legal_name, address=profile.address, tax_id=profile.tax_id),
            invoice_prefix=profile.invoice_prefix or customer,
            bill_outcomes=list(basis.outcomes),
            price_book=basis.price_book,
            markups=markups_of(basis.pricing.book, customer, document.month),
            currency=basis.currency,
            lines=lines,
            total=total,
            unpriced=[each for each in statement.unpriced if has_unpriced and each.outcome in basis.outcomes],
        )

    async def read_file(self, record: ClosedRecord, file: str) -> bytes:
        """Return a file of a closed document. Raises StorageUnavailable if it is not what was written."""
        name = blob_name(record.customer, record.document, file)
        data = await self.blobs.read(self.container, name, MAX_FILE_BYTES)
        if data is None or _file(data) != record.files[file]:
            raise StorageUnavailable(f"The blob {self.container}/{name} is missing, or was changed.")
        return data

    def _check_closable(self, month: str) -> None:
        at, days = self.clock(), Days.of_month(month)
        closable_at = datetime.combine(days.last + timedelta(days=1), time(), UTC) + CLOSABLE_AFTER
        if at < closable_at:
            raise InvalidJob(f"{month} can be closed from {rfc3339(closable_at)} on.")
        index = days.first.year * 12 + days.first.month
        if self.retain_usage_months and index < at.year * 12 + at.month - self.retain_usage_months:
            raise InvalidJob(f"The usage records of {month} are no longer kept (RETAIN_USAGE_MONTHS).")

    async def _first(self, profile: CustomerProfile) -> _Basis:
        in_use = await self.price_books.in_use()
        if in_use is None:
            raise InvalidJob("There is no price book: `aijobs prices import` publishes one.")
        published, pricing = in_use
        currency = profile.currency or published.book.currency
        return _Basis(pricing.in_currency(currency), published.sha256, currency, profile.bill_outcomes)

    async def _correction(self, customer: str, document: DocumentId) -> _Basis:
        records = await self.records.list(customer, document.month)
        if [record.document.correction for record in records] != list(range(document.correction)):
            before = DocumentId(document.month, document.correction - 1)
            raise InvalidJob(f"{document} corrects {before}, which is not closed, or it is not the next one.")
        erased_at = await self.records.erased_at(customer)
        if erased_at is not None and f"{erased_at:%Y-%m}" >= document.month:  # all would seem to be taken back
            raise InvalidJob(f"The usage records of {document.month} were erased on {erased_at:%Y-%m-%d}.")
        documents = [await self._read_internal(customer, record.document) for record in records]
        internals = [each[0] for each in documents if each is not None]
        if len(internals) < len(records):
            raise StorageUnavailable(f"A file of {document.month} is missing in the container {self.container}.")
        first = internals[0]
        pricing = Pricing(await self.price_books.read(first.price_book)).in_currency(first.currency)
        documented = [line for internal in internals for line in internal.lines if line.kind != "rounding"]
        number = records[0].printed_number
        return _Basis(pricing, first.price_book, first.currency, first.bill_outcomes, documented, number)

    async def _read_internal(self, customer: str, document: DocumentId) -> tuple[InternalMonth, DocumentFile] | None:
        data = await self.blobs.read(self.container, blob_name(customer, document, INTERNAL), MAX_FILE_BYTES)
        return None if data is None else (msgspec.json.decode(data, type=InternalMonth), _file(data))

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
            files[name] = _file(data)
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


def _file(data: bytes) -> DocumentFile:
    return DocumentFile(size=len(data), sha256=hashlib.sha256(data).hexdigest())
