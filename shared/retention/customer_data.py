"""
Exports or erases all data of one customer: its rows, and the blobs whose names begin with its id.

An erasure keeps what invoices are proved by (EVIDENCE), and erases every other row, so that no kind is forgotten.
Credentials, queues and logs are not included (docs/retention.md).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.billing.closed_records import ERASED_KEY, WHOLE_BEFORE, is_customers_file
from shared.billing.customer_records import RECORD_KEY
from shared.clock import now, rfc3339
from shared.contract.names import NAME_RULE, is_name
from shared.errors import InvalidJob, StorageUnavailable
from shared.jobs.schedule_entries import erase_entries
from shared.retention.export_directory import CUSTOMERS, OPERATORS, ExportDirectory
from shared.retention.exported_rows import encode_row
from shared.settings import Settings
from shared.storage.base import BlobPage, Blobs, ContainerMissing, Row, RowConflict, RowPage, Table
from shared.storage.bulk import delete_rows, gather_limited

EVIDENCE = ("a_", "d_", "n_", "x_")
"""
How the keys of rows begin that stay: audit entries, credits and debits, numbers and records of closed months. The
documents of closed months stay, too.
"""
_OPERATORS = (RECORD_KEY, "o_", "y_", *EVIDENCE)
"""How the keys of rows begin that the customer itself is not shown."""
_ALL_KEYS = ("", "~")
_ROUNDS = 3
"""Passes of an erasure, as long as each still finds something."""


@dataclass(slots=True)
class Counts:
    """The number of rows, and of blobs by container; None: the container does not exist."""

    rows: int = 0
    blobs: dict[str, int | None] = field(default_factory=dict)
    unfinished: int = 0
    """Jobs among the rows that were not done."""
    kept: int = 0
    """Rows that an erasure left, as invoices need them."""
    nothing_left: bool = False
    """Whether the last pass of an erasure found nothing."""


class CustomerData:
    """One customer's data. Raises InvalidJob if `customer` is not a valid customer id."""

    def __init__(self, table: Table, blobs: Blobs, settings: Settings, customer: str) -> None:
        if not is_name(customer):
            raise InvalidJob(f"{customer!r} is not a customer id, which is {NAME_RULE}.")
        self.customer = customer
        self.containers = tuple(
            dict.fromkeys((settings.results_container, settings.templates_container, *settings.input_containers))
        )
        self._statements = settings.statements_container
        self._table = table
        self._blobs = blobs

    async def export(self, directory: Path) -> Counts:
        """
        Write everything into a directory, which must be new or empty. Holds one page in memory at a time.

        `rows.jsonl` has a row in each line, and `operator.jsonl` those that are the operator's alone. `blobs.jsonl` has
        a blob in each line, with the file under `blobs/` that has its bytes, since a blob's name can't be a file name;
        `operator-blobs.jsonl` and `operator-blobs/` likewise.
        `manifest.json` is written last: without it, an export is incomplete. Raises FileExistsError,
        StorageUnavailable.
        """
        export = ExportDirectory(directory)
        counts, began_at = Counts(), rfc3339(now())
        async for rows in self._rows(None):
            counts.rows += len(rows.rows)
            for file, is_operators in ((CUSTOMERS.rows, False), (OPERATORS.rows, True)):
                own = [row for row in rows.rows if row.key.startswith(_OPERATORS) == is_operators]
                export.append(file, *map(encode_row, own))
        for container in dict.fromkeys((*self.containers, self._statements)):
            counts.blobs[container] = await self._export_blobs(container, export)
        export.finish(
            customer=self.customer,
            exported_at=began_at,
            rows=counts.rows,
            blobs=counts.blobs,
        )
        return counts

    async def erase(self) -> Counts:
        """
        Delete everything but EVIDENCE permanently, blobs first, until a pass finds nothing, or three passes found some.

        A customer that is suspended stays so. If it fails, calling it again continues. Raises StorageUnavailable.
        """
        counts = Counts()
        await self._mark_erased()
        for _ in range(_ROUNDS):
            deleted, counts.kept = 0, 0
            for container in self.containers:
                blobs = await self._erase_blobs(container)
                deleted += blobs or 0
                counts.blobs[container] = None if blobs is None else blobs + (counts.blobs.get(container) or 0)
            async for page in self._rows(("state",)):
                erased = [row for row in page.rows if not _stays(row)]
                counts.kept += len(page.rows) - len(erased)
                jobs = [row for row in erased if row.key.startswith("j_")]
                counts.unfinished += sum(row.values.get("state") != "done" for row in jobs)
                await delete_rows(self._table, [Row(row.partition, row.key, {}) for row in erased])
                deleted += len(erased)
                counts.rows += len(erased)
            entries = await erase_entries(self._table, self.customer)
            deleted += entries
            counts.rows += entries
            if not deleted:
                counts.nothing_left = True
                break
        return counts

    async def _mark_erased(self) -> None:
        """Note when the erasure began, if anything stays; reduce a suspended customer's row to its state."""
        kept = [await self._table.page(self.customer, prefix, f"{prefix}~", columns=()) for prefix in EVIDENCE]
        if any(page.rows for page in kept):
            await self._write(ERASED_KEY, {"at": now(), WHOLE_BEFORE: ""})
        row = await self._table.read(self.customer, RECORD_KEY)
        if row is not None and _is_suspended(row):
            await self._write(RECORD_KEY, {"profile": "", "budgets": ""})

    async def _write(self, key: str, values: dict[str, Any]) -> None:
        row = await self._table.read(self.customer, key)
        try:
            if row is None:
                await self._table.insert(Row(self.customer, key, values))
            else:
                await self._table.merge(Row(self.customer, key, values, row.etag))
        except RowConflict:
            raise StorageUnavailable(f"The row {key} of {self.customer} is just being changed.") from None

    async def _rows(self, columns: tuple[str, ...] | None) -> AsyncIterator[RowPage]:
        after = ""
        while True:
            page = await self._table.page(self.customer, *_ALL_KEYS, columns=columns, after=after)
            yield page
            after = page.after
            if not after:
                return

    async def _pages(self, container: str) -> AsyncIterator[BlobPage]:
        after = ""
        while True:
            page = await self._blobs.page(container, f"{self.customer}/", after)
            yield page
            after = page.after
            if not after:
                return

    async def _export_blobs(self, container: str, export: ExportDirectory) -> int | None:
        count = 0
        try:
            async for page in self._pages(container):
                for blob in page.blobs:
                    is_operators = container == self._statements and not is_customers_file(blob.name)
                    chunks = await self._blobs.chunks(container, blob.name)
                    if chunks is not None:  # otherwise it was deleted meanwhile
                        await export.store(OPERATORS if is_operators else CUSTOMERS, container, blob, chunks)
                        count += 1
        except ContainerMissing:
            return None
        return count

    async def _erase_blobs(self, container: str) -> int | None:
        count = 0
        try:
            async for page in self._pages(container):
                await gather_limited(self._blobs.delete(container, blob.name) for blob in page.blobs)
                count += len(page.blobs)
        except ContainerMissing:
            return None
        return count


def _stays(row: Row) -> bool:
    return row.key.startswith(EVIDENCE) or (row.key == RECORD_KEY and _is_suspended(row))


def _is_suspended(row: Row) -> bool:
    return row.values.get("state") == "suspended"
