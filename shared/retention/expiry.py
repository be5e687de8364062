"""
How long things are kept, and the removal of what one customer has that has outlived it, a page at a time.

A done job's row, steps and blobs go together, blobs first and the row last; a usage record goes with its
month. Knows how rows are called (see `rows`), and neither time limits nor other customers: `sweeps` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from shared.clock import now
from shared.contract.job import LONGEST_DEADLINE_S
from shared.contract.names import is_job_id
from shared.jobs.records import job_key, time_row
from shared.settings import Settings
from shared.storage.base import MAX_TRANSACTION_ROWS, TIMESTAMP, BlobProperties, Blobs, ContainerMissing, Row, Table

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""Before everything: what is kept for ever."""
_CLOCKS = timedelta(days=1)
"""More than the clocks of workers and of Storage can differ."""
_LONGEST_DEADLINE = timedelta(seconds=LONGEST_DEADLINE_S)
"""A row that has no end by then will never have one."""
LONGEST_WAIT = _LONGEST_DEADLINE + _CLOCKS
"""After a job's submission: no message of it that was put back is worked on by then."""
_AT_ONCE = 16
"""Requests to Storage."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reach:
    """Up to where things go: jobs that ended before a moment, usage of the months before one."""

    jobs_before: datetime
    usage_before: str
    """Such as `2024-11`; empty: none goes."""
    submitted_before: datetime
    """A job of later may have a message yet that was put back: as long as the job is there, it buys nothing."""

    def within(self, other: Reach) -> Reach:
        """Only what both reach."""
        return Reach(
            min(self.jobs_before, other.jobs_before),
            min(self.usage_before, other.usage_before),
            min(self.submitted_before, other.submitted_before),
        )

    def exceeds(self, other: Reach, by: timedelta) -> bool:
        """Whether this goes further than `other`: for jobs by at least so much, or for usage by a month."""
        return self.jobs_before - other.jobs_before >= by or self.usage_before > other.usage_before


NOTHING = Reach(NEVER, "", NEVER)


@dataclass(slots=True)
class Removed:
    """How much was removed."""

    jobs: int = 0
    steps: int = 0
    blobs: int = 0
    usage: int = 0


def reach(settings: Settings, at: datetime) -> Reach:
    """What has outlived its retention at a moment."""
    days, months = settings.retain_jobs_days, settings.retain_usage_months
    month = at.year * 12 + at.month - 1 - months
    return Reach(
        jobs_before=at - timedelta(days=days) if days else NEVER,
        usage_before=f"{month // 12:04}-{month % 12 + 1:02}" if months else "",
        submitted_before=at - LONGEST_WAIT,
    )


@dataclass(frozen=True, slots=True)
class Removal:
    """
    Removes what `reach` says. Each method does one page of one customer, from where `after` says, and gives
    where the next begins, or nothing. Repeating one does no harm. All raise StorageUnavailable.
    """

    table: Table
    blobs: Blobs
    container: str
    reach: Reach
    removed: Removed

    async def remove_blobs(self, customer: str, after: str) -> str:
        """Blobs `{customer}/{job_id}/…` of expired jobs. What belongs to no job is left alone."""
        if self.reach.jobs_before == NEVER:
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
        # Only of those that may have expired by a blob's age is the row read: one that must then be deleted.
        limit = self.reach.jobs_before + _CLOCKS
        old = [job_id for job_id, blobs in jobs.items() if any(blob.modified < limit for blob in blobs)]
        rows = await together(self.table.read(customer, job_key(job_id)) for job_id in old)
        expired = [job_id for job_id, row in zip(old, rows, strict=True) if row and self._expired(row.values)]
        names = [blob.name for job_id in expired for blob in jobs[job_id]]
        await together(self.blobs.delete(self.container, name) for name in names)
        self.removed.blobs += len(names)
        return page.after

    async def remove_jobs(self, customer: str, after: str) -> str:
        """Rows of expired jobs, after their steps and places in time. Their blobs must have been removed before."""
        before = self.reach.jobs_before
        if before == NEVER:
            return ""
        page = await self.table.page(
            customer,
            "j_",
            "j`",
            older={"finished_at": before, "submitted_at": before - _LONGEST_DEADLINE},
            columns=("finished_at", "submitted_at", "lease_until", TIMESTAMP),  # without that last, Azure gives no etag
            after=after,
        )
        expired = [row for row in page.rows if self._expired(row.values)]
        rows = [row for row in await together(self._to_delete(row) for row in expired) if row is not None]
        await self._delete_steps(customer, {row.key.removeprefix("j_") for row in rows})
        gone = {row.key for row in rows}
        await delete_rows(self.table, [_place_in_time(row) for row in expired if row.key in gone])
        self.removed.jobs += await delete_rows(self.table, rows)
        return page.after

    async def remove_usage(self, customer: str, after: str) -> str:
        """Usage records of months that are over for good."""
        if not self.reach.usage_before:
            return ""
        page = await self.table.page(customer, "u_", f"u_{self.reach.usage_before}", columns=(), after=after)
        self.removed.usage += await delete_rows(self.table, [_bare(row) for row in page.rows])
        return page.after

    async def _to_delete(self, row: Row) -> Row | None:
        if row.values.get("finished_at") is not None:
            return Row(row.partition, row.key, {}, row.etag)  # at its etag: the id may be another job's by now
        found = await self.table.read(row.partition, row.key)
        if found is None or not self._expired(found.values):
            return None
        return Row(found.partition, found.key, {}, found.etag)

    async def _delete_steps(self, customer: str, job_ids: set[str]) -> None:
        starts = sorted(f"s_{job_id}~" for job_id in job_ids)
        if not starts:
            return
        older, after = {TIMESTAMP: self.reach.jobs_before + _CLOCKS}, ""
        while True:
            page = await self.table.page(customer, starts[0], f"{starts[-1]}~", older=older, columns=(), after=after)
            steps = [_bare(row) for row in page.rows if row.key[2:].partition("~")[0] in job_ids]
            self.removed.steps += await delete_rows(self.table, steps)
            after = page.after
            if not after:
                return

    def _expired(self, values: Mapping[str, Any]) -> bool:
        finished, submitted, lease = (values.get(name) for name in ("finished_at", "submitted_at", "lease_until"))
        if submitted is None:
            return False
        if finished is not None:
            return bool(finished < self.reach.jobs_before and submitted < self.reach.submitted_before)
        if lease is not None and lease > now():
            return False
        return bool(submitted < self.reach.jobs_before - _LONGEST_DEADLINE)


async def delete_rows(table: Table, rows: Sequence[Row]) -> int:
    """Deletes rows of one partition, however many; gives how many are gone. Raises StorageUnavailable."""
    parts = [rows[start : start + MAX_TRANSACTION_ROWS] for start in range(0, len(rows), MAX_TRANSACTION_ROWS)]
    stayed = await together(table.delete(part) for part in parts)
    return len(rows) - sum(map(len, stayed))


async def together(awaited: Iterable[Awaitable[_T]]) -> list[_T]:
    """What all of them give, a few at a time; raises the first's exception when the others have ended."""
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(waiting: Awaitable[_T]) -> _T:
        async with room:
            return await waiting

    ended = await asyncio.gather(*(one(waiting) for waiting in awaited), return_exceptions=True)
    failed = next((end for end in ended if isinstance(end, BaseException)), None)
    if failed is not None:
        raise failed
    return [end for end in ended if not isinstance(end, BaseException)]


def _place_in_time(row: Row) -> Row:
    return time_row(row.partition, row.key.removeprefix("j_"), row.values["submitted_at"])


def _bare(row: Row) -> Row:
    return Row(row.partition, row.key, {})
