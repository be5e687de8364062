"""
How long data is kept, and the removal of one customer's expired data, a page at a time.

A done job's row, steps and blobs are removed together, blobs first and the row last. A usage record is removed with
its month. Knows the keys of rows (see `jobs.records`), but not the sweep's time limit or other customers.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from shared.billing.outbox import outbox_key
from shared.billing.rollups import THROUGH
from shared.billing.usage_records import MAX_MARKER_DISTANCE, is_placeholder
from shared.clock import now, shifted
from shared.contract.job import MAX_DEADLINE_S
from shared.contract.names import is_job_id
from shared.event_names import EXPORTS_EXPIRED, NAMESPACE
from shared.jobs.records import job_id_of, job_key, time_row
from shared.retention.abandoned_jobs import AbandonedJobs
from shared.retention.batch_rows import BatchRows
from shared.retention.job_data import JobData
from shared.settings import Settings
from shared.storage.base import TIMESTAMP, BlobProperties, Blobs, ContainerMissing, Row, RowPage, Table
from shared.storage.bulk import delete_rows, gather_limited

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""As a cutoff: everything is kept."""
_CLOCK_SKEW = timedelta(days=1)
"""More than the clocks of workers and of Storage can differ."""
_LONGEST_DEADLINE = timedelta(seconds=MAX_DEADLINE_S)
"""A job that has not ended by then will never end."""
MAX_REQUEUE_AGE = _LONGEST_DEADLINE + _CLOCK_SKEW
"""After a job's submission, no requeued message of it is processed any more."""

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class Cutoff:
    """What is removed: jobs that ended before a time, and usage records of the months before a month."""

    jobs_before: datetime
    usage_before: str
    """A month such as `2024-11`; empty: all usage records are kept."""
    submitted_before: datetime
    """A later job can still have a requeued message, which calls no model as long as the job's row exists."""

    def earliest(self, other: Cutoff) -> Cutoff:
        """Return the cutoff that removes only what both remove."""
        return Cutoff(
            min(self.jobs_before, other.jobs_before),
            min(self.usage_before, other.usage_before),
            min(self.submitted_before, other.submitted_before),
        )

    def exceeds(self, other: Cutoff, by: timedelta) -> bool:
        """Return whether it is later than `other`: for usage by a month or more, for anything else by `by` or more."""
        moved = max(self.jobs_before - other.jobs_before, self.submitted_before - other.submitted_before)
        return moved >= by or self.usage_before > other.usage_before


KEEP_EVERYTHING = Cutoff(EPOCH, "", EPOCH)


@dataclass(slots=True)
class Removed:
    """Counts of what was removed."""

    jobs: int = 0
    steps: int = 0
    blobs: int = 0
    usage: int = 0
    statements: int = 0


def cutoff_at(settings: Settings, at: datetime) -> Cutoff:
    """Return the cutoff at a time by the settings RETAIN_JOBS_DAYS and RETAIN_USAGE_MONTHS."""
    days, months = settings.retain_jobs_days, settings.retain_usage_months
    month = at.year * 12 + at.month - 1 - months
    return Cutoff(
        jobs_before=at - timedelta(days=days) if days else EPOCH,
        usage_before=f"{month // 12:04}-{month % 12 + 1:02}" if months else "",
        submitted_before=at - MAX_REQUEUE_AGE,
    )


@dataclass(frozen=True, slots=True)
class Removal:
    """
    Removes what is before the cutoff, and counts it in `removed`.

    Each method removes one page of one customer, which starts at the continuation token `after`, and returns the
    token of the next page, or an empty string. Repeating one does no harm. All raise StorageUnavailable.
    """

    table: Table
    blobs: Blobs
    container: str
    cutoff: Cutoff
    removed: Removed
    exports: Sequence[str] = ()
    """The names of those that usage records are sent to."""

    async def remove_blobs(self, customer: str, after: str) -> str:
        """Remove blobs `{customer}/{job_id}/…` of expired jobs. Blobs that belong to no job stay."""
        if self.cutoff.jobs_before == EPOCH:
            return ""
        try:
            page = await self.blobs.page(self.container, f"{customer}/", after)
        except ContainerMissing:
            return ""
        jobs: dict[str, list[BlobProperties]] = {}
        for blob in page.blobs:
            _, job_id, *rest = blob.name.split("/", 2)
            if rest and is_job_id(job_id):
                jobs.setdefault(job_id, []).append(blob)
        # A row is read only if the age of a blob says that the job may have expired.
        limit = self.cutoff.jobs_before + _CLOCK_SKEW
        old = [job_id for job_id, blobs in jobs.items() if any(blob.modified < limit for blob in blobs)]
        rows = await gather_limited(self.table.read(customer, job_key(job_id)) for job_id in old)
        expired = [job_id for job_id, row in zip(old, rows, strict=True) if row and self._is_expired(row.values)]
        names = [blob.name for job_id in expired for blob in jobs[job_id]]
        await gather_limited(self.blobs.delete(self.container, name) for name in names)
        self.removed.blobs += len(names)
        return page.after

    async def remove_jobs(self, customer: str, after: str) -> str:
        """Remove rows of expired jobs, after their steps and time entries. Their blobs must already be removed."""
        before = self.cutoff.jobs_before
        if before == EPOCH:
            return ""
        page = await self.table.page(
            customer,
            "j_",
            "j`",
            older={"finished_at": before, "submitted_at": before - _LONGEST_DEADLINE},
            columns=("finished_at", "submitted_at", "lease_until", "due_at", "lines", TIMESTAMP),
            after=after,
        )
        expired = [row for row in page.rows if self._is_expired(row.values)]
        rows = [row for row in await gather_limited(self._to_delete(row) for row in expired) if row is not None]
        keys = {row.key for row in rows}
        expired = [row for row in expired if row.key in keys]
        await self._remove_data(customer, expired)
        await BatchRows(self.table).remove_lines(customer, expired)
        await delete_rows(self.table, [_time_entry(row) for row in expired])
        self.removed.jobs += await delete_rows(self.table, rows)
        return page.after

    async def remove_usage(self, customer: str, after: str) -> str:
        """Remove usage records of months before the cutoff, but placeholders that a marker may still withdraw."""
        if not self.cutoff.usage_before:
            return ""
        page = await self.table.page(customer, "u_", f"u_{self.cutoff.usage_before}", columns=(), after=after)
        kept = f"u_{self._markers_before}"
        rows = [_any_version(row) for row in page.rows if not (is_placeholder(row) and row.key > kept)]
        self.removed.usage += await delete_rows(self.table, rows)
        return page.after

    async def remove_rollups(self, customer: str, after: str) -> str:
        """Remove the rollups of months before the cutoff: no rollup is kept for longer than its records."""
        if not self.cutoff.usage_before:
            return ""
        page = await self.table.page(customer, "r_0", f"r_{self.cutoff.usage_before}", columns=(), after=after)
        rows = [_any_version(row) for row in page.rows]
        if rows and not page.after:
            progress = await self.table.read(customer, THROUGH)
            if progress is not None and progress.values["through"] < self.cutoff.usage_before:
                # Nothing is rolled up any more. It goes first: without rollups, nothing would be looked for.
                await delete_rows(self.table, [Row(customer, THROUGH, {}, progress.etag)])
        await delete_rows(self.table, rows)
        return page.after

    async def remove_months(self, kind: str, customer: str, after: str) -> str:
        """Remove the rows of one kind, such as `c_`, whose keys go on with a day or month before the cutoff."""
        if not self.cutoff.usage_before:
            return ""
        return await self._remove_range(customer, kind, f"{kind}{self.cutoff.usage_before}", after)

    async def remove_outbox(self, customer: str, after: str) -> str:
        """Remove the outbox's rows about records of months before the cutoff: what was not sent yet never will be."""
        if not self.cutoff.usage_before:
            return ""
        first_kept = datetime.fromisoformat(f"{self.cutoff.usage_before}-01").replace(tzinfo=UTC)
        page = await self._remove_page(customer, "o_", outbox_key(first_kept), after)
        if page.rows:
            log.warning("%s customer=%s rows=%d", EXPORTS_EXPIRED, customer, len(page.rows))
        return page.after

    async def remove_markers(self, customer: str, after: str) -> str:
        """Remove the markers whose placeholders, which may be younger, are all removed."""
        if not self.cutoff.usage_before:
            return ""
        return await self._remove_range(customer, "m_", f"m_{self._markers_before}", after)

    async def _remove_range(self, customer: str, first: str, last: str, after: str) -> str:
        return (await self._remove_page(customer, first, last, after)).after

    async def _remove_page(self, customer: str, first: str, last: str, after: str) -> RowPage:
        page = await self.table.page(customer, first, last, columns=(), after=after)
        await delete_rows(self.table, [_any_version(row) for row in page.rows])
        return page

    @property
    def _markers_before(self) -> str:
        """The day before which no marker belongs to a placeholder of a month that is kept, nor the reverse."""
        return f"{shifted(date.fromisoformat(f'{self.cutoff.usage_before}-01'), -MAX_MARKER_DISTANCE)}"

    async def _to_delete(self, row: Row) -> Row | None:
        if row.values.get("finished_at") is not None:
            return Row(row.partition, row.key, {}, row.etag)  # at its etag: the id may belong to another job by now
        current = await self.table.read(row.partition, row.key)
        if current is None or not self._is_expired(current.values):
            return None
        etag = await AbandonedJobs(self.table, self.exports).settle(current)
        return Row(current.partition, current.key, {}, etag) if etag else None

    async def _remove_data(self, customer: str, rows: Sequence[Row]) -> None:
        """Remove what jobs have beside their rows. A row written after the job's age says so was imported."""
        data, limit = JobData(self.table, self.blobs, self.container), self.cutoff.jobs_before + _CLOCK_SKEW
        late = {job_id_of(row) for row in rows if row.values[TIMESTAMP] >= limit}
        for job_id in late:  # its blobs and steps are as young, and were left until now
            self.removed.blobs += await data.remove_blobs(customer, job_id)
            self.removed.steps += await data.remove_steps(customer, {job_id}, {})
        others = {job_id_of(row) for row in rows} - late
        self.removed.steps += await data.remove_steps(customer, others, {TIMESTAMP: limit})

    def _is_expired(self, values: Mapping[str, Any]) -> bool:
        finished, submitted, lease = (values.get(name) for name in ("finished_at", "submitted_at", "lease_until"))
        if submitted is None:
            return False
        submitted = max(submitted, values.get("due_at") or submitted)  # it may have been submitted to run later
        if finished is not None:
            return bool(finished < self.cutoff.jobs_before and submitted < self.cutoff.submitted_before)
        if lease is not None and lease > now():
            return False
        return bool(submitted < self.cutoff.jobs_before - _LONGEST_DEADLINE)


def _time_entry(row: Row) -> Row:
    return time_row(row.partition, job_id_of(row), row.values["submitted_at"])


def _any_version(row: Row) -> Row:
    return Row(row.partition, row.key, {})
