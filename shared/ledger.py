"""
What became of a job: claimed before anything is spent, done together with its usage records.

One row a job, `j_{job_id}` in the customer's partition. A claim is a lease: an owner and an end, which is
moved on while the job runs. The row's etag fences: whoever lost the claim can't change the job any more.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec

from shared.clock import now
from shared.contract.job import Job
from shared.contract.result import Usage
from shared.errors import JobBusy, JobConflict, LeaseLost, NotNow, Postponed
from shared.rows import (
    Claim,
    Done,
    JobRecord,
    State,
    StepRecord,
    job_key,
    read_claim,
    read_record,
    read_step,
    step_key,
    step_row,
    time_row,
)
from shared.stores import Row, RowChanged, RowExists, Table

LEASE_S = 90.0
STEP_LIMIT = 60_000
"""Bytes of a step's value that stand in its row; a larger one is kept elsewhere."""
_BUSY_S = 15.0
_REASON_LIMIT = 1000
_DIED = "The worker that ran it died."


class Ledger:
    """The jobs of all customers, in one table. `lease_s`: seconds that a claim holds unless it is renewed."""

    def __init__(self, table: Table, *, lease_s: float = LEASE_S) -> None:
        self._table = table
        self.lease_s = lease_s

    async def claim(
        self, customer: str, job_id: str, *, asked: str, submitted_at: datetime, action: str = ""
    ) -> Claim | Done:
        """
        The right to run the job whose request hash is `asked`, or what it ended with.

        Raises JobConflict where the id belongs to a job that asked for something else, JobBusy where
        another worker runs it, StorageUnavailable.
        """
        owner, moment = uuid.uuid4().hex, now()
        first = Claim(customer, job_id, 1, submitted_at, moment, owner, "")
        values = self._claimed(first) | {"hash": asked, "submitted_at": submitted_at, "action": action}
        place = time_row(customer, job_id, submitted_at)
        try:
            etag = await self._table.insert(Row(customer, job_key(job_id), values), beside=[place])
        except RowExists:
            return await self._claim_again(customer, job_id, asked, owner)
        return replace(first, etag=etag)

    async def submit(self, job: Job, *, asked: str, submitted_at: datetime) -> JobRecord:
        """
        Puts a job on record that has not begun; gives the record, which may have been there before.

        Raises JobConflict where the id belongs to a job that asked for something else, StorageUnavailable.
        """
        values = {
            "state": "queued",
            "attempt": 0,
            "owner": "",
            "hash": asked,
            "submitted_at": submitted_at,
            "action": job.action,
            "model": job.model or "",
        }
        row = Row(job.customer, job_key(job.id), values)
        try:
            await self._table.insert(row, beside=[time_row(job.customer, job.id, submitted_at)])
        except RowExists:
            found = await self._table.read(row.partition, row.key)
            if found is None:  # removed between the two calls: a moment later it can be inserted
                raise JobBusy(f"The row of job {job.id} has just been removed.", 1) from None
            _check_same(found, asked)
            row = found
        return read_record(row)

    async def renew(self, claim: Claim) -> Claim:
        """Moves the lease's end on. Raises LeaseLost where it was lost to another worker, StorageUnavailable."""
        return await self._change(claim, self._lease())

    async def release(
        self,
        claim: Claim,
        because: NotNow,
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
            "reason_code": because.reason.code if isinstance(because, Postponed) else "",
            "lost": msgspec.json.encode(lost or claim.lost).decode(),
        }
        await self._change(claim, values, rows)

    async def complete(self, claim: Claim, told: bytes, *, status: str, usage: Sequence[Row]) -> None:
        """
        Closes the job with its result and its usage records, all in one transaction.

        Raises as `renew`.
        """
        done = {"state": "done", "status": status, "told": told, "finished_at": now()}
        await self._change(claim, done, usage)

    async def remember(self, claim: Claim, steps: Sequence[StepRecord], rows: Sequence[Row] = ()) -> Claim:
        """
        Stores steps and their usage records, and other usage rows, in one transaction that also renews the lease.

        Raises as `renew`.
        """
        own = [step_row(claim, step) for step in steps]
        return await self._change(claim, self._lease(), [*own, *rows, *(row for step in steps for row in step.rows)])

    async def record(self, rows: Sequence[Row]) -> None:
        """Writes usage rows of a run that lost its claim. Raises StorageUnavailable."""
        for row in rows:
            with contextlib.suppress(RowExists):
                await self._table.insert(row)

    async def steps(self, claim: Claim) -> list[StepRecord]:
        """The steps that earlier runs of the job remembered. Asks Storage only where there was an earlier run."""
        if claim.attempt == 1:
            return []
        first = step_key(claim, "")
        found = self._table.scan(claim.customer, first, f"{first}~")  # no step's key has a `~`
        return [read_step(row, first) async for row in found]

    async def missing(self, rows: Sequence[Row]) -> list[Row]:
        """Those of the rows that are not in the table. Raises StorageUnavailable."""
        return [row for row in rows if await self._table.read(row.partition, row.key) is None]

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

    async def find(self, customer: str, job_id: str, asked: str) -> JobRecord | None:
        """The job's record. Raises JobConflict where the id belongs to a job that asked for something else."""
        row = await self._table.read(customer, job_key(job_id))
        if row is None:
            return None
        _check_same(row, asked)
        return read_record(row)

    async def knows(self, customer: str, job_id: str) -> bool:
        """Whether the job was claimed before. Raises StorageUnavailable."""
        return await self._table.read(customer, job_key(job_id)) is not None

    async def find_unfinished(self, customer: str, asked: str) -> str | None:
        """
        The id of the job of this customer that asked for `asked` and whose runs failed most often: whose worker
        has died, or, where there is none, that waits because Storage had failed.

        For a message that the host moved to the poison queue: the host gives it a new id there, so a
        job without a `job_id` of its own can only be known by what it asks for. Reads the partition.
        Raises JobBusy where there is only one that may have died a moment ago, or still runs.
        """
        same = [row async for row in self._table.scan(customer, "j_", "j`") if row.values["hash"] == asked]
        running = [row for row in same if row.values["state"] == "running"]
        died = [row for row in running if row.values["lease_until"] <= now()]
        # One that was given up as Storage failed, and whose message then could not be put back.
        failed = [row for row in same if row.values["state"] == "waiting" and row.values.get("failures", 0)]
        if running and not died and not failed:
            raise JobBusy("A job that asks for the same still runs, or its worker died a moment ago.", _BUSY_S)
        if not (died or failed):
            return None
        found = max(died or failed, key=lambda row: row.values.get("failures", 0))
        return found.key.removeprefix("j_")

    async def _claim_again(self, customer: str, job_id: str, asked: str, owner: str) -> Claim | Done:
        row = await self._table.read(customer, job_key(job_id))
        if row is None:  # removed between the two calls: a moment later it can be inserted
            raise JobBusy(f"The row of job {job_id} has just been removed.", 1)
        values = row.values
        _check_same(row, asked)
        if values["state"] == "done":
            return Done(values["told"])
        claim = read_claim(row, owner)
        if values["owner"] == owner:  # Storage had inserted it when it seemed to have failed, and was asked again
            return claim
        running = values["state"] == "running"
        if running and (left := (values["lease_until"] - now()).total_seconds()) > 0:
            raise JobBusy(f"Another worker runs job {job_id}.", min(left + 1, _BUSY_S))
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
            found = await self._table.read(customer, row.key)
            if found is None or found.values["owner"] != owner:
                raise JobBusy(f"Another worker has just taken job {job_id}.", 1) from None
            etag = found.etag
        return replace(again, etag=etag)

    async def _change(self, claim: Claim, values: Mapping[str, Any], added: Sequence[Row] = ()) -> Claim:
        if added and claim.deaths:  # whoever writes usage rows has written those of the deaths first
            values, claim = {**values, "deaths": ""}, replace(claim, deaths=())
        row = Row(claim.customer, job_key(claim.job_id), values, claim.etag)
        try:
            etag = await (self._table.merge_and_insert(row, added) if added else self._table.merge(row))
        except RowChanged:
            # The SDK asks again after an answer that got lost, and then finds its own change. One that seemed
            # to fail may have been made as well, without the rows that have come since.
            found = await self._table.read(row.partition, row.key)
            if found is None or found.values["owner"] != claim.owner:
                raise LeaseLost(f"The claim on job {claim.job_id} was lost.") from None
            if found.values["state"] != "running":
                if found.values["state"] != values.get("state"):
                    raise LeaseLost(f"Job {claim.job_id} can't be changed beside what is there.") from None
                return replace(claim, etag=found.etag)
            if found.etag == claim.etag:  # nothing of ours was written since: what is there is not ours
                raise LeaseLost(f"Job {claim.job_id} can't be changed beside what is there.") from None
            return await self._change(replace(claim, etag=found.etag), values, await self.missing(added))
        return replace(claim, etag=etag)

    def _claimed(self, claim: Claim) -> dict[str, Any]:
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


def _check_same(row: Row, asked: str) -> None:
    if row.values["hash"] != asked:
        job_id = row.key.removeprefix("j_")
        raise JobConflict(
            f"The id {job_id} belongs to a job of customer {row.partition} that asked for something else."
        )
