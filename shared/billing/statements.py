"""
Statements: a customer's usage records of a month, summed into lines.

Records are summed page by page, so that memory grows with the lines and not with the records. A statement holds facts
only; its reader applies prices (docs/bill.md).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.billing.usage_records import CountedRows
from shared.contract.documents import Statement, StatementLine, StatementTotals, UsageTotals
from shared.storage.base import Row, Table

DIMENSIONS = ("month", "day", "model", "action", "connection")
"""What lines can be grouped by."""
DEFAULT_DIMENSIONS = ("day", "model", "action", "connection")
FIXED_DIMENSIONS = ("source", "provider", "billed_to", "outcome")
"""What lines are always grouped by: on whose account the calls were, and whether they are certain to be billed."""
MEASURES = UsageTotals.__struct_fields__
"""What a line sums up."""
_COUNTS = MEASURES[3:]
"""The measures that are columns of a usage record. `records`, `calls` and `unreported` come before them."""
_COLUMNS = ("at", "model", "action", "connection", *FIXED_DIMENSIONS, "reported", "calls", *_COUNTS)

is_month = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])").fullmatch

_Group = tuple[str, ...]
"""The values of a line's dimensions, the outcome last."""


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
        sums: dict[_Group, list[int]] = {}
        reader, after = CountedRows(), ""
        while True:
            page = await self.table.page(customer, f"u_{month}_", f"u_{month}`", columns=_COLUMNS, after=after)
            _add(sums, reader.read(page.rows), month, dimensions)
            after = page.after
            if not after:
                break
            await asyncio.sleep(0)  # summing a page blocks the event loop: let other tasks run between two pages
        _add(sums, reader.rest(), month, dimensions)
        lines = [_line(dimensions, group, sums[group]) for group in sorted(sums)]
        return Statement(customer=customer, month=month, by=dimensions, totals=_totals(sums), lines=lines)


def _add(sums: dict[_Group, list[int]], rows: Iterable[Row], month: str, dimensions: Sequence[str]) -> None:
    for row in rows:
        values = row.values
        group = (
            *(_dimension_value(values, month, name) for name in dimensions),
            *(values.get(name) or "" for name in FIXED_DIMENSIONS[:-1]),
            values.get("outcome") or "answered",
        )
        line = sums.get(group)
        if line is None:
            line = sums[group] = [0] * len(MEASURES)
        calls = values.get("calls", 0)
        line[0] += 1
        line[1] += calls
        line[2] += 0 if values.get("reported") else calls
        for index, name in enumerate(_COUNTS, 3):
            line[index] += values.get(name, 0)


def _dimension_value(values: Mapping[str, Any], month: str, name: str) -> str:
    if name == "month":
        return month
    if name == "day":
        return f"{month}-{values['at'].day:02}"  # the month in the key is that of `at`, in UTC
    return values.get(name) or ""


def _line(dimensions: Sequence[str], group: _Group, sums: Sequence[int]) -> StatementLine:
    labels: dict[str, Any] = dict(zip((*dimensions, *FIXED_DIMENSIONS), group, strict=True))
    return StatementLine(**labels, **_measures(sums))


def _measures(sums: Sequence[int]) -> dict[str, Any]:
    return dict(zip(MEASURES, sums, strict=True))


def _totals(sums: dict[_Group, list[int]]) -> StatementTotals:
    by_outcome: dict[str, list[int]] = {}
    for group, line in sums.items():
        total = by_outcome.setdefault(group[-1], [0] * len(MEASURES))
        for index, amount in enumerate(line):
            total[index] += amount
    totals = {outcome: UsageTotals(**_measures(total)) for outcome, total in by_outcome.items()}
    no_usage = UsageTotals()
    return StatementTotals(
        answered=totals.get("answered", no_usage),
        lost=totals.get("lost", no_usage),
        unanswered=totals.get("unanswered", no_usage),
    )
