"""
Statements: a customer's usage records of a month, summed into lines.

Records are summed page by page, so that memory grows with the lines and not with the records. A statement holds facts
only; its reader applies prices (docs/bill.md).
"""

from __future__ import annotations

import asyncio
import re
from calendar import monthrange
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from shared.billing.usage_records import CountedRows, marker_range
from shared.contract.documents import Statement, StatementLine, StatementTotals, UsageTotals
from shared.contract.usage import COUNTS, add, all_consistent
from shared.storage.base import Row, Table

DIMENSIONS = ("month", "day", "model", "action", "connection")
"""What lines can be grouped by."""
DEFAULT_DIMENSIONS = ("day", "model", "action", "connection")
FIXED_DIMENSIONS = ("source", "provider", "billed_to", "outcome", "service_tier", "processing", "deployment_scope")
"""
What lines are always grouped by: on whose account the calls were, whether they are certain to be billed, and what their
price depends on besides the model.
"""
MEASURES = ("records", "calls", "unreported", *COUNTS, "derived", "consistent")
"""What a line sums up."""
_NULLABLE = frozenset({"service_tier", "processing", "deployment_scope"})
_COLUMNS = ("at", "model", "action", "connection", *FIXED_DIMENSIONS, "reported", "calls", *COUNTS, *MEASURES[-2:])

is_month = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])").fullmatch

_Group = tuple[str, ...]
"""The values of a line's dimensions."""


@dataclass(slots=True)
class _Sum:
    """A sum over usage records."""

    records: int = 0
    calls: int = 0
    unreported: int = 0
    counts: list[Any] = field(default_factory=lambda: [None] * len(COUNTS))
    derived: set[str] = field(default_factory=set)
    consistent: bool | None = None

    def add_record(self, values: Mapping[str, Any]) -> None:
        """Add a usage record."""
        calls = values.get("calls", 0)
        self.records += 1
        self.calls += calls
        self.unreported += 0 if values.get("reported") else calls
        for index, name in enumerate(COUNTS):
            if (count := values.get(name)) is not None:
                self.counts[index] = add(self.counts[index], count)
        if derived := values.get("derived"):
            self.derived.update(derived.split(","))
        self.consistent = all_consistent(self.consistent, values.get("consistent"))

    def add_sum(self, other: _Sum) -> None:
        """Add another sum."""
        self.records += other.records
        self.calls += other.calls
        self.unreported += other.unreported
        self.counts = [add(*pair) for pair in zip(self.counts, other.counts, strict=True)]
        self.derived |= other.derived
        self.consistent = all_consistent(self.consistent, other.consistent)

    def measures(self) -> dict[str, Any]:
        """Return the sum as the members of UsageTotals."""
        return {
            "records": self.records,
            "calls": self.calls,
            "unreported": self.unreported,
            **dict(zip(COUNTS, self.counts, strict=True)),
            "derived": tuple(sorted(self.derived)),
            "consistent": self.consistent,
        }


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of all customers."""

    table: Table

    async def read(self, customer: str, month: str, by: Sequence[str] = DEFAULT_DIMENSIONS) -> Statement:
        """
        Return the customer's statement of a month such as `2026-11`, its lines grouped `by` some of DIMENSIONS.

        A month without usage has no lines. Raises StorageUnavailable.
        """
        dimensions = [name for name in DIMENSIONS if name in by]
        sums: dict[_Group, _Sum] = {}
        reader, after = CountedRows(), ""
        while True:
            page = await self.table.page(customer, f"u_{month}-", f"u_{month}-`", columns=_COLUMNS, after=after)
            _add(sums, reader.read(page.rows), month, dimensions)
            after = page.after
            if not after:
                break
            await asyncio.sleep(0)  # summing a page blocks the event loop: let other tasks run between two pages
        if reader.placeholders:
            _add(sums, reader.rest(await self._markers(customer, month)), month, dimensions)
        lines = [_line(dimensions, group, sums[group]) for group in sorted(sums)]
        return Statement(customer=customer, month=month, by=dimensions, totals=_totals(dimensions, sums), lines=lines)

    async def _markers(self, customer: str, month: str) -> list[Row]:
        year, number = map(int, month.split("-"))
        first, last = marker_range(date(year, number, 1), date(year, number, monthrange(year, number)[1]))
        return [row async for row in self.table.scan(customer, first, last)]


def _add(sums: dict[_Group, _Sum], rows: Iterable[Row], month: str, dimensions: Sequence[str]) -> None:
    for row in rows:
        group = tuple(_dimension_value(row.values, month, name) for name in (*dimensions, *FIXED_DIMENSIONS))
        line = sums.get(group)
        if line is None:
            line = sums[group] = _Sum()
        line.add_record(row.values)


def _dimension_value(values: Mapping[str, Any], month: str, name: str) -> str:
    if name == "month":
        return month
    if name == "day":
        return f"{month}-{values['at'].day:02}"  # the month in the key is that of `at`, in UTC
    return values.get(name) or ("answered" if name == "outcome" else "")


def _line(dimensions: Sequence[str], group: _Group, line: _Sum) -> StatementLine:
    labels: dict[str, Any] = dict(zip((*dimensions, *FIXED_DIMENSIONS), group, strict=True))
    labels |= {name: labels[name] or None for name in _NULLABLE}
    return StatementLine(**labels, **line.measures())


def _totals(dimensions: Sequence[str], sums: dict[_Group, _Sum]) -> StatementTotals:
    by_outcome: dict[str, _Sum] = {}
    outcome = len(dimensions) + FIXED_DIMENSIONS.index("outcome")
    for group, line in sums.items():
        by_outcome.setdefault(group[outcome], _Sum()).add_sum(line)
    totals = {name: UsageTotals(**line.measures()) for name, line in by_outcome.items()}
    no_usage = UsageTotals(records=0, calls=0, unreported=0)
    return StatementTotals(
        answered=totals.get("answered", no_usage),
        lost=totals.get("lost", no_usage),
        unanswered=totals.get("unanswered", no_usage),
    )
