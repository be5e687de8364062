"""The jobs on record: one by its id, many by time, one by its content. Reads the jobs table and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from shared.clock import now
from shared.contract.names import is_job_id, is_name
from shared.errors import AlreadyRunning
from shared.jobs.fingerprint import check_fingerprint
from shared.jobs.records import JobRecord, is_worker_dead, job_id_of, job_key, read_record
from shared.storage.base import Row, Table
from shared.storage.bulk import read_pages

MAX_READ = 1000
"""Jobs that are read at most for one page."""
_READ_AT_ONCE = 50
_BUSY_S = 15.0
_TIME_DIGITS = 14


@dataclass(frozen=True, slots=True)
class JobQueries:
    """The records of all customers' jobs. Every method raises StorageUnavailable."""

    table: Table

    async def get(self, customer: str, job_id: str) -> JobRecord | None:
        """Return the job's record, or None if the customer has no such job."""
        row = await self.table.read(customer, job_key(job_id))
        return None if row is None else read_record(row)

    async def get_same(self, customer: str, job_id: str, fingerprint: str) -> JobRecord | None:
        """As `get`. Raises JobConflict if the id belongs to a job with another fingerprint."""
        row = await self.table.read(customer, job_key(job_id))
        if row is None:
            return None
        check_fingerprint(row, fingerprint)
        return read_record(row)

    async def newest(
        self, customer: str, *, after: str, limit: int, wanted: Callable[[JobRecord], bool]
    ) -> tuple[list[JobRecord], str]:
        """
        Return up to `limit` of the customer's newest jobs that are `wanted`, and where the next page starts.

        `after` is where an earlier page said that this one starts; empty for the first page, and at the end. It is a
        key, so jobs that are submitted meanwhile move nothing, and it is good even if its row is gone.
        """
        records: list[JobRecord] = []
        read = 0
        batch: list[Row] = []
        # Right behind it: `!` sorts before all that an id can continue with, and Azure takes no control characters.
        first = f"{after}!" if after else "t_"
        async for row in self.table.scan(customer, first, "t`"):
            batch.append(row)
            # The first jobs may all be wanted. If they are not, few seem to be, and full batches are read.
            if len(batch) < (_READ_AT_ONCE if read else min(_READ_AT_ONCE, limit)):
                continue
            read += len(batch)
            reached, batch = await self._take(customer, batch, limit, records, wanted), []
            if len(records) >= limit or read >= MAX_READ:
                return records, reached
        reached = await self._take(customer, batch, limit, records, wanted)
        return records, reached if batch and reached != batch[-1].key else ""

    async def find_unfinished(self, customer: str, fingerprint: str) -> str | None:
        """
        Return the id of the customer's job with this fingerprint whose attempts have failed most often.

        That is a job whose worker has died or, if there is none, one that waits because Storage had failed. For a
        message in the poison queue, where the host gives it a new id: a job without a `job_id` of its own can be found
        by its content only. Storage searches the partition. Raises AlreadyRunning if no worker is known to be dead, but
        one runs such a job: it may have died a moment ago.
        """
        rows = [row async for row in self._unfinished(customer, fingerprint)]
        at = now()
        dead = [row for row in rows if is_worker_dead(row.values["state"], row.values.get("lease_until"), at)]
        if not dead and any(row.values["state"] == "running" for row in rows):
            raise AlreadyRunning("A job with the same content still runs, or its worker died a moment ago.", _BUSY_S)
        # A job that was released because Storage failed, and whose message could then not be requeued.
        reasons = ("storage_failed", "failed_attempts")
        failed = [row for row in rows if row.values["state"] == "waiting" and any(map(row.values.get, reasons))]
        if not (dead or failed):
            return None
        return job_id_of(max(dead or failed, key=lambda row: row.values.get("failed_attempts") or 0))

    async def _unfinished(self, customer: str, fingerprint: str) -> AsyncIterator[Row]:
        where = {"fingerprint eq": fingerprint, "state ne": "done"}
        columns = ("state", "lease_until", "failed_attempts", "storage_failed")
        async for rows in read_pages(self.table, customer, "j_", "j`", where=where, columns=columns):
            for row in rows:
                yield row

    async def _take(
        self,
        customer: str,
        entries: list[Row],
        limit: int,
        records: list[JobRecord],
        wanted: Callable[[JobRecord], bool],
    ) -> str:
        """Add the wanted records, up to `limit` in all; return the key of the last entry that was used."""
        ids = [entry.key.split("_", 2)[2] for entry in entries]
        read = await asyncio.gather(*(self.get(customer, job_id) for job_id in ids))
        reached = ""
        for entry, record in zip(entries, read, strict=True):
            reached = entry.key
            if record is not None and wanted(record):
                records.append(record)
                if len(records) >= limit:
                    break
        return reached


async def next_customer(table: Table, after: str) -> str | None:
    """Return the first customer after this one that has rows, or None. Partitions of the app's own are left out."""
    while (partition := await table.next_partition(after)) is not None:
        if is_name(partition):
            return partition
        after = partition
    return None


async def all_customers(table: Table, after: str = "") -> AsyncIterator[str]:
    """Yield the customers after this one that have rows, in the order of their ids."""
    while (customer := await next_customer(table, after)) is not None:
        yield customer
        after = customer


async def next_customers(table: Table, after: str, count: int) -> list[str]:
    """Return the first customers after this one that have rows, up to `count`."""
    names: list[str] = []
    async for name in all_customers(table, after):
        names.append(name)
        if len(names) == count:
            break
    return names


def is_continuation(text: str) -> bool:
    """Return whether `text` can be where a page said that the next one starts."""
    kind, _, rest = text.partition("_")
    time, _, job_id = rest.partition("_")
    return kind == "t" and len(time) == _TIME_DIGITS and time.isascii() and time.isdecimal() and is_job_id(job_id)
