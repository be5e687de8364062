"""
The jobs' rows while they are run: leased before anything is spent, done together with their usage records.

One row a job, `j_{job_id}` in the customer's partition. Every change is made at the row's etag, so a worker that has
lost its lease changes nothing. Changes of jobs that nobody runs are in `job_updates`, reads in `queries`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from shared.billing.usage_records import metered_key, on_time
from shared.clock import now
from shared.contract.job import Job
from shared.contract.usage import Usage
from shared.errors import AlreadyRunning, RetryLater, StorageUnavailable, UpstreamRetryLater
from shared.ids import new_id
from shared.jobs.fingerprint import check_fingerprint
from shared.jobs.lease import (
    MAX_REASON_LENGTH,
    Lease,
    check_claim,
    first_lease,
    lease_values,
    next_generation,
    next_lease,
    own_row,
    renewal,
)
from shared.jobs.records import (
    NO_WAKEUP,
    FinishedJob,
    JobRecord,
    job_key,
    queued_values,
    read_record,
    time_row,
)
from shared.jobs.step_rows import StepRecord, read_step, step_prefix, step_row
from shared.jobs.usage_conflicts import append_usage, is_written, without_conflicts, without_written
from shared.settings import LEASE_S
from shared.storage.base import Row, RowChanged, RowExists, Table, Write

if TYPE_CHECKING:
    from shared.billing.outbox import Outbox


class Ledger:
    """
    The jobs of all customers, in one table. `lease_s`: seconds that a lease lasts unless it is renewed. `outbox`: has
    usage records exported; None without exports. `write`: writes jobs' rows in place of the table.

    Every method raises StorageUnavailable. Then a write may have been made all the same: to find out, repeat it with
    the same `operation_id`. Every method that takes a lease raises LeaseLost if another worker has it.
    """

    def __init__(
        self, table: Table, *, lease_s: float = LEASE_S, outbox: Outbox | None = None, write: Write | None = None
    ) -> None:
        self._table, self._write = table, write or table.merge_and_insert
        self.lease_s, self.outbox = lease_s, outbox

    async def claim(
        self,
        customer: str,
        job_id: str,
        *,
        fingerprint: str,
        submitted_at: datetime,
        generation: int = 0,
        action: str = "",
        callback_url: str | None = None,
        first: Lease | None = None,
        exists: bool = False,
        buys: bool = True,
    ) -> Lease | FinishedJob:
        """
        Return a lease on the job with that id and fingerprint, or its result if it is done. `first`: the lease of its
        first attempt, if it has one. `exists`: the job probably has a row. An attempt that `buys` nothing itself needs
        no lease before its first write: if that is refused, because another worker has written, nothing was lost.
        Raises JobConflict if the id belongs to a job with another fingerprint, AlreadyRunning if another worker has a
        lease that holds, Superseded.
        """
        lease = first or first_lease(customer, job_id, submitted_at, now(), generation)
        if exists and (row := await self._table.read(customer, job_key(job_id))) is not None:
            return await self._claim_existing(lease, row, fingerprint, buys=buys)
        values = {
            **lease_values(lease, now(), self.lease_s),
            "fingerprint": fingerprint,
            "submitted_at": submitted_at,
            "action": action,
            "incarnation": lease.incarnation,
            **({"callback_url": callback_url} if callback_url else {}),
        }
        if not buys:
            return replace(lease, unwritten=values)
        entry = time_row(customer, job_id, submitted_at)
        try:
            etag, *_ = await self._write(Row(customer, job_key(job_id), values), [entry], operation_id=new_id())
        except RowChanged as exc:
            return await self._claim_existing(lease, exc.row, fingerprint)
        return replace(lease, etag=etag)

    async def submit(self, job: Job, *, fingerprint: str, submitted_at: datetime, marker: str = "") -> JobRecord:
        """
        Insert the row of a job that has not started, and return its record, which may have existed before.

        Without its `marker`, no message of the job is accepted (see `jobs.statement_jobs`).
        Raises JobConflict if the id belongs to a job with another fingerprint.
        """
        values = {**queued_values(job), "fingerprint": fingerprint, "submitted_at": submitted_at}
        if marker:
            values["marker"] = marker
        row = Row(job.customer, job_key(job.id), values)
        try:
            await self._table.insert(row, beside=[time_row(job.customer, job.id, submitted_at)])
        except RowExists as exc:
            row = _present(exc.row, job.id)
            check_fingerprint(row, fingerprint)
        return read_record(row)

    async def renew(self, lease: Lease, *, skipped: str = "", operation_id: str = "") -> Lease:
        """Move the lease's end. `skipped`: see Lease."""
        return await self._change(lease, renewal(now(), self.lease_s, skipped), (), operation_id)

    async def save_steps(
        self, lease: Lease, steps: Sequence[StepRecord], usage: Sequence[Row] = (), *, operation_id: str = ""
    ) -> Lease:
        """Store steps with their usage records, and other usage records, in one transaction that renews the lease."""
        rows = [step_row(lease.customer, lease.job_id, step) for step in steps]
        rows += [*usage, *(row for step in steps for row in step.usage_rows)]
        values = renewal(now(), self.lease_s) | ({"stepless": False} if lease.is_stepless else {})
        return await self._change(replace(lease, is_stepless=False), values, rows, operation_id)

    async def release(
        self,
        lease: Lease,
        because: RetryLater,
        *,
        retries: int = 0,
        failed: bool = False,
        unrecoverable_usage: Usage | None = None,
        skipped: str = "",
        usage: Sequence[Row] = (),
        operation_id: str = "",
    ) -> None:
        """
        Give the lease up, so that the job can be claimed again at once.

        The next attempt starts with `retries` used up, with the reason and what all attempts have consumed in vain.
        `failed`: this attempt had no result. `skipped`: see Lease. `usage` are usage records.
        """
        values = {
            "state": "waiting",
            "generation": next_generation(lease.generation) if because.is_requeued else lease.generation,
            "retries": retries,
            "failed_attempts": lease.failed_attempts + failed,
            "storage_failed": isinstance(because, StorageUnavailable),
            "budget_wait_s": int(lease.budget_wait_s + because.stops_clock_s),
            "budget_wait_until": now() + timedelta(seconds=because.stops_clock_s),
            "reason": str(because)[:MAX_REASON_LENGTH],
            "reason_code": because.reason.code if isinstance(because, UpstreamRetryLater) else "",
            "unrecoverable_usage": msgspec.json.encode(unrecoverable_usage or lease.unrecoverable_usage).decode(),
            **({"skipped": skipped} if skipped else {}),
        }
        await self._change(lease, values, usage, operation_id)

    async def complete(
        self, lease: Lease, result_body: bytes, *, status: str, usage: Sequence[Row], operation_id: str = ""
    ) -> None:
        """End the job with its result and its usage records, in one transaction."""
        values = {"state": "done", "status": status, "result_body": result_body, "finished_at": now()}
        await self._change(lease, values, usage, operation_id)

    async def append_usage(self, rows: Sequence[Row]) -> None:
        """Insert usage records of an attempt that has lost its lease; those that exist stay as they are."""
        await append_usage(self._table, rows, self.outbox, now)

    async def is_written(self, row: Row) -> bool:
        """Return whether the table has this very usage record: another attempt's may have the same key."""
        return await is_written(self._table, row, now())

    async def is_metered(self, customer: str, metered_as: str) -> bool:
        """Return whether a stored response or batch has a usage record (see `billing.usage.Call`)."""
        return await self._table.read(customer, metered_key(metered_as)) is not None

    async def steps(self, lease: Lease) -> list[StepRecord]:
        """Return the steps that earlier attempts have stored. Reads nothing if there can't be any."""
        if lease.attempt == 1 or lease.is_stepless:
            return []
        prefix = step_prefix(lease.job_id)
        return [read_step(row, prefix) async for row in self._table.scan(lease.customer, prefix, f"{prefix}~")]

    async def _claim_existing(
        self, first: Lease, row: Row | None, fingerprint: str, *, buys: bool = True
    ) -> Lease | FinishedJob:
        row, at = _present(row, first.job_id), now()
        check_fingerprint(row, fingerprint)
        check_claim(row, first, at)
        if row.values["state"] == "done":
            return FinishedJob(row.values["result_body"])
        lease = next_lease(row, at, first.generation)
        new_values = lease_values(lease, at, self.lease_s)
        if row.values.get("wakeup"):  # it does not wait in the schedule any more
            new_values |= NO_WAKEUP
        if not (buys or lease.crashed_attempts):
            return replace(lease, unwritten=new_values)
        try:
            etag = await self._table.merge(Row(row.partition, row.key, new_values, row.etag))
        except RowChanged:
            raise AlreadyRunning(f"Another worker has just claimed job {first.job_id}.", 1) from None
        return replace(lease, etag=etag)

    async def _change(self, lease: Lease, values: Mapping[str, Any], added: Sequence[Row], operation_id: str) -> Lease:
        if added and lease.crashed_attempts:  # an attempt's first usage records include those of crashed attempts
            values = {**values, "crashed_attempts": ""}
        operation_id = operation_id or new_id()
        unmoved = added
        while True:
            added = on_time(added, now())  # each time: Storage may have needed minutes to refuse
            row, entry = Row(lease.customer, job_key(lease.job_id), values, lease.etag), list[Row]()
            if lease.unwritten is not None:
                row, entry = lease.first_write(values)
            try:
                rows = added if self.outbox is None else await self.outbox.with_outbox(added, operation_id)
                etag, *_ = await self._write(row, [*entry, *rows], operation_id=operation_id)
            except RowChanged as exc:
                if exc.row is not None and exc.row.etag == lease.etag:  # one of the other rows exists
                    added = await without_conflicts(self._table, lease, added)
                    continue
                current = own_row(lease, exc.row, values.get("state", "running"))
                if current.values["state"] != "running":
                    return replace(lease, etag=current.etag)
                added = await without_written(self._table, unmoved, now())
                lease = replace(lease, etag=current.etag)  # the job may have been cancelled meanwhile
            else:
                if "crashed_attempts" in values:
                    lease = replace(lease, crashed_attempts=())
                return lease if values.get("state") == "done" else replace(lease, etag=etag, unwritten=None)


def _present(row: Row | None, job_id: str) -> Row:
    if row is None:  # deleted since the insert found it: a moment later it can be inserted
        raise AlreadyRunning(f"The row of job {job_id} has just been deleted.", 1)
    return row
