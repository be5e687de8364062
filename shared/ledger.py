"""
What became of a job: claimed before anything is spent, done together with its usage records.

One row a job, `j_{job_id}` in the customer's partition. A claim is a lease: an owner and an end. The
row's etag fences: whoever lost the claim can't complete the job any more.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import msgspec

from shared.clock import now
from shared.contract.result import Usage
from shared.errors import JobBusy, JobConflict, LeaseLost
from shared.stores import Row, RowChanged, RowExists, Table

LEASE_S = 600
"""Seconds that a claim holds. A run of a job ends before (`pipeline.RUN_S`)."""
_ROWS_AT_ONCE = 99
_STEPS_AT_ONCE = 30
"""A transaction has room for 100 rows, the job's own among them, and for 4 MB."""
STEP_LIMIT = 60_000
"""Bytes of a step's value that stand in its row; a larger one is kept elsewhere."""
_BUSY_S = 15.0


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a job, until its lease ends."""

    customer: str
    job_id: str
    attempt: int
    submitted_at: datetime
    started_at: datetime
    owner: str
    etag: str
    retries: int = 0
    """Retries that earlier runs have used up."""
    failures: int = 0
    """Earlier runs that came to nothing: their worker died, or Storage did not keep what they had."""


@dataclass(frozen=True, slots=True)
class Done:
    """The job is done; `told` is its result as it was told."""

    told: bytes


@dataclass(frozen=True, slots=True, eq=False)
class StepRecord:
    """A part of a job that was paid for and is remembered: its value as JSON, what it consumed, its usage rows."""

    key: str
    value: bytes
    usage: Usage
    spilled: bool = False
    """The value was too large for a row, and stands elsewhere."""
    rows: Sequence[Row] = ()


def fitting(steps: Sequence[StepRecord]) -> list[StepRecord]:
    """The first of the steps, as many as one transaction takes; at least one."""
    rows = 0
    for number, step in enumerate(steps):
        rows += 1 + len(step.rows)
        if number and (rows > _ROWS_AT_ONCE or number == _STEPS_AT_ONCE):
            return list(steps[:number])
    return list(steps)


class Ledger:
    """The jobs of all customers, in one table."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def claim(self, customer: str, job_id: str, *, asked: str, submitted_at: datetime) -> Claim | Done:
        """
        The right to run the job whose request hash is `asked`, or what it ended with.

        Raises JobConflict where the id belongs to a job that asked for something else, JobBusy where
        another worker runs it, StorageUnavailable.
        """
        owner, moment = uuid.uuid4().hex, now()
        first = Claim(customer, job_id, 1, submitted_at, moment, owner, "")
        values = _claimed(first) | {"hash": asked, "submitted_at": submitted_at}
        try:
            etag = await self._table.insert(Row(customer, _key(job_id), values))
        except RowExists:
            return await self._claim_again(customer, job_id, asked, owner)
        return replace(first, etag=etag)

    async def release(self, claim: Claim, *, retries: int = 0, failed: bool = False) -> None:
        """
        Gives the claim up, so that the job can be claimed again at once. The attempt stays counted, the
        next run begins with so many `retries` used up, and knows whether this one has `failed`.
        """
        await self._change(claim, {"state": "waiting", "retries": retries, "failures": claim.failures + failed})

    async def complete(self, claim: Claim, told: bytes, *, status: str, usage: Sequence[Row]) -> None:
        """
        Closes the job with its result and its usage records, all in one transaction.

        Raises LeaseLost where the claim was lost to another worker, StorageUnavailable.
        """
        done = {"state": "done", "status": status, "told": told, "finished_at": now()}
        await self._change(claim, done, usage)

    async def remember(self, claim: Claim, steps: Sequence[StepRecord]) -> Claim:
        """
        Stores steps and their usage records in one transaction that also renews the lease.

        Raises LeaseLost where the claim was lost to another worker, StorageUnavailable.
        """
        rows = [_step_row(claim, step) for step in steps]
        renewed = Row(claim.customer, _key(claim.job_id), _lease(), claim.etag)
        try:
            etag = await self._table.merge_and_insert(renewed, [*rows, *(row for step in steps for row in step.rows)])
        except RowChanged:
            # The SDK asks again after an answer that got lost, and then finds its own change. One that seemed
            # to fail may have been made as well, without the steps that have come since.
            found = await self._table.read(renewed.partition, renewed.key)
            if found is None or found.values["owner"] != claim.owner:
                raise LeaseLost(f"The claim on job {claim.job_id} was lost.") from None
            there = [await self._table.read(row.partition, row.key) for row in rows]
            missing = [step for step, row in zip(steps, there, strict=True) if row is None]
            if missing and found.etag == claim.etag:
                raise LeaseLost(f"The steps of job {claim.job_id} can't be written beside what is there.") from None
            etag = found.etag
            if missing:
                return await self.remember(replace(claim, etag=etag), missing)
        return replace(claim, etag=etag)

    async def steps(self, claim: Claim) -> list[StepRecord]:
        """The steps that earlier runs of the job remembered. Asks Storage only where there was an earlier run."""
        if claim.attempt == 1:
            return []
        first = _step_key(claim, "")
        found = self._table.scan(claim.customer, first, f"{first}\x7f")
        return [_read_step(row, first) async for row in found]

    async def knows(self, customer: str, job_id: str) -> bool:
        """Whether the job was claimed before. Raises StorageUnavailable."""
        return await self._table.read(customer, _key(job_id)) is not None

    async def find_unfinished(self, customer: str, asked: str) -> str | None:
        """
        The id of an unfinished job of this customer that asked for `asked`.

        For a message that the host moved to the poison queue: the host gives it a new id there, so a
        job without a `job_id` of its own can only be known by what it asks for. Reads the partition.
        """
        async for row in self._table.scan(customer, "j_", "j`"):
            if row.values["hash"] == asked and row.values["state"] != "done":
                return row.key.removeprefix("j_")
        return None

    async def _claim_again(self, customer: str, job_id: str, asked: str, owner: str) -> Claim | Done:
        row = await self._table.read(customer, _key(job_id))
        if row is None:  # removed between the two calls: a moment later it can be inserted
            raise JobBusy(f"The row of job {job_id} has just been removed.", 1)
        values = row.values
        if values["hash"] != asked:
            raise JobConflict(f"The id {job_id} belongs to a job of customer {customer} that asked for something else.")
        if values["state"] == "done":
            return Done(values["told"])
        claim = Claim(
            customer,
            job_id,
            values["attempt"],
            values["submitted_at"],
            values["started_at"],
            owner,
            row.etag,
            values.get("retries", 0),
            values.get("failures", 0),
        )
        if values["owner"] == owner:  # Storage had inserted it when it seemed to have failed, and was asked again
            return claim
        left = (values["lease_until"] - now()).total_seconds()
        if values["state"] == "running" and left > 0:
            raise JobBusy(f"Another worker runs job {job_id}.", min(left + 1, _BUSY_S))
        # A claim that nobody gave up is one whose worker has died.
        died = values["state"] == "running"
        again = replace(claim, attempt=claim.attempt + 1, failures=claim.failures + died)
        try:
            etag = await self._table.merge(Row(customer, row.key, _claimed(again), row.etag))
        except RowChanged:
            found = await self._table.read(customer, row.key)
            if found is None or found.values["owner"] != owner:
                raise JobBusy(f"Another worker has just taken job {job_id}.", 1) from None
            etag = found.etag
        return replace(again, etag=etag)

    async def _change(self, claim: Claim, values: dict[str, object], added: Sequence[Row] = ()) -> None:
        row = Row(claim.customer, _key(claim.job_id), values, claim.etag)
        try:
            if added:
                await self._table.merge_and_insert(row, added)
            else:
                await self._table.merge(row)
        except RowChanged:
            # The SDK asks again after an answer that got lost, and then finds its own change.
            found = await self._table.read(row.partition, row.key)
            if found is None or found.values["owner"] != claim.owner:
                raise LeaseLost(f"The claim on job {claim.job_id} was lost.") from None
            if found.values["state"] == values["state"]:
                return
            # Or a change before this one was made, though it seemed to fail: the claim is still ours.
            if found.etag == claim.etag or found.values["state"] != "running":
                raise LeaseLost(f"Job {claim.job_id} can't be changed beside what is there.") from None
            await self._change(replace(claim, etag=found.etag), values, added)


def _key(job_id: str) -> str:
    return f"j_{job_id}"


def _claimed(claim: Claim) -> dict[str, object]:
    return {
        "state": "running",
        "attempt": claim.attempt,
        "failures": claim.failures,
        "owner": claim.owner,
        "started_at": claim.started_at,
        **_lease(),
    }


def _lease() -> dict[str, object]:
    return {"lease_until": now() + timedelta(seconds=LEASE_S)}


def _step_key(claim: Claim, key: str) -> str:
    return f"s_{claim.job_id}~{key}"  # no job id has a `~`, so no job's keys begin like another's


def _step_row(claim: Claim, step: StepRecord) -> Row:
    values = {"value": step.value, "spilled": step.spilled, **msgspec.structs.asdict(step.usage)}
    return Row(claim.customer, _step_key(claim, step.key), values)


def _read_step(row: Row, first: str) -> StepRecord:
    usage = Usage(**{name: row.values[name] for name in Usage.__struct_fields__})
    return StepRecord(row.key.removeprefix(first), row.values["value"], usage, spilled=row.values["spilled"])
