"""
A customer's month, added up from its usage records while they are read page by page: memory is that of the lines.

Facts only: prices are applied to a statement by whoever reads it (docs/bill.md).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.billing.usage_records import CountedRows
from shared.contract.documents import Statement, StatementLine, StatementTotals, UsageTotals
from shared.storage.base import Row, Table

CHOICES = ("month", "day", "model", "action", "connection")
"""What lines can be told apart by."""
USUAL = ("day", "model", "action", "connection")
ALWAYS = ("source", "provider", "billed_to", "outcome")
"""What lines are told apart by in any case: who pays whom, and whether it is beyond doubt."""
SUMS = UsageTotals.__struct_fields__
_TOLD = SUMS[3:]
_COLUMNS = ("at", "model", "action", "connection", *ALWAYS, "reported", "calls", *_TOLD)

is_month = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])").fullmatch

_Label = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of all customers."""

    table: Table

    async def of(self, customer: str, month: str, by: Sequence[str] = USUAL) -> Statement:
        """
        The customer's statement of a month such as `2026-11`, its lines told apart `by` some of CHOICES.

        A month without usage has no lines. Raises StorageUnavailable.
        """
        labels = [name for name in CHOICES if name in by]
        sums: dict[_Label, list[int]] = {}
        reader, after = CountedRows(), ""
        while True:
            page = await self.table.page(customer, f"u_{month}_", f"u_{month}`", columns=_COLUMNS, after=after)
            _add(sums, reader.read(page.rows), month, labels)
            after = page.after
            if not after:
                break
            await asyncio.sleep(0)  # a page is added up in one go: others come between two
        _add(sums, reader.rest(), month, labels)
        names = (*labels, *ALWAYS, *SUMS)
        lines = [_line(dict(zip(names, (*label, *sums[label]), strict=True))) for label in sorted(sums)]
        return Statement(customer=customer, month=month, by=labels, totals=_totals(sums), lines=lines)


def _add(sums: dict[_Label, list[int]], rows: Iterable[Row], month: str, labels: Sequence[str]) -> None:
    for row in rows:
        values = row.values
        own = [_own(values, month, name) for name in labels]
        label = (*own, *(values.get(name) or "" for name in ALWAYS[:-1]), values.get("outcome") or "answered")
        line = sums.get(label)
        if line is None:
            line = sums[label] = [0] * len(SUMS)
        calls = values.get("calls", 0)
        line[0] += 1
        line[1] += calls
        line[2] += 0 if values.get("reported") else calls
        for place, name in enumerate(_TOLD, 3):
            line[place] += values.get(name, 0)


def _own(values: Any, month: str, name: str) -> str:
    if name == "month":
        return month
    if name == "day":
        return f"{month}-{values['at'].day:02}"  # the month in the key is that of `at`, in UTC
    return values.get(name) or ""


def _line(values: dict[str, Any]) -> StatementLine:
    return StatementLine(**values)


def _totals(sums: dict[_Label, list[int]]) -> StatementTotals:
    found: dict[str, list[int]] = {}
    for label, line in sums.items():
        total = found.setdefault(label[-1], [0] * len(SUMS))
        for place, amount in enumerate(line):
            total[place] += amount
    known = {outcome: UsageTotals(**dict(zip(SUMS, line, strict=True))) for outcome, line in found.items()}
    nothing = UsageTotals()
    return StatementTotals(
        answered=known.get("answered", nothing),
        lost=known.get("lost", nothing),
        unanswered=known.get("unanswered", nothing),
    )
