"""What the sweep does about batches: a line goes with its job, a batch after its last line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.batches.records import HARVESTED, key_at, read_batch, read_open
from shared.billing.usage_records import metered_key
from shared.clock import now
from shared.jobs.batch_message import PREFIX, batch_key
from shared.jobs.lines import TAKEN_OUT, UNDONE, doubles_of, late, line_key, line_number, metered_as, read_ranges
from shared.jobs.records import job_id_of
from shared.storage.base import Row, Table
from shared.storage.bulk import delete_rows, read_pages

_GROUPS = "g_", "g`"
_OK = range(200, 300)


@dataclass(frozen=True, slots=True)
class BatchRows:
    """The batches of all customers. Every method raises StorageUnavailable. Repeating one does no harm."""

    table: Table

    async def is_alive(self, customer: str, lines: str) -> bool:
        """Return whether one of the batches that a job's column `lines` names will continue the job."""
        for batch in {each.batch for each in read_ranges(lines)}:
            row = await self.table.read(customer, batch_key(batch))
            record = read_batch(row) if row is not None else None
            if record is not None and record.state not in HARVESTED and not record.is_overdue:
                return True
        return False

    async def is_bought(self, customer: str, lines: str) -> bool:
        """Return whether one of the lines may have been billed that a job's column `lines` names."""
        return any(_is_bought(row.values) for row in await self._lines(customer, [lines]))

    async def remove_lines(self, customer: str, jobs: Sequence[Row]) -> None:
        """Remove the lines of jobs, and what says that their answers are on record."""
        own = {job_id_of(row) for row in jobs}
        columns = [lines for row in jobs if (lines := row.values.get("lines"))]
        rows = [row for row in await self._lines(customer, columns) if row.values["job_id"] in own]
        billed = [row for row in rows if _is_bought(row.values)]
        markers = [Row(customer, key, {}) for row in billed for key in _marker_keys(row.key)]
        await delete_rows(self.table, markers)
        await delete_rows(self.table, [Row(customer, row.key, {}) for row in rows])

    async def remove(self, customer: str, after: str, *, before: datetime) -> str:
        """
        Remove finished batches that were opened before a time and have no line left, and groups of such batches.

        Takes one page of batches, from the continuation token `after`; returns the token of the next one, or "".
        """
        if not before.timestamp():  # everything is kept
            return ""
        where, columns = {"state eq": "done"}, ("state", "doubles")
        page = await self.table.page(customer, PREFIX, key_at(before), where=where, columns=columns, after=after)
        expired = [row for row in page.rows if not await self._has_lines(row)]
        for row in expired:
            if row.values.get("doubles"):
                await self._remove_markers_of_doubles(row)
        await delete_rows(self.table, expired)
        if not page.after:
            await self._remove_groups(customer, before)
        return page.after

    async def _has_lines(self, batch: Row) -> bool:
        batch_id = batch.key.removeprefix(PREFIX)
        page = await self.table.page(batch.partition, line_key(batch_id, 0), f"l_{batch_id}_~", columns=())
        return bool(page.rows)

    async def _remove_markers_of_doubles(self, batch: Row) -> None:
        first = metered_key(doubles_of(batch.key.removeprefix(PREFIX)))
        async for page in read_pages(self.table, batch.partition, first, f"{first}~", columns=()):
            await delete_rows(self.table, [Row(row.partition, row.key, {}) for row in page])

    async def _remove_groups(self, customer: str, before: datetime) -> None:
        async for page in read_pages(self.table, customer, *_GROUPS):
            old = [row for row in page if all(key < key_at(before) for key in _keys(row))]
            await delete_rows(self.table, [Row(row.partition, row.key, {}, row.etag) for row in old])

    async def _lines(self, customer: str, columns: Sequence[str]) -> list[Row]:
        """The rows of the lines that these columns name, and of those between them: jobs have neighbouring lines."""
        parts: dict[str, tuple[int, int]] = {}
        for each in (each for column in columns for each in read_ranges(column)):
            first, last = parts.get(each.batch, (each.first, each.first))
            parts[each.batch] = min(first, each.first), max(last, each.first + each.number)
        rows = list[Row]()
        for batch, (first, last) in parts.items():
            keys, names = (line_key(batch, first), line_key(batch, last)), ("job_id", "status", "error_code", TAKEN_OUT)
            async for page in read_pages(self.table, customer, *keys, columns=names):
                rows += page
        return rows


def is_open(row: Row) -> bool:
    """Return whether a row is a batch that has not ended."""
    return row.key.startswith(PREFIX) and row.values.get("state") != "done"


def batch_keys(job: Row) -> set[str]:
    """Return the keys of the batches in which a job has lines."""
    return {batch_key(each.batch) for each in read_ranges(job.values.get("lines", ""))}


def as_imported(row: Row) -> Row:
    """
    Return a row as it is imported: nobody has a lease on a batch. One that was not sent by its export may have been
    since, so that it is looked for at its provider first.
    """
    if not is_open(row):
        return row
    values = {**row.values, "owner": ""}
    if values["state"] in {"gathering", "sending"}:
        values |= {"state": "sending", "create_begun": True, "create_began_at": now()}
    return Row(row.partition, row.key, values)


def _keys(group: Row) -> list[str]:
    return [batch_key(each.batch_id) for each in read_open(group.values)]


def _is_bought(values: Mapping[str, Any]) -> bool:
    if values.get(TAKEN_OUT) or values.get("error_code") in UNDONE:
        return False
    return values.get("status") in {None, *_OK}  # None: its batch has ended without it


def _marker_keys(line: str) -> tuple[str, str]:
    own = metered_as(line[len("l_") :].rpartition("_")[0], line_number(line))
    return metered_key(own), metered_key(late(own))
