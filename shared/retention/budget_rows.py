"""What the sweep does about budgets: it removes the buckets of old periods."""

from __future__ import annotations

from dataclasses import dataclass

from shared.billing.bucket_rows import FIRST, LAST, period_of_key
from shared.storage.base import Row, Table
from shared.storage.bulk import delete_rows


@dataclass(frozen=True, slots=True)
class BudgetRows:
    """The buckets of all customers, and the rows beside them (see `jobs.projections`)."""

    table: Table

    async def remove(self, customer: str, after: str, *, before: str) -> str:
        """
        Remove those of periods before the month `before`; empty: none. Raises StorageUnavailable.

        Takes one page of them, from the continuation token `after`; returns the token of the next one, or "".
        """
        if not before:
            return ""
        page = await self.table.page(customer, FIRST, LAST, columns=(), after=after)
        old = [Row(row.partition, row.key, {}) for row in page.rows if period_of_key(row.key) < before]
        await delete_rows(self.table, old)
        return page.after
