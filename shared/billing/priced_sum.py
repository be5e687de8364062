"""What usage records cost, added up: exact until a line. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from shared.billing.money import EXACT, amount_text, exact_sum, round_line, round_total
from shared.billing.pricing import Cost, Pricing, Unpriced
from shared.billing.usage_records import JOBS, is_closed_job

_ZERO = Decimal(0)
_AMOUNTS = ("amount", "list_amount", "saved")


@dataclass(slots=True)
class PricedSum:
    """A sum of amounts, each exact."""

    amount: Decimal = _ZERO
    list_amount: Decimal = _ZERO
    saved: Decimal = _ZERO
    is_priced: bool = False
    """Whether a record has a price, or a job a fee; else there is no amount, which would be 0 for want of a price."""
    unpriced: Counter[Unpriced] = field(default_factory=Counter)
    """Records without a price, by what is missing."""

    def add(self, pricing: Pricing, customer: str, day: date, values: Mapping[str, Any], rows: int = 1) -> None:
        """
        Add what usage records cost, or jobs that were closed: so many rows, which have the sums `values`.

        A record that is withdrawn is -1 row; it has no counts that could cost anything.
        """
        jobs, list_amount = values.get(JOBS, 0), _ZERO
        if is_closed_job(values):
            missing = pricing.missing_fee(customer, day)
        else:
            cost = pricing.cost(customer, day, values)
            missing = cost if isinstance(cost, Unpriced) else None
            if isinstance(cost, Cost):
                self.is_priced, list_amount = True, cost.amount
                if saved := pricing.saved(customer, day, values, cost):
                    self.saved = EXACT.add(self.saved, pricing.charge(customer, day, saved))
        if missing is not None:
            self.unpriced[missing] += rows
        charge = pricing.charge(customer, day, list_amount, jobs=jobs)
        if jobs and not list_amount and charge:
            self.is_priced = True  # the job has a fee, whatever its calls cost
        self.list_amount = EXACT.add(self.list_amount, list_amount)
        self.amount = EXACT.add(self.amount, charge)

    def line(self, currency: str) -> dict[str, Any]:
        """Return the members of a line's money, rounded as a line is. If nothing has a price, there is no amount."""
        names = _AMOUNTS if self.is_priced else ()
        amounts = {name: amount_text(round_line(getattr(self, name), currency)) for name in names}
        return {**amounts, "currency": currency, "unpriced": self.unpriced.total()}


def total_of(lines: list[dict[str, Any]], currency: str) -> tuple[dict[str, Any], Decimal]:
    """
    Return the members of a total's money, and what rounding it has added to the amounts of its lines.

    It has amounts if any of its lines has.
    """
    priced = [line for line in lines if line["amount"] is not None]
    sums = {name: exact_sum(Decimal(line[name]) for line in priced) for name in _AMOUNTS}
    totals = {name: round_total(amount, currency) for name, amount in sums.items()}
    texts = {name: amount_text(amount) for name, amount in totals.items()} if priced else {}
    unpriced = sum(line["unpriced"] for line in lines)
    return {**texts, "currency": currency, "unpriced": unpriced}, EXACT.subtract(totals["amount"], sums["amount"])
