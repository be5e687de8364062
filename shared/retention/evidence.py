"""
How long credits and debits, and the audit trail, are kept: as closed months are, for RETAIN_STATEMENTS_YEARS.

A credit or debit stays until its month has no document any more, since that may name it. The trail of price books,
which is no customer's, stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.billing.adjustments import MONTHS, month_of, rows_of
from shared.billing.audit import AUDIT_PREFIX, audit_key_prefix
from shared.billing.closed_records import RECORD_PREFIX
from shared.storage.base import TIMESTAMP, Row, Table
from shared.storage.bulk import delete_rows, gather_limited

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class EvidenceRemoval:
    """
    Removes what was written before a time, None: nothing. Removing a page twice does no harm.

    Each method removes one page of a customer, and returns the continuation token of the next one, empty if there is
    none. Raises StorageUnavailable.
    """

    table: Table
    before: datetime | None

    async def remove_adjustments(self, customer: str, after: str) -> str:
        """Remove credits and debits, with the rows of their ids."""
        if self.before is None:
            return ""
        older = {TIMESTAMP: self.before}
        page = await self.table.page(customer, *MONTHS, older=older, columns=(TIMESTAMP,), after=after)
        months = sorted({month_of(row) for row in page.rows})
        closed = await gather_limited(self._is_closed(customer, month) for month in months)
        free = {month for month, is_closed in zip(months, closed, strict=True) if not is_closed}
        await delete_rows(self.table, [each for row in page.rows if month_of(row) in free for each in rows_of(row)])
        return page.after

    async def remove_audit(self, customer: str, after: str) -> str:
        """Remove audit entries."""
        if self.before is None:
            return ""
        first, last = audit_key_prefix(self.before - _TICK), f"{AUDIT_PREFIX}~"
        page = await self.table.page(customer, first, last, columns=(), after=after)
        await delete_rows(self.table, [Row(row.partition, row.key, {}) for row in page.rows])
        return page.after

    async def _is_closed(self, customer: str, month: str) -> bool:
        prefix = f"{RECORD_PREFIX}{month}"
        return bool((await self.table.page(customer, prefix, f"{prefix}~", columns=())).rows)
