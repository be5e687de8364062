"""The prices in use, in the currency of a customer's statements."""

from __future__ import annotations

from dataclasses import dataclass

from shared.billing.customer_records import CustomerRecords
from shared.billing.price_books import PriceBooks
from shared.billing.pricing import Pricing


@dataclass(frozen=True, slots=True)
class CustomerPricing:
    """The prices of all customers."""

    price_books: PriceBooks
    records: CustomerRecords

    async def read(self, customer: str) -> Pricing | None:
        """
        Return the prices in the currency of the customer's profile, else in the book's; None if there is no book.

        The book is at most a minute old, the profile is freshly read. Raises StorageUnavailable.
        """
        pricing = await self.price_books.pricing()
        if pricing is None:
            return None
        currency = (await self.records.read(customer)).profile.currency
        return pricing if currency in (None, pricing.currency) else pricing.in_currency(currency)
