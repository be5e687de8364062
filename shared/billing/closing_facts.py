"""
The facts that a month is closed with: its lines, and all that they were made by; or why it can't be closed.

A month's own document goes by what holds now, a correction by what its month was closed by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import msgspec

from shared.billing.adjustments import Adjustments, in_currency
from shared.billing.closed_records import INTERNAL, ClosedRecords, blob_name
from shared.billing.customer_records import CustomerRecords
from shared.billing.periods import Days
from shared.billing.price_books import PriceBooks
from shared.billing.pricing import Pricing
from shared.billing.statement_documents import (
    DIMENSIONS,
    adjustment_lines,
    differences,
    markups_of,
    unpriced_differences,
    usage_lines,
    with_total,
)
from shared.billing.statements import Statements
from shared.clock import rfc3339
from shared.contract.adjustment import NewAdjustment
from shared.contract.closed_month import DocumentFile, DocumentId, DocumentLine, InternalMonth, Party
from shared.contract.customer import CustomerProfile
from shared.contract.statement import UnpricedCalls
from shared.errors import InvalidJob, RetryLater, StorageUnavailable
from shared.storage.base import Blobs, Table

CLOSABLE_AFTER = timedelta(minutes=30)
"""How long after its end a month can be closed. A day takes no new record a quarter of an hour after its end."""
MAX_SKEW = timedelta(minutes=5)
"""By how much a worker's clock may be behind that of the one that put the job into the queue."""
MAX_FILE_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a document is made by: for a correction, what its month was closed by."""

    pricing: Pricing
    price_book: str
    currency: str
    outcomes: Sequence[str]
    documented: Sequence[DocumentLine] = ()
    """The lines of the month's earlier documents."""
    unpriced: Sequence[UnpricedCalls] = ()
    """What the earlier documents list as unpriced."""
    corrects: str | None = None


@dataclass(frozen=True, slots=True)
class ClosingFacts:
    """
    The facts of all customers' months. Every method raises StorageUnavailable.

    See Closing for its members.
    """

    table: Table
    blobs: Blobs
    container: str
    price_books: PriceBooks
    customers: CustomerRecords
    retain_usage_months: int
    clock: Callable[[], datetime]

    async def written(self, customer: str, document: DocumentId) -> tuple[InternalMonth, DocumentFile] | None:
        """Return what is written already, and stays; None if closing was not begun."""
        data = await self.blobs.read(self.container, blob_name(customer, document, INTERNAL), MAX_FILE_BYTES)
        return None if data is None else (msgspec.json.decode(data, type=InternalMonth), describe_file(data))

    async def collect(self, customer: str, document: DocumentId) -> InternalMonth | None:
        """
        Return what a month would be closed with now, None if there is nothing to correct.

        Raises InvalidJob, which says why it can't be closed, and RetryLater if it can be in a few minutes.
        """
        self._check_closable(document.month)
        profile = (await self.customers.read(customer)).profile
        basis = await (
            self._correction(customer, document) if document.correction else self._first(customer, document, profile)
        )
        days = Days.of_month(document.month)
        statement = await Statements(self.table).read(customer, days.first, days.last, DIMENSIONS, basis.pricing)
        adjustments = in_currency(await Adjustments(self.table).list(customer, document.month), basis.currency)
        lines = [*usage_lines(statement, basis.outcomes), *adjustment_lines(adjustments, basis.currency)]
        if document.correction:
            lines = differences(lines, basis.documented, basis.currency)
            if not lines:
                return None
        lines, total = with_total(lines, basis.currency)
        unpriced = [each for each in statement.unpriced if each.outcome in basis.outcomes]
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
            unpriced=unpriced_differences(unpriced, basis.unpriced),
        )

    async def check_adjustable(self, customer: str, new: NewAdjustment) -> None:
        """
        Check that a credit or debit becomes part of a document: its month's own, or a correction of it.

        Raises InvalidJob, which says why not. One that exists already is not checked again.
        """
        if await Adjustments(self.table).exists(customer, new.id):
            return
        reason = "" if self.is_kept(new.month) else _not_kept_message(new.month)
        erased_at = await self._records.erased_at(customer, new.month)
        if not reason and erased_at is not None:
            is_closed = await self._records.read(customer, DocumentId(new.month)) is not None
            if f"{erased_at:%Y-%m}" >= new.month if is_closed else f"{erased_at:%Y-%m}" > new.month:
                reason = _erased_message(DocumentId(new.month), erased_at)
        if reason:
            raise InvalidJob(f"`month` must be a later one: nothing is added to {new.month} any more. {reason}")

    def _check_closable(self, month: str) -> None:
        at, days = self.clock(), Days.of_month(month)
        closable_at = datetime.combine(days.last + timedelta(days=1), time(), UTC) + CLOSABLE_AFTER
        if at < closable_at:
            message = f"{month} can be closed from {rfc3339(closable_at)} on."
            if at < closable_at - MAX_SKEW:
                raise InvalidJob(message)
            raise RetryLater(message, (closable_at - at).total_seconds() + 1)
        if not self.is_kept(month):
            raise InvalidJob(_not_kept_message(month))

    def is_kept(self, month: str) -> bool:
        """Return whether the usage records of a month are kept."""
        at, first = self.clock(), Days.of_month(month).first
        index = first.year * 12 + first.month
        return not self.retain_usage_months or index >= at.year * 12 + at.month - self.retain_usage_months

    async def _first(self, customer: str, document: DocumentId, profile: CustomerProfile) -> _Basis:
        erased_at = await self._records.erased_at(customer, document.month)
        if erased_at is not None and f"{erased_at:%Y-%m}" > document.month:  # all of it, and not only a part
            raise InvalidJob(_erased_message(document, erased_at))
        in_use = await self.price_books.in_use()
        if in_use is None:
            raise InvalidJob("There is no price book: `aijobs prices import` publishes one.")
        published, pricing = in_use
        currency = profile.currency or published.book.currency
        return _Basis(pricing.in_currency(currency), published.sha256, currency, profile.bill_outcomes)

    async def _correction(self, customer: str, document: DocumentId) -> _Basis:
        records = await self._records.list(customer, document.month)
        if [record.document.correction for record in records] != list(range(document.correction)):
            before = DocumentId(document.month, document.correction - 1)
            raise InvalidJob(f"{document} corrects {before}, which is not closed, or it is not the next one.")
        erased_at = await self._records.erased_at(customer, document.month)
        if erased_at is not None and f"{erased_at:%Y-%m}" >= document.month:  # all would seem to be taken back
            raise InvalidJob(_erased_message(document, erased_at))
        documents = [await self.written(customer, record.document) for record in records]
        internals = [each[0] for each in documents if each is not None]
        if len(internals) < len(records):
            raise StorageUnavailable(f"A file of {document.month} is missing in the container {self.container}.")
        first = internals[0]
        pricing = Pricing(await self.price_books.read(first.price_book)).in_currency(first.currency)
        documented = [line for internal in internals for line in internal.lines if line.kind != "rounding"]
        unpriced = [each for internal in internals for each in internal.unpriced]
        number = records[0].printed_number
        return _Basis(pricing, first.price_book, first.currency, first.bill_outcomes, documented, unpriced, number)

    @property
    def _records(self) -> ClosedRecords:
        return ClosedRecords(self.table)


def _not_kept_message(month: str) -> str:
    return f"The usage records of {month} are no longer kept (RETAIN_USAGE_MONTHS)."


def _erased_message(document: DocumentId, erased_at: datetime) -> str:
    return f"The usage records of {document.month} were erased on {erased_at:%Y-%m-%d}."


def describe_file(data: bytes) -> DocumentFile:
    """Return what a record says of a file."""
    return DocumentFile(size=len(data), sha256=hashlib.sha256(data).hexdigest())
