"""
What became of a job: claimed before anything is spent, done together with its usage records.

One row a job, `j_{job_id}` in the customer's partition. A claim is a lease: an owner and an end, which is
moved on while the job runs. The row's etag fences: whoever lost the claim can't change the job any more.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from shared.clock import now
from shared.contract.job import Job
from shared.contract.result import Usage
from shared.errors import AlreadyRunning, JobConflict, LeaseLost, RetryLater, UpstreamRetryLater
from shared.event_names import USAGE_RECORD_EXISTS
from shared.jobs.records import Done, JobRecord, Lease, State, job_key, new_nonce, read_claim, read_record, time_row
from shared.jobs.step_rows import StepRecord, read_step, step_key, step_row
from shared.settings import LEASE_S
from shared.storage.base import Row, RowChanged, RowExists, Table

STEP_LIMIT = 60_000
"""Bytes of a step's value that stand in its row; a larger one is kept elsewhere."""
_BUSY_S = 15.0
_REASON_LIMIT = 1000
_DIED = "The worker that ran it died."

log = logging.getLogger("customer_ai_jobs")


class Ledger:
    """The jobs of all customers, in one table. `lease_s`: seconds that a claim holds unless it is renewed."""

    def __init__(self, table: Table, *, lease_s: float = LEASE_S) -> None:
        self._table = table
        self.lease_s = lease_s

    async def claim(
        self, customer: str, job_id: str, *, request_hash: str, submitted_at: datetime, action: str = ""
    ) -> Lease | Done:
        """
        The right to run the job whose request hash is `request_hash`, or what it ended with.

        Raises JobConflict where the id belongs to a job that asked for something else, AlreadyRunning where
        another worker runs it, StorageUnavailable.
        """
        owner, moment = uuid.uuid4().hex, now()
        first = Lease(customer, job_id, 1, submitted_at, moment, owner, "", nonce=new_nonce())
        fixed = {"hash": request_hash, "submitted_at": submitted_at, "action": action, "nonce": first.nonce}
        values = self._claimed(first) | fixed
        place = time_row(customer, job_id, submitted_at)
        try:
            etag = await self._table.insert(Row(customer, job_key(job_id), values), beside=[place])
        except RowExists as exc:
            return await self._claim_again(customer, job_id, exc.row, request_hash, owner)
        return replace(first, etag=etag)

    async def submit(self, job: Job, *, request_hash: str, submitted_at: datetime) -> JobRecord:
        """
        Puts a job on record that has not begun; gives the record, which may have been there before.

        Raises JobConflict where the id belongs to a job that asked for something else, StorageUnavailable.
        """
        values = {
            "state": "queued",
            "attempt": 0,
            "owner": "",
            "hash": request_hash,
            "submitted_at": submitted_at,
            "action": job.action,
            "model": job.model or "",
            "nonce": new_nonce(),
        }
        row = Row(job.customer, job_key(job.id), values)
        try:
            await self._table.insert(row, beside=[time_row(job.customer, job.id, submitted_at)])
        except RowExists as exc:
            if exc.row is None:  # removed since: a moment later it can be inserted
                raise AlreadyRunning(f"The row of job {job.id} has just been removed.", 1) from None
            _check_same(exc.row, request_hash)
            row = exc.row
        return read_record(row)

    async def renew(self, claim: Lease) -> Lease:
        """Moves the lease's end on. Raises LeaseLost where it was lost to another worker, StorageUnavailable."""
        return await self._change(claim, self._lease())

    async def release(
        self,
        claim: Lease,
        because: RetryLater,
        *,
        retries: int = 0,
        failed: bool = False,
        lost: Usage | None = None,
        rows: Sequence[Row] = (),
    ) -> None:
        """
        Gives the claim up, so that the job can be claimed again at once. The attempt stays counted.

        The next run begins with so many `retries` used up, knows whether this one has `failed` and why, and
        what all runs have `lost`; `rows` are the usage rows of that. Raises as `renew`.
        """
        values = {
            "state": "waiting",
            "retries": retries,
            "failures": claim.failures + failed,
            "reason": str(because)[:_REASON_LIMIT],
            "reason_code": because.reason.code if isinstance(because, UpstreamRetryLater) else "",
            "lost": msgspec.json.encode(lost or claim.lost).decode(),
        }
        await self._change(claim, values, rows)

    async def complete(self, claim: Lease, told: bytes, *, status: str, usage: Sequence[Row]) -> None:
        """
        Closes the job with its result and its usage records, all in one transaction.

        Raises as `renew`.
        """
        done = {"state": "done", "status": status, "told": told, "finished_at": now()}
        await self._change(claim, done, usage)

    async def remember(self, claim: Lease, steps: Sequence[StepRecord], rows: Sequence[Row] = ()) -> Lease:
        """
        Stores steps and their usage records, and other usage rows, in one transaction that also renews the lease.

        Raises as `renew`.
        """
        own = [step_row(claim, step) for step in steps]
        return await self._change(claim, self._lease(), [*own, *rows, *(row for step in steps for row in step.rows)])

    async def record(self, row: Row) -> None:
        """
        Writes a usage row of a run that lost its claim; over one that says of the call only that nobody knows of it.

        Raises StorageUnavailable.
        """
        try:
            await self._table.insert(row)
        except RowExists as exc:
            if exc.row is not None and exc.row.values.get("outcome") == "unanswered":
                with contextlib.suppress(RowChanged):  # another worker has recorded it
                    await self._table.merge(replace(row, etag=exc.row.etag))

    async def withdraw(self, row: Row) -> None:
        """Removes a usage row that has turned out to be wrong, if it is there. Raises StorageUnavailable."""
        await self._table.delete([replace(row, etag="")])

    async def steps(self, claim: Lease) -> list[StepRecord]:
        """The steps that earlier runs of the job remembered. Asks Storage only where there was an earlier run."""
        if claim.attempt == 1:
            return []
        first = step_key(claim, "")
        found = self._table.scan(claim.customer, first, f"{first}~")  # no step's key has a `~`
        return [read_step(row, first) async for row in found]

    async def missing(self, rows: Sequence[Row]) -> list[Row]:
        """Those of the rows that were not written: another run's may have the same key. Raises StorageUnavailable."""
        found = [await self._table.read(row.partition, row.key) for row in rows]
        return [row for row, there in zip(rows, found, strict=True) if there is None or not _is_same(row, there)]

    async def cancel(self, customer: str, job_id: str) -> State | None:
        """
        Calls off a job that waits to be run; when its message comes, it ends as cancelled.

        Gives what it is now: `running` and `done` say that it was too late, None that there is no such job.
        Raises StorageUnavailable.
        """
        while True:
            row = await self._table.read(customer, job_key(job_id))
            if row is None:
                return None
            state: State = row.values["state"]
            # One whose worker has died stays `running`, so that its next claim sees that.
            died = state == "running" and row.values["lease_until"] <= now()
            if not died and state not in {"queued", "waiting"}:
                return state
            off = {"cancelled": True} if died else {"state": "cancelled"}
            try:
                await self._table.merge(Row(customer, row.key, off, row.etag))
            except RowChanged:  # by a worker that has just taken it, or given it up
                continue
            return "cancelled"

    async def find(self, customer: str, job_id: str, request_hash: str) -> JobRecord | None:
        """The job's record. Raises JobConflict where the id belongs to a job that asked for something else."""
        row = await self._table.read(customer, job_key(job_id))
        if row is None:
            return None
        _check_same(row, request_hash)
        return read_record(row)

    async def knows(self, customer: str, job_id: str) -> bool:
        """Whether the job was claimed before. Raises StorageUnavailable."""
        return await self._table.read(customer, job_key(job_id)) is not None

    async def find_unfinished(self, customer: str, request_hash: str) -> str | None:
        """
        The id of the job of this customer that asked for `request_hash` and whose runs failed most often: whose worker
        has died, or, where there is none, that waits because Storage had failed.

        For a message that the host moved to the poison queue: the host gives it a new id there, so a
        job without a `job_id` of its own can only be known by what it asks for. Storage looks through the partition.
        Raises AlreadyRunning if there is none whose worker has died, but one that still runs or died a moment ago.
        """
        same = [row async for row in self._unfinished(customer, request_hash)]
        running = [row for row in same if row.values["state"] == "running"]
        died = [row for row in running if row.values["lease_until"] <= now()]
        if running and not died:
            raise AlreadyRunning("A job that asks for the same still runs, or its worker died a moment ago.", _BUSY_S)
        # One that was given up as Storage failed, and whose message then could not be put back.
        failed = [row for row in same if row.values["state"] == "waiting" and row.values.get("failures")]
        if not (died or failed):
            return None
        found = max(died or failed, key=lambda row: row.values.get("failures") or 0)
        return found.key.removeprefix("j_")

    async def forgive(self, customer: str, job_id: str) -> None:
        """
        Lets the job's failed runs count no more: five of them end it.

        Raises AlreadyRunning where a worker has just taken it or given it up, StorageUnavailable.
        """
        row = await self._table.read(customer, job_key(job_id))
        if row is not None and row.values.get("failures"):
            await self._set_failures(row, 0)

    async def fail(self, customer: str, job_id: str) -> None:
        """Counts a failed run of a job that waits to be run. Raises as `forgive`."""
        row = await self._table.read(customer, job_key(job_id))
        if row is not None and row.values["state"] in {"queued", "waiting"}:
            await self._set_failures(row, row.values.get("failures", 0) + 1)

    async def _set_failures(self, row: Row, failures: int) -> None:
        try:
            await self._table.merge(Row(row.partition, row.key, {"failures": failures}, row.etag))
        except RowChanged:
            raise AlreadyRunning(f"A worker has job {row.key.removeprefix('j_')} just now.", 1) from None

    async def _unfinished(self, customer: str, request_hash: str) -> AsyncIterator[Row]:
        where, columns, after = {"hash eq": request_hash, "state ne": "done"}, ("state", "lease_until", "failures"), ""
        while True:
            page = await self._table.page(customer, "j_", "j`", where=where, columns=columns, after=after)
            for row in page.rows:
                yield row
            after = page.after
            if not after:
                return

    async def _claim_again(
        self, customer: str, job_id: str, row: Row | None, request_hash: str, owner: str
    ) -> Lease | Done:
        if row is None:  # removed since: a moment later it can be inserted
            raise AlreadyRunning(f"The row of job {job_id} has just been removed.", 1)
        values = row.values
        _check_same(row, request_hash)
        if values["state"] == "done":
            return Done(values["told"])
        claim = read_claim(row, owner)
        running = values["state"] == "running"
        if running and (left := (values["lease_until"] - now()).total_seconds()) > 0:
            raise AlreadyRunning(f"Another worker runs job {job_id}.", min(left + 1, _BUSY_S))
        again = replace(claim, attempt=claim.attempt + 1)
        if running:  # a claim that nobody gave up is one whose worker has died
            known = bool(claim.reason) and not claim.reason.startswith(_DIED)
            died = f"{_DIED} Before that: {claim.reason}" if known else claim.reason or _DIED
            again = replace(
                again, failures=claim.failures + 1, deaths=(*claim.deaths, claim.attempt), reason=died[:_REASON_LIMIT]
            )
        try:
            etag = await self._table.merge(Row(customer, row.key, self._claimed(again), row.etag))
        except RowChanged:
            raise AlreadyRunning(f"Another worker has just taken job {job_id}.", 1) from None
        return replace(again, etag=etag)

    async def _change(self, claim: Lease, values: Mapping[str, Any], added: Sequence[Row] = ()) -> Lease:
        if added and claim.deaths:  # whoever writes usage rows has written those of the deaths first
            values, claim = {**values, "deaths": ""}, replace(claim, deaths=())
        row = Row(claim.customer, job_key(claim.job_id), values, claim.etag)
        try:
            etag = await (self._table.merge_and_insert(row, added) if added else self._table.merge(row))
        except RowChanged as exc:
            # A change that seemed to fail may have been made, without the rows that have come since.
            found = exc.row
            if found is None or found.values["owner"] != claim.owner:
                raise LeaseLost(f"The claim on job {claim.job_id} was lost.") from None
            if found.values["state"] != "running":
                if found.values["state"] != values.get("state"):
                    raise LeaseLost(f"Job {claim.job_id} can't be changed beside what is there.") from None
                return replace(claim, etag=found.etag)
            if found.etag == claim.etag:  # nothing was written since: a row that is to be added is there already
                return await self._change(claim, values, await self._beside(claim, added))
            return await self._change(replace(claim, etag=found.etag), values, await self.missing(added))
        return replace(claim, etag=etag)

    async def _beside(self, claim: Lease, added: Sequence[Row]) -> list[Row]:
        """The rows as they can be added beside what is there."""
        there = [await self._table.read(row.partition, row.key) is not None for row in added]
        free = [row for row, is_there in zip(added, there, strict=True) if not is_there]
        taken = [row for row, is_there in zip(added, there, strict=True) if is_there]
        if not taken:
            raise LeaseLost(f"Job {claim.job_id} can't be changed beside what is there.") from None
        for row in taken:
            # A run that was taken for dead has told more than that already (see `record`). Anything else would be a
            # fault of ours: the job must end all the same, with all that it has cost.
            if row.values.get("outcome") != "unanswered":
                log.error("%s customer=%s job_id=%s key=%s", USAGE_RECORD_EXISTS, claim.customer, claim.job_id, row.key)
                free.append(replace(row, key=f"{row.key}_{claim.owner[:8]}"))
        return free

    def _claimed(self, claim: Lease) -> dict[str, Any]:
        return {
            "state": "running",
            "attempt": claim.attempt,
            "failures": claim.failures,
            "deaths": ",".join(map(str, claim.deaths)),
            "reason": claim.reason,
            "reason_code": claim.reason_code,
            "cancelled": claim.cancelled,
            "owner": claim.owner,
            "started_at": claim.started_at,
            **self._lease(),
        }

    def _lease(self) -> dict[str, Any]:
        return {"lease_until": now() + timedelta(seconds=self.lease_s)}


def _is_same(row: Row, there: Row) -> bool:
    return bool(row.values.get("at") == there.values.get("at"))  # when the call was answered


def _check_same(row: Row, request_hash: str) -> None:
    if row.values["hash"] != request_hash:
        job_id = row.key.removeprefix("j_")
        raise JobConflict(
            f"The id {job_id} belongs to a job of customer {row.partition} that asked for something else."
        )
