"""
Statements: a customer's usage records of a month, or of any other days, summed into lines.

Records are summed page by page, so that memory grows with the lines and not with the records. Prices are applied when a
statement is read: a record holds facts only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date

import msgspec

from shared.billing.periods import Days
from shared.billing.pricing import Pricing
from shared.billing.statement_sums import COLUMNS, DIMENSIONS, StatementSums
from shared.billing.usage_records import CountedRows, marker_range
from shared.contract.statement import Statement, StatementTotals
from shared.storage.base import Row, Table

DEFAULT_DIMENSIONS = ("day", "model", "action", "connection")


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of all customers."""

    table: Table

    async def read(
        self,
        customer: str,
        first: date,
        last: date,
        by: Sequence[str] = DEFAULT_DIMENSIONS,
        pricing: Pricing | None = None,
    ) -> Statement:
        """
        Return the customer's statement of the days from `first` to `last`, lines grouped `by` some of DIMENSIONS.

        Without usage it has no lines. Without prices it has no amounts. Raises StorageUnavailable.
        """
        sums = StatementSums(customer, Days(first, last), [name for name in DIMENSIONS if name in by], pricing)
        reader = CountedRows()
        for kind in ("u", "c"):
            async for rows in self._pages(customer, f"{kind}_{first}_", f"{kind}_{last}`"):
                sums.add(reader.read(rows))
        if reader.placeholders:
            markers = self.table.scan(customer, *marker_range(first, last))
            sums.add(reader.rest([row async for row in markers]))
        return sums.statement()

    async def _pages(self, customer: str, first: str, last: str) -> AsyncIterator[Sequence[Row]]:
        after = ""
        while True:
            page = await self.table.page(customer, first, last, columns=COLUMNS, after=after)
            yield page.rows
            after = page.after
            if not after:
                return
            await asyncio.sleep(0)  # summing a page blocks the event loop: let other tasks run between two pages


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
