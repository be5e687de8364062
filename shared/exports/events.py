"""What a usage record is exported as: an event with an id, a time, a customer and a value. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from shared.billing.customer_records import CustomerRecord
from shared.billing.money import EXACT, amount_text
from shared.billing.outbox import event_id
from shared.billing.priced_sum import PricedSum
from shared.billing.pricing import Pricing
from shared.billing.usage_records import JOBS, day_of, is_placeholder
from shared.contract.usage import COUNTS
from shared.export_settings import Export
from shared.storage.base import Row

NO_EXTERNAL_ID = "The customer's profile has no external id for this export."
NO_PRICE_BOOK = "There is no price book."
_LABELS = (
    *("job_id", "action", "model", "answered_by", "connection", "provider", "source", "billed_to", "outcome"),
    *("service_tier", "processing", "deployment_scope"),
)


@dataclass(frozen=True, slots=True)
class Event:
    """One usage record, or one closed job, as a receiver gets it."""

    id: str
    at: datetime
    customer: str
    subject: str
    """The customer's id at the receiver."""
    value: str
    """A decimal number; empty if the export has no value."""
    currency: str
    """Of a value that is an amount."""
    record: Mapping[str, Any]

    def facts(self) -> dict[str, Any]:
        """Return what is known of the call, for receivers that take any properties; the value is a number."""
        record = self.record
        # Some labels are texts of endpoints, and some receivers fail at a control character.
        labels = {name: "".join(filter(str.isprintable, record.get(name) or "")) for name in _LABELS}
        counts = {name: record.get(name) for name in ("calls", *COUNTS)}
        facts: dict[str, Any] = {name: fact for name, fact in (labels | counts).items() if fact not in (None, "")}
        facts["jobs"] = record.get(JOBS, 0)
        value = {"value": msgspec.Raw(self.value.encode())} if self.value else {}
        return facts | value | ({"currency": self.currency} if self.currency else {})


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a record can't be exported yet."""

    reason: str


@dataclass(frozen=True, slots=True)
class EventMaker:
    """Makes the events of one customer for one export."""

    export: Export
    record: CustomerRecord

    @property
    def subject(self) -> str:
        """The customer's id at the receiver; empty if nobody has set it."""
        if self.export.own_ids:
            return self.record.customer
        return self.record.profile.external_ids.get(self.export.name, "")

    def make(self, row: Row, pricings: Sequence[Pricing] = ()) -> Event | Waiting | None:
        """
        Return the event of a usage record, or why it has to wait; None if this export sends nothing for it.

        The first of `pricings` that has a price says what the record costs. A placeholder for an attempt that crashed
        is never sent: nothing is known of its call, and the attempt may still append its own records.
        """
        if not self._is_wanted(row):
            return None
        made: Event | Waiting | None = None
        for pricing in pricings or (None,):
            made = self._make(row, pricing)
            if not isinstance(made, Waiting):
                break
        return made

    def _make(self, row: Row, pricing: Pricing | None) -> Event | Waiting | None:
        value = self._value(row, pricing)
        if isinstance(value, Waiting):
            return value
        if self.export.value and not value:
            return None
        if not self.subject:
            return Waiting(NO_EXTERNAL_ID)
        text = "" if value is None else amount_text(value.normalize(EXACT))
        currency = pricing.currency if pricing and self.export.value == "amount" else ""
        return self.event(row, self.subject, text, currency)

    def event(self, row: Row, subject: str, value: str, currency: str) -> Event:
        """Return the event of a usage record with a customer's id and a value, as it may have been sent before."""
        customer = row.partition
        return Event(event_id(customer, row.key), row.values["at"], customer, subject, value, currency, row.values)

    def _is_wanted(self, row: Row) -> bool:
        if is_placeholder(row):
            return False
        is_billed = row.values["outcome"] in self.record.profile.bill_outcomes
        return is_billed and self.export.billed_to in ("", row.values["billed_to"])

    def _value(self, row: Row, pricing: Pricing | None) -> Decimal | Waiting | None:
        """The record's value: None if it has none, or the export has none."""
        measure, values = self.export.value, row.values
        if measure == "amount":
            return _amount(row, pricing)
        if measure == "total_tokens" and values.get(measure) is None:  # the provider reported no total
            parts = [values[name] for name in ("input_tokens", "output_tokens") if values.get(name) is not None]
            return Decimal(sum(parts)) if parts else None
        number = values.get(measure) if measure else None
        return None if number is None else Decimal(str(number))


def _amount(row: Row, pricing: Pricing | None) -> Decimal | Waiting | None:
    if pricing is None:
        return Waiting(NO_PRICE_BOOK)
    total = PricedSum()
    total.add(pricing, row.partition, day_of(row), row.values)
    for unpriced in total.unpriced:
        return Waiting(f"No price: {unpriced.reason}.")
    return total.amount
