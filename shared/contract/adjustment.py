"""Credits and debits that the operator adds to a customer's month by hand."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Annotated

from msgspec import Meta, Struct

from shared.clock import now
from shared.contract.decoding import decode
from shared.contract.names import Currency, Line
from shared.contract.price_book import MAX_AMOUNT
from shared.errors import InvalidJob

MAX_AHEAD = timedelta(days=366)
"""How far ahead the month of an adjustment may begin."""

AdjustmentId = Annotated[
    str,
    Meta(
        max_length=100,
        pattern=r"^[A-Za-z0-9._-]{1,100}\Z",
        description="1 to 100 letters, digits, `.`, `_` or `-`",
    ),
]
Month = Annotated[str, Meta(pattern=r"^[1-9][0-9]{3}-(0[1-9]|1[0-2])\Z", description="a month, such as 2026-11")]
SignedAmount = Annotated[
    str,
    Meta(
        pattern=r"^-?[0-9]{1,9}(\.[0-9]{1,8})?\Z",
        description="a decimal string below 1,000,000,000, such as -12.50, with at most 8 places",
    ),
]


class NewAdjustment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A credit or debit to be added."""

    id: AdjustmentId
    """The idempotency key within the customer: the same id and content again adds nothing."""
    month: Month
    """The month that it belongs to. If that is closed, it becomes part of the next correction."""
    amount: SignedAmount
    """A decimal string, not 0. A credit, which the customer pays less for, is negative."""
    currency: Currency
    """The currency of the customer's documents of the month."""
    description: Line
    """What the customer reads on its statement."""


class Adjustment(NewAdjustment, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A credit (negative) or debit. It never changes; a wrong one is corrected by another one."""

    at: str
    """When it was added."""
    by: str
    """Who added it."""


class AdjustmentPage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some of a customer's credits and debits, in the order of their months and ids."""

    adjustments: list[Adjustment]
    continuation: str | None = None
    """For the next page. Missing on the last page."""


def decode_adjustment(data: bytes) -> NewAdjustment:
    """Return the adjustment in `data`. Raises InvalidJob, naming the member at fault."""
    adjustment = decode(data, NewAdjustment, root="The adjustment")
    amount = Decimal(adjustment.amount)
    if not amount or abs(amount) >= MAX_AMOUNT:
        raise InvalidJob("`amount` must be a decimal string other than 0, such as -12.50.")
    latest = f"{now() + MAX_AHEAD:%Y-%m}"
    if adjustment.month > latest:
        raise InvalidJob(f"`month` is too far ahead: it may be {latest} at the latest.")
    return adjustment
