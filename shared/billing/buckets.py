"""
A budget's buckets: what of its limit is reserved and spent in one period. Pure.

A single row would be written by every job of a customer, and refuse most of them. So the limit is divided among BUCKETS
rows, and a job writes one of them. The shares of all buckets are always the limit, and what is spent and reserved in a
bucket fits its share; so it fits the limit, although nobody reads all of them. If a share is too small, it gets
something of another bucket's.

In the same way the next threshold is divided: the `alert` of all buckets is the amount at which its event is due. As
long as each bucket has spent less than its own, all together have spent less.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal
from typing import NamedTuple

from msgspec import Struct, field
from msgspec.structs import replace

from shared.billing.money import EXACT
from shared.contract.budget import Budget, Period

BUCKETS = 16
"""A worker writes one bucket a hundred times a second, and a customer's jobs run on several workers."""
ZERO = Decimal(0)
_MAX_KINDS = 20
_MONEY_QUANTUM = Decimal("0.000001")


class Terms(NamedTuple):
    """What of a budget's definition its buckets depend on."""

    limit: Decimal
    thresholds: tuple[int, ...] = ()
    is_hard: bool = True


class Head(NamedTuple):
    """What the first bucket knows of all of them."""

    terms: Terms
    armed: Decimal = ZERO
    """The sum of all alerts."""
    passed: tuple[int, ...] = ()
    """The thresholds whose events exist."""
    is_balanced: bool = True
    """False: a bucket may have more than its share. Then nothing is done without a look at all buckets."""

    @property
    def line(self) -> Decimal | None:
        """The amount at which the next event is due; None if no event is left. A limit of 0 has no events."""
        left = [threshold for threshold in self.terms.thresholds if threshold not in self.passed]
        return percent_of(self.terms.limit, min(left)) if left and self.terms.limit else None


class Bucket(Struct, frozen=True):
    """One bucket."""

    number: int
    share: Decimal = ZERO
    """Its part of the limit."""
    alert: Decimal = ZERO
    """Its part of the amount at which the next event is due."""
    spent: Decimal = ZERO
    reserved: Decimal = ZERO
    largest: Mapping[str, Decimal] = field(default_factory=dict)
    """The most that a job has settled in it whose amount could not be estimated, by its kind."""
    head: Head | None = None
    """In bucket 0."""
    etag: str = ""

    @property
    def free(self) -> Decimal:
        """What can still be reserved in it; below zero: it has more than its share."""
        return EXACT.subtract(self.share, EXACT.add(self.spent, self.reserved))

    @property
    def slack(self) -> Decimal:
        """What can still be spent in it before somebody has to look at all buckets."""
        return EXACT.subtract(self.alert, self.spent)

    def changed(self, change: Change) -> Bucket:
        """Return it with so much more, or less, reserved and spent."""
        return replace(
            self,
            reserved=max(EXACT.add(self.reserved, change.reserved), ZERO),
            spent=EXACT.add(self.spent, change.spent),
            largest=_with_largest(self.largest, change) if change.kind else self.largest,
        )

    def holds(self, change: Change, head: Head) -> bool:
        """Return whether the change is possible without a look at the other buckets."""
        if not head.is_balanced and (change.wanted or change.spent):
            return False
        if change.spent and self.slack <= change.spent and head.line is not None:
            return False
        return not head.terms.is_hard or (needs := change.needs) <= ZERO or self.free >= needs


class Change(Struct, frozen=True):
    """What a transaction adds to what is reserved and spent in a bucket. Either may be negative or zero."""

    reserved: Decimal = ZERO
    spent: Decimal = ZERO
    wanted: Decimal = ZERO
    """What a job that begins reserves: it is refused if that is not left."""
    kind: str = ""
    """The kind of a job that ends with it and whose amount could not be estimated."""
    total: Decimal = ZERO
    """What that job has settled in all."""

    def __add__(self, other: Change) -> Change:
        return Change(
            EXACT.add(self.reserved, other.reserved),
            EXACT.add(self.spent, other.spent),
            EXACT.add(self.wanted, other.wanted),
            self.kind or other.kind,
            max(self.total, other.total),
        )

    @property
    def needs(self) -> Decimal:
        """How much of the bucket's share it takes."""
        return EXACT.add(self.reserved, self.spent)


def new_buckets(terms: Terms, quantum: Decimal) -> list[Bucket]:
    """Return the buckets of a period that begins, with equal parts of the limit; the first has what is left over."""
    head = Head(terms)
    line = head.line or ZERO
    share, alert = (_part(amount, quantum) for amount in (terms.limit, line))
    others = [Bucket(number, share, alert) for number in range(1, BUCKETS)]
    rest = BUCKETS - 1
    first = Bucket(
        0,
        EXACT.subtract(terms.limit, EXACT.multiply(share, Decimal(rest))),
        EXACT.subtract(line, EXACT.multiply(alert, Decimal(rest))),
        head=head._replace(armed=line),
    )
    return [first, *others]


def terms_of(budget: Budget) -> Terms:
    """Return what the buckets of a budget depend on."""
    return Terms(budget.limit, tuple(sorted(budget.thresholds)), budget.enforce == "hard")


def budget_of(terms: Terms, unit: str, period: Period) -> Budget:
    """Return a definition with these terms."""
    return Budget(
        limit=terms.limit,
        unit=unit,
        period=period,
        thresholds=list(terms.thresholds),
        enforce="hard" if terms.is_hard else "soft",
    )


def quantum_of(unit: str) -> Decimal:
    """Return the smallest part of a limit that is moved, unless a job needs just so much."""
    return Decimal(1) if unit in {"tokens", "jobs"} else _MONEY_QUANTUM


def _with_largest(largest: Mapping[str, Decimal], change: Change) -> Mapping[str, Decimal]:
    amounts = {**largest, change.kind: max(largest.get(change.kind, ZERO), change.total)}
    return dict(sorted(amounts.items(), key=lambda item: item[1], reverse=True)[:_MAX_KINDS])


def percent_of(limit: Decimal, percent: int) -> Decimal:
    """Return so many percent of a limit."""
    return EXACT.divide(EXACT.multiply(limit, Decimal(percent)), Decimal(100))


def _part(amount: Decimal, quantum: Decimal) -> Decimal:
    return EXACT.divide(amount, Decimal(BUCKETS)).quantize(quantum, ROUND_FLOOR, context=EXACT)
