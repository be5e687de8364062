"""What a job's calls cost, for its result. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from shared.billing.money import EXACT, amount_text, exact_sum, round_line
from shared.billing.pricing import Pricing, Unpriced
from shared.billing.usage import Call
from shared.billing.usage_records import RecordLabels, record_values
from shared.contract.usage import UsageCost


def cost_of_calls(pricing: Pricing, labels: RecordLabels, calls: Sequence[Call], at: datetime) -> UsageCost | None:
    """
    Return what calls cost after markup, exact; None if one of them has no price.

    Calls that may have been paid for are not among them: nothing says what they have consumed.
    """
    amounts: list[Decimal] = []
    for call in calls:
        if call.outcome == "unanswered":
            continue
        cost = pricing.cost(labels.customer, at.date(), record_values(labels, call, at))
        if isinstance(cost, Unpriced):
            return None
        amounts.append(pricing.charge(labels.customer, at.date(), cost.amount))
    return UsageCost(amount=amount_text(exact_sum(amounts)), currency=pricing.currency)


def cost_of_job(pricing: Pricing, customer: str, calls: UsageCost, at: datetime, *, jobs: int) -> UsageCost | None:
    """Return what a job costs with its fee, if it counts, rounded as a line of a statement; None if that is unknown."""
    if calls.currency != pricing.currency or (jobs and pricing.missing_fee(customer, at.date())):
        return None
    fee = pricing.charge(customer, at.date(), Decimal(0), jobs=jobs)
    amount = round_line(EXACT.add(Decimal(calls.amount), fee), pricing.currency)
    return UsageCost(amount=amount_text(amount), currency=pricing.currency)
