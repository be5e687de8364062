"""
Statements: a customer's usage records of a month, summed into lines.

Records are summed page by page, so that memory grows with the lines and not with the records. Prices are applied when a
statement is read: a record holds facts only.
"""

from __future__ import annotations

import asyncio
import re
from calendar import monthrange
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date

import msgspec

from shared.billing.pricing import Pricing
from shared.billing.statement_sums import COLUMNS, DIMENSIONS, StatementSums
from shared.billing.usage_records import CountedRows, marker_range
from shared.contract.documents import Statement, StatementTotals
from shared.storage.base import Row, Table

DEFAULT_DIMENSIONS = ("day", "model", "action", "connection")

is_month = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])").fullmatch


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of all customers."""

    table: Table

    async def read(
        self,
        customer: str,
        month: str,
        by: Sequence[str] = DEFAULT_DIMENSIONS,
        pricing: Pricing | None = None,
    ) -> Statement:
        """
        Return the customer's statement of a month such as `2026-11`, its lines grouped `by` some of DIMENSIONS.

        A month without usage has no lines. Without prices it has no amounts. Raises StorageUnavailable.
        """
        sums = StatementSums(customer, month, [name for name in DIMENSIONS if name in by], pricing)
        reader = CountedRows()
        for kind in ("u", "c"):
            async for rows in self._pages(customer, f"{kind}_{month}-"):
                sums.add(reader.read(rows))
        if reader.placeholders:
            sums.add(reader.rest(await self._markers(customer, month)))
        return sums.statement()

    async def _pages(self, customer: str, prefix: str) -> AsyncIterator[Sequence[Row]]:
        after = ""
        while True:
            page = await self.table.page(customer, prefix, f"{prefix}`", columns=COLUMNS, after=after)
            yield page.rows
            after = page.after
            if not after:
                return
            await asyncio.sleep(0)  # summing a page blocks the event loop: let other tasks run between two pages

    async def _markers(self, customer: str, month: str) -> list[Row]:
        year, number = map(int, month.split("-"))
        first, last = marker_range(date(year, number, 1), date(year, number, monthrange(year, number)[1]))
        return [row async for row in self.table.scan(customer, first, last)]


def for_customer(statement: Statement) -> Statement:
    """Return a statement as a caller sees it that is tied to the customer: without what shows list prices."""
    totals = {
        name: msgspec.structs.replace(getattr(statement.totals, name), list_amount=None)
        for name in StatementTotals.__struct_fields__
    }
    return msgspec.structs.replace(
        statement,
        totals=StatementTotals(**totals),
        lines=[msgspec.structs.replace(line, list_amount=None) for line in statement.lines],
        unpriced=[msgspec.structs.replace(each, reason=None) for each in statement.unpriced],
    )
