"""Our amounts beside a provider's own, by day and by what both of them name. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from shared.billing.money import EXACT, amount_text, exact_sum, round_line

_Key = tuple[date, str]
_MAX_BILLED = Decimal(10) ** 15


@dataclass(slots=True)
class OurCosts:
    """What our records of a day and an item cost before markup."""

    amount: Decimal = Decimal(0)
    records: int = 0
    unpriced: int = 0
    """Records without a price; they are not in the amount."""
    input_tokens: int = 0
    output_tokens: int = 0
    names: set[str] = field(default_factory=set)
    """What the records call what the item consists of, such as models."""


@dataclass(slots=True)
class TheirCosts:
    """What the provider charges for a day and an item."""

    amount: Decimal = Decimal(0)
    names: set[str] = field(default_factory=set)
    """What the provider calls what the item consists of, such as line items or meters."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A day and an item. `verdict` says how both sides differ."""

    day: date
    item: str
    ours: OurCosts | None
    theirs: TheirCosts | None
    verdict: str
    """`equal`, `differs`, `only_ours` or `only_theirs`."""

    @property
    def difference(self) -> Decimal:
        """The provider's amount less ours."""
        return EXACT.subtract(*(side.amount if side else Decimal(0) for side in (self.theirs, self.ours)))


def compare(ours: dict[_Key, OurCosts], theirs: dict[_Key, TheirCosts], tolerance: Decimal) -> list[Comparison]:
    """Compare both sides; amounts that differ by up to `tolerance` are equal, also if one side has nothing."""
    return [_compare(key, ours.get(key), theirs.get(key), tolerance) for key in sorted(ours.keys() | theirs.keys())]


def document(comparisons: Sequence[Comparison], currency: str) -> dict[str, Any]:
    """Return the sums of both sides, and a line for each day and item."""
    ours = exact_sum(each.ours.amount for each in comparisons if each.ours)
    theirs = exact_sum(each.theirs.amount for each in comparisons if each.theirs)
    return {
        "currency": currency,
        "ours": text(ours, currency),
        "theirs": text(theirs, currency),
        "difference": text(EXACT.subtract(theirs, ours), currency),
        "lines": [_line(each, currency) for each in comparisons],
    }


def read_billed(text: str | Decimal) -> Decimal | None:
    """Return what a provider charges, exact; negative for a refund; None if it is no amount."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and abs(amount) < _MAX_BILLED else None


def differing(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Return those that are not equal."""
    return [each for each in comparisons if each.verdict != "equal"]


def text(amount: Decimal, currency: str) -> str:
    """Return an amount as documents have it, rounded as a statement's line is."""
    return amount_text(round_line(amount, currency))


def _compare(key: _Key, ours: OurCosts | None, theirs: TheirCosts | None, tolerance: Decimal) -> Comparison:
    verdict = "only_theirs" if ours is None else "only_ours" if theirs is None else "differs"
    comparison = Comparison(*key, ours, theirs, verdict)
    is_equal = abs(comparison.difference) <= tolerance and not (ours and ours.unpriced)
    return Comparison(*key, ours, theirs, "equal") if is_equal else comparison


def _line(comparison: Comparison, currency: str) -> dict[str, Any]:
    ours, theirs = comparison.ours, comparison.theirs
    members: dict[str, Any] = {"day": f"{comparison.day}", "item": comparison.item, "verdict": comparison.verdict}
    if ours:
        members |= {
            "ours": text(ours.amount, currency),
            "records": ours.records,
            "unpriced": ours.unpriced,
            "input_tokens": ours.input_tokens,
            "output_tokens": ours.output_tokens,
            "our_names": sorted(ours.names),
        }
    if theirs:
        members |= {"theirs": text(theirs.amount, currency), "their_names": sorted(theirs.names)}
    return {**members, "difference": text(comparison.difference, currency)}
