"""
The prices that the cost in a job's result is calculated by. Imported for every job, so it imports little.

A job never waits or fails for want of prices: its result then has no cost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from shared.errors import StorageUnavailable
from shared.event_names import NAMESPACE, PRICES_UNREAD
from shared.jobs.crash_log import log_text

if TYPE_CHECKING:
    from shared.billing.customer_records import CustomerRecords
    from shared.billing.price_books import PriceBooks
    from shared.billing.pricing import Pricing

_PAUSE_S = 60.0
"""After the price book could not be read, for which no job tries that again."""

log = logging.getLogger(NAMESPACE)


@dataclass(slots=True)
class JobPrices:
    """The prices of all customers. `clock` counts seconds."""

    price_books: PriceBooks
    records: CustomerRecords
    clock: Callable[[], float] = time.monotonic
    _paused_until: float = float("-inf")

    async def read(self, customer: str) -> Pricing | None:
        """
        Return the prices in the currency of the customer's statements; None if there is no price book, or none is read.

        The book is at most a minute old, the currency ten seconds. What can't be read is logged.
        """
        if self.clock() < self._paused_until:
            return None
        try:
            pricing = await self.price_books.pricing()
        except StorageUnavailable as exc:
            self._paused_until = self.clock() + _PAUSE_S
            log.warning("%s reason=%s", PRICES_UNREAD, log_text(exc))
            return None
        if pricing is None:
            return None
        try:
            currency = (await self.records.recent(customer)).profile.currency
        except (StorageUnavailable, msgspec.ValidationError) as exc:  # another version of the app may have written it
            reason = log_text(exc) if isinstance(exc, StorageUnavailable) else "The profile is invalid."
            log.warning("%s customer=%s reason=%s", PRICES_UNREAD, customer, reason)
            return None
        return pricing if currency in (None, pricing.currency) else pricing.in_currency(currency)
