"""What counts the usage records of a job that has waited with a reservation, whatever it ends with."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Any

from shared.billing.buckets import ZERO, quantum_of
from shared.billing.measures import Counter, Measure
from shared.billing.money import EXACT
from shared.billing.reserved_amounts import ReservedAmount
from shared.billing.usage_records import JOBS, is_closed_job
from shared.jobs.attempt import Attempt
from shared.jobs.lines import read_ranges


def kept_measure(attempt: Attempt, reserved: ReservedAmount) -> Measure:
    """
    Return what counts usage records for what an earlier attempt has reserved.

    The job may end before its connection is known: cancelled, or without a connection. Then records are counted by
    themselves. One that can't be, because its call may have been billed or has no price, counts as estimated: as its
    part of what is reserved.
    """
    lines = sum(each.number for each in read_ranges(attempt.lease.lines))
    part = EXACT.divide(reserved.amount, Decimal(max(lines, 1)))
    unknown = part.quantize(quantum_of(reserved.unit), ROUND_CEILING, context=EXACT)

    def measure(values: Mapping[str, Any]) -> Decimal:
        is_money, pricing = reserved.unit not in {"tokens", JOBS}, attempt.usage.pricing
        if is_money and pricing is None:
            return ZERO if is_closed_job(values) else unknown
        own = pricing.in_currency(reserved.unit) if is_money and pricing else None
        return Counter(reserved.unit, attempt.job.customer, {}, own).measure(unknown)(values)

    return measure
