"""
How long closed months are kept: RETAIN_STATEMENTS_YEARS, whatever becomes of jobs, usage records and the customer.

Goes by the records, and knows each file by its name: nothing else in the container is looked at. Numbers stay, so that
none is used twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from shared.billing.closed_records import CLOSED_AT, INTERNAL, MEDIA_TYPES, RECORD_PREFIX, blob_name, document_of
from shared.retention.expiry import Removed
from shared.storage.base import TIMESTAMP, Blobs, Row, Table
from shared.storage.bulk import delete_rows, gather_limited


@dataclass(frozen=True, slots=True)
class ClosedMonthRemoval:
    """Removes the documents that were closed before a time, and counts them. Removing a page twice does no harm."""

    table: Table
    blobs: Blobs
    container: str
    removed: Removed
    before: datetime | None
    """None: all are kept."""

    async def remove(self, customer: str, after: str) -> str:
        """
        Remove one page of a customer's documents, their files first.

        Return the continuation token of the next page, empty if there is none. Raises StorageUnavailable.
        """
        if self.before is None:
            return ""
        page = await self.table.page(
            customer,
            RECORD_PREFIX,
            f"{RECORD_PREFIX}~",
            older={CLOSED_AT: self.before},
            columns=(CLOSED_AT, TIMESTAMP),  # without TIMESTAMP, Azure returns no etag
            after=after,
        )
        records = [(document, row) for row in page.rows if (document := document_of(row.key)) is not None]
        names = [blob_name(customer, document, file) for document, _ in records for file in (*MEDIA_TYPES, INTERNAL)]
        await gather_limited(self.blobs.delete(self.container, name) for name in names)
        rows = [Row(row.partition, row.key, {}, row.etag) for _, row in records]
        self.removed.statements += await delete_rows(self.table, rows)
        return page.after


def kept_from(years: int, at: datetime) -> datetime | None:
    """Return when the oldest document was closed that is kept: in one of so many whole years, or in the current one."""
    return datetime(at.year - years, 1, 1, tzinfo=UTC) if years else None
