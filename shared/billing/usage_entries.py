"""
What days have in a statement: the usage records that count, closed jobs, and what withdraws earlier placeholders.

Once a day is closed, it has the same entries whenever it is read. They are read page by page, so that memory does not
grow with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from shared.billing.money import EXACT
from shared.billing.usage_records import (
    JOBS,
    MAX_MARKER_DISTANCE,
    SINCE,
    attempt_of,
    day_of,
    is_placeholder,
    placeholder_days,
    placeholder_key,
)
from shared.clock import shifted
from shared.contract.usage import COUNTS
from shared.storage.base import Row, Table
from shared.storage.bulk import gather_limited, read_pages

FIXED_DIMENSIONS = ("source", "provider", "billed_to", "outcome", "service_tier", "processing", "deployment_scope")
"""
What lines are always grouped by: on whose account the calls were, whether they are certain to be billed, and what their
price depends on besides the model.
"""
LABELS = ("model", "answered_by", "action", "connection", *FIXED_DIMENSIONS)
"""The columns of a record that say what was called, on whose account."""
COLUMNS = (*LABELS, "reported", "calls", *COUNTS, "derived", "consistent", JOBS)
"""The columns of a record that a statement needs."""
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Entry:
    """A usage record or a closed job, or the sum of several with one price."""

    day: date
    """Whose line it is in."""
    priced_on: date
    values: Mapping[str, Any]
    """The columns of the record; of a sum, those that all have, and the sums of their counts."""
    rows: int = 1
    """How many records or closed jobs it is the sum of; -1: a placeholder that is withdrawn."""


@dataclass(slots=True)
class KeyHash:
    """The number and the hash of the keys of all rows that decide what a day has."""

    count: int = 0
    _hash: Any = field(default_factory=hashlib.sha256)

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows, in the order of their keys."""
        for row in rows:
            self.count += 1
            self._hash.update(f"{row.key}\n".encode())

    def hexdigest(self) -> str:
        """Return the hash."""
        return str(self._hash.hexdigest())


async def read_days(
    table: Table, customer: str, first: date, last: date, keys: KeyHash | None = None
) -> AsyncIterator[list[Entry]]:
    """Yield what the days from `first` to `last` have, and add their keys to `keys`. Raises StorageUnavailable."""
    placeholders: dict[str, Row] = {}
    for kind in ("u", "c"):
        async for rows in read_pages(table, customer, f"{kind}_{first}_", f"{kind}_{last}`", columns=COLUMNS):
            if keys is not None:
                keys.add(rows)
            placeholders |= {attempt_of(row): row for row in rows if is_placeholder(row)}
            yield [_entry(row) for row in rows if not is_placeholder(row)]
    markers: dict[str, Row] = {}
    begin = shifted(first, -MAX_MARKER_DISTANCE) if placeholders else first
    async for rows in read_pages(table, customer, f"m_{begin}_", f"m_{last}`", columns=(SINCE,)):
        if keys is not None:
            keys.add(row for row in rows if day_of(row) >= first)
        for row in rows:
            markers.setdefault(attempt_of(row), row)  # the earliest holds
    yield [
        _entry(row)
        for attempt, row in placeholders.items()
        if attempt not in markers or day_of(markers[attempt]) > day_of(row)
    ]
    yield await _withdrawn(table, customer, first, placeholders, markers)


async def hash_keys(table: Table, customer: str, day: date) -> KeyHash:
    """Return number and hash of a day's keys, as `read_days` adds them. Raises StorageUnavailable."""
    keys = KeyHash()
    for kind in ("u", "c", "m"):
        async for rows in read_pages(table, customer, f"{kind}_{day}_", f"{kind}_{day}`", columns=()):
            keys.add(rows)
    return keys


def add_exact(left: Any, right: Any) -> Any:
    """Return the exact sum of what is known of two counts; None if nothing is. A float is as it is written."""
    exact = Decimal(str(right)) if isinstance(right, float) else right
    if left is None or exact is None:
        return exact if left is None else left
    return EXACT.add(left, exact) if isinstance(exact, Decimal) or isinstance(left, Decimal) else left + exact


def as_number(count: Any) -> Any:
    """Return an exact sum as documents have it."""
    return float(count) if isinstance(count, Decimal) else count


def _entry(row: Row) -> Entry:
    day = day_of(row)
    return Entry(day, day, row.values)


async def _withdrawn(
    table: Table, customer: str, first: date, placeholders: Mapping[str, Row], markers: Mapping[str, Row]
) -> list[Entry]:
    """Return what markers withdraw on their own days: placeholders of earlier days, which count there."""
    pairs = [(marker, placeholders[attempt]) for attempt, marker in markers.items() if attempt in placeholders]
    unknown = [marker for attempt, marker in markers.items() if attempt not in placeholders and day_of(marker) >= first]
    rows_before = await gather_limited(_placeholder_before(table, customer, marker, first) for marker in unknown)
    pairs += [(marker, row) for marker, row in zip(unknown, rows_before, strict=True) if row is not None]
    later = [(marker, row) for marker, row in pairs if day_of(marker) > day_of(row)]
    return [Entry(day_of(marker), day_of(row), row.values, -1) for marker, row in later if day_of(marker) >= first]


async def _placeholder_before(table: Table, customer: str, marker: Row, first: date) -> Row | None:
    """Read the placeholder of a marker's attempt that is of a day before `first`."""
    earliest, latest = placeholder_days(marker)
    day = min(latest, first - _DAY)
    while day >= earliest:
        if (row := await table.read(customer, placeholder_key(marker, day))) is not None:
            return row
        day -= _DAY
    return None
