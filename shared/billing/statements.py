"""
Statements: a customer's usage records of a month, or of any other days, summed into lines.

Closed days are read from their rollups, and others from their records, which are summed page by page, so that memory
grows with the lines and not with the records. Prices are applied when a statement is read: a record holds facts only.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import msgspec

from shared.billing.periods import Days
from shared.billing.pricing import Pricing
from shared.billing.rollups import Rollups
from shared.billing.statement_sums import DIMENSIONS, StatementSums
from shared.contract.statement import Statement, StatementTotals, UnpricedCalls
from shared.storage.base import Table

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
        steps = frozenset[int]() if pricing is None else pricing.steps
        async for entries in Rollups(self.table).entries(customer, first, last, steps):
            sums.add(entries)
            await asyncio.sleep(0)  # it blocks the event loop: let other tasks run between two pages
        return sums.statement()


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
        unpriced=_without_reasons(statement.unpriced),
    )


def _without_reasons(unpriced: Iterable[UnpricedCalls]) -> list[UnpricedCalls]:
    """One entry for what differs in nothing but the reason, which may name a day."""
    records = Counter[tuple[str, str]]()
    for each in unpriced:
        records[each.model, each.outcome] += each.records
    return [
        UnpricedCalls(model=model, outcome=outcome, records=count)
        for (model, outcome), count in records.items()
        if count
    ]
