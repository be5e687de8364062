"""The prices of what is exported: those in use, and of a closed month first those that it was closed by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.billing.closed_records import ClosedRecords
from shared.billing.customer_pricing import CustomerPricing
from shared.billing.customer_records import CustomerRecords
from shared.billing.price_books import PriceBooks
from shared.billing.pricing import Pricing
from shared.clock import now
from shared.contract.closed_month import DocumentId
from shared.storage.base import Table


@dataclass(frozen=True, slots=True)
class EventPrices:
    """The prices of one customer's records, for one run. Raises StorageUnavailable."""

    table: Table
    price_books: PriceBooks
    records: CustomerRecords
    customer: str
    _by_month: dict[str, Sequence[Pricing]] = field(default_factory=dict)

    async def read(self, month: str) -> Sequence[Pricing]:
        """Return the prices by which a record of a month costs something, the first that has one; maybe none."""
        if month not in self._by_month:
            current = await CustomerPricing(self.price_books, self.records).read(self.customer)
            closed = None if month >= f"{now():%Y-%m}" else await self._closed(month)
            self._by_month[month] = [pricing for pricing in (closed, current) if pricing is not None]
        return self._by_month[month]

    async def _closed(self, month: str) -> Pricing | None:
        record = await ClosedRecords(self.table).read(self.customer, DocumentId(month))
        if record is None:
            return None
        return Pricing(await self.price_books.read(record.price_book)).in_currency(record.currency)
