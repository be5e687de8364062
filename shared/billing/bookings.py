"""What a job reserves of one budget, and how usage records settle it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from shared.billing.buckets import ZERO
from shared.billing.budget_pool import BudgetPool
from shared.billing.money import EXACT, exact_sum
from shared.billing.reserved_amounts import ReservedAmount
from shared.billing.usage_records import stands_for_attempt
from shared.contract.budget import Budget
from shared.storage.base import Row

_RECORDS = ("u_", "c_")
Target = tuple[BudgetPool, int]
"""A bucket."""


@dataclass(slots=True)
class Booking:
    """What a job reserves of one budget."""

    name: str
    budget: Budget
    amount: Decimal
    """What is reserved and not settled yet."""
    measure: Callable[[Mapping[str, Any]], Decimal]
    """Returns what a usage record counts."""
    kind: str = ""
    """The kind of job, if its amount could not be estimated."""
    target: Target = field(init=False)
    """Set by `JobBudgets.request` or `hold`."""
    is_defined: bool = True
    """Whether `budget` is its definition; else that is the one that its buckets have."""
    spent: Decimal = ZERO
    """What it has settled."""


Settled = tuple[Booking, Decimal, Decimal]
"""What of a booking a transaction spends, and what it leaves reserved."""


class BookingRefused(Exception):
    """A budget has too little left for a booking. `left`, `is_reserved`: see LimitReached."""

    def __init__(self, booking: Booking, left: Decimal, *, is_reserved: bool) -> None:
        super().__init__()
        self.booking, self.left, self.is_reserved = booking, left, is_reserved


def settled_of(booking: Booking, added: Sequence[Row], *, ended: bool) -> Settled:
    """Return what a transaction with these rows settles of a booking."""
    records = [row for row in added if row.key.startswith(_RECORDS) and not stands_for_attempt(row)]
    spent = exact_sum([booking.measure(row.values) for row in records])
    return booking, spent, ZERO if ended else max(EXACT.subtract(booking.amount, spent), ZERO)


def reserved_amount(booking: Booking, amount: Decimal) -> ReservedAmount:
    """Return what a job's row says of a booking."""
    pool, number = booking.target
    key = pool.key
    return ReservedAmount(key.budget, key.unit, key.period, number, amount)
