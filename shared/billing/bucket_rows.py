"""A budget's buckets as rows: `b_{budget}_{unit}_{period}_{number}` in the customer's partition. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from shared.billing.buckets import Bucket, Change, Head, Terms
from shared.billing.money import amount_text
from shared.contract.budget import Budget, Period
from shared.storage.base import Row

FIRST, LAST = "b_", "b`"
"""The range of the keys of all buckets."""
_AMOUNTS = ("share", "alert", "spent", "reserved")


class PoolKey(NamedTuple):
    """What the buckets are of: a customer's budget in one period. Another unit has buckets of its own."""

    customer: str
    budget: str
    unit: str
    period: str
    """`2026-11` or `2026-11-29`."""

    @property
    def kind(self) -> Period:
        """Whether the period is a day or a month."""
        return "month" if len(self.period) == len("2026-11") else "day"

    @property
    def prefix(self) -> str:
        """How the keys of its buckets begin."""
        return f"b_{self.budget}_{self.unit}_{self.period}_"

    def bucket_key(self, number: int) -> str:
        """Return the key of a bucket."""
        return f"{self.prefix}{number:02}"

    def row(self, bucket: Bucket) -> Row:
        """Return the row of a bucket, to be merged at its etag."""
        return Row(self.customer, self.bucket_key(bucket.number), _values(bucket), bucket.etag)

    def used_row(self, bucket: Bucket, change: Change) -> Row:
        """As `row`, if nothing but this change of what is reserved and spent has to be written."""
        values: dict[str, Any] = {}
        if change.reserved:
            values["reserved"] = amount_text(bucket.reserved)
        if change.spent:
            values["spent"] = amount_text(bucket.spent)
        if change.kind:
            values["largest"] = _largest(bucket)
        return Row(self.customer, self.bucket_key(bucket.number), values, bucket.etag)

    def read(self, row: Row) -> Bucket:
        """Return the bucket in a row."""
        return _read(int(row.key[-2:]), row.values, row.etag)


def pool_key(customer: str, name: str, budget: Budget, at: datetime) -> PoolKey:
    """Return what the buckets of a budget are of at a time."""
    return PoolKey(customer, name, budget.unit, period_at(budget.period, at))


def period_at(period: Period, at: datetime) -> str:
    """Return the name of the period that a time belongs to, in UTC."""
    return at.astimezone(UTC).date().isoformat()[: len("2026-11") if period == "month" else None]


def period_start(period: Period, at: datetime) -> datetime:
    """Return when the period of a time began."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day.replace(day=1) if period == "month" else day


def next_start(period: Period, at: datetime) -> datetime:
    """Return when the next period begins."""
    start = period_start(period, at)
    return period_start(period, start + timedelta(days=31 if period == "month" else 1))


def period_of_key(key: str) -> str:
    """Return the period of a bucket's key."""
    return key.rsplit("_", 2)[1]


def _values(bucket: Bucket) -> dict[str, Any]:
    values: dict[str, Any] = {name: amount_text(getattr(bucket, name)) for name in _AMOUNTS}
    if bucket.largest:
        values["largest"] = _largest(bucket)
    if bucket.head is None:
        return values
    terms, armed, passed, is_balanced = bucket.head
    return values | {
        "limit": amount_text(terms.limit),
        "thresholds": _joined(terms.thresholds),
        "hard": terms.is_hard,
        "armed": amount_text(armed),
        "passed": _joined(passed),
        "balanced": is_balanced,
    }


def _read(number: int, values: Mapping[str, Any], etag: str) -> Bucket:
    head = None
    if number == 0:
        terms = Terms(Decimal(values["limit"]), _split(values["thresholds"]), values["hard"])
        head = Head(terms, Decimal(values["armed"]), _split(values["passed"]), values["balanced"])
    share, alert, spent, reserved = (Decimal(values[name]) for name in _AMOUNTS)
    largest = msgspec.json.decode(values["largest"], type=dict[str, Decimal]) if "largest" in values else {}
    return Bucket(number, share, alert, spent, reserved, largest, head, etag)


def _largest(bucket: Bucket) -> str:
    return msgspec.json.encode(dict(bucket.largest)).decode()


def _joined(numbers: Iterable[int]) -> str:
    return ",".join(map(str, numbers))


def _split(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)
