"""The counts of usage records, results and statements: what calls consumed, as the provider reported it."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Any, Literal

from msgspec import Struct

Processing = Literal["standard", "batch", "background_2h", "background_8h"]
DeploymentScope = Literal["global", "data_zone", "regional"]
MIXED = "mixed"
"""The label of a sum over calls with different ones."""
_EXACT = Context(prec=120)


class Counts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What calls consumed. A count that the provider did not report is missing; 0 means that it reported zero.

    A sum adds up the counts that are known, and is missing if none is.
    """

    input_tokens: int | None = None
    """All tokens that went in, cached ones included, however the provider counts."""
    cached_tokens: int | None = None
    """Part of the input: read from a cache."""
    cache_write_tokens: int | None = None
    """Part of the input: written to a cache for the provider's ordinary time to live."""
    cache_write_long_tokens: int | None = None
    """Part of the input: written to a cache for a longer time to live."""
    output_tokens: int | None = None
    """All tokens that came out, reasoning included."""
    reasoning_tokens: int | None = None
    """Part of the output."""
    total_tokens: int | None = None
    """The provider's own total."""
    audio_input_tokens: int | None = None
    audio_output_tokens: int | None = None
    image_input_tokens: int | None = None
    image_output_tokens: int | None = None
    images: int | None = None
    """Images in the response."""
    seconds: float | None = None
    """Of audio, if the provider charges by duration."""
    characters: int | None = None


class UsageCost(Struct, frozen=True, kw_only=True):
    """What calls cost by the price book, after markup."""

    amount: str
    """A decimal string."""
    currency: str

    def __add__(self, other: UsageCost) -> UsageCost | None:
        if self.currency != other.currency:
            return None
        amount = _EXACT.add(Decimal(self.amount), Decimal(other.amount))
        return UsageCost(amount=f"{amount:f}", currency=self.currency)


class Usage(Counts, frozen=True, kw_only=True, omit_defaults=True):
    """What upstream calls consumed, as the provider counted it."""

    calls: int = 0
    """Responses from the endpoint."""
    service_tier: str | None = None
    """The tier that served, from the response; `mixed` in a sum over several."""
    processing: str | None = None
    """`standard`, `batch`, `background_2h` or `background_8h`; `mixed` in a sum over several."""
    deployment_scope: str | None = None
    """`global`, `data_zone` or `regional`, if the connection says so; `mixed` in a sum over several."""
    derived: tuple[str, ...] = ()
    """Names of counts that were computed from the provider's total."""
    consistent: bool | None = None
    """False if the provider's own counts contradict each other; they are kept as it reported them."""
    cost: UsageCost | None = None
    """By the price book in use, with the fee of the job. Missing if any of the calls has no price."""

    def __add__(self, other: Usage) -> Usage:
        if other == NO_USAGE:  # most jobs make one call
            return self
        if self == NO_USAGE:
            return other
        return Usage(
            calls=self.calls + other.calls,
            service_tier=_common(self.service_tier, other.service_tier),
            processing=_common(self.processing, other.processing),
            deployment_scope=_common(self.deployment_scope, other.deployment_scope),
            derived=tuple(sorted({*self.derived, *other.derived})),
            consistent=all_consistent(self.consistent, other.consistent),
            cost=self.cost + other.cost if self.cost and other.cost else None,
            **{name: add(getattr(self, name), getattr(other, name)) for name in COUNTS},
        )


NO_USAGE = Usage()
COUNTS: tuple[str, ...] = Counts.__struct_fields__
"""Names of the counts that can be added up."""


def add(count: float | None, other: float | None) -> Any:
    """Return the sum of what is known of two counts; None if nothing is."""
    if count is None or other is None:
        return other if count is None else count
    total = count + other
    return total if isinstance(total, int) else round(total, 6)


def all_consistent(left: bool | None, right: bool | None) -> bool | None:
    """Return False if either is False, None if both are None, else True."""
    return min((value for value in (left, right) if value is not None), default=None)


def _common(label: str | None, other: str | None) -> str | None:
    if label is None or other is None:
        return other if label is None else label
    return label if label == other else MIXED
