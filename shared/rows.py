"""
What the rows of the jobs table hold: a job's claim and record, its steps, its place in time. Pure.

`j_{job_id}` is a job, `s_{job_id}~{step}` a step of it, `u_{month}_{job_id}_{nonce}_{call}` a usage record
(see usage), `t_{time}_{job_id}` its place in time; all in the customer's partition.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import msgspec

from shared.clock import now
from shared.contract.result import Usage
from shared.stores import Row

ROWS_BESIDE = 99
"""Rows that a transaction has room for beside the job's own: 100 in all, and 4 MB."""
_STEPS_AT_ONCE = 30
_LATEST_MS = 10**14 - 1
"""Milliseconds since 1970, in the year 5138: what is subtracted from it sorts the newest first."""

State = Literal["queued", "running", "waiting", "cancelled", "done"]
_CALLBACK = ("callback_status", "callback_attempts", "callback_last_status", "callback_error")
_ALSO = ("reason", "reason_code", "cancelled", "failures", *_CALLBACK)


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
    deaths: tuple[int, ...] = ()
    """Attempts whose worker died, and that no usage record tells of yet."""
    lost: Usage = field(default_factory=Usage)
    """What earlier runs have consumed whose answers could not be kept; their usage records are written."""
    reason: str = ""
    """Why the last run came to nothing, and the code of the contract where it had one."""
    reason_code: str = ""
    cancelled: bool = False
    nonce: str = ""
    """
    Tells the job from an earlier one with its id, which is free again after its retention while usage records stay.
    Empty for a job of a version that had none.
    """


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


def fitting(steps: Sequence[StepRecord], *, beside: int = 0) -> list[StepRecord]:
    """The first of the steps, as many as one transaction takes `beside` so many other rows; at least one."""
    rows = beside
    for number, step in enumerate(steps):
        rows += 1 + len(step.rows)
        if number and (rows > ROWS_BESIDE or number == _STEPS_AT_ONCE):
            return list(steps[:number])
    return list(steps)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What is on record of a job, for whoever asks."""

    customer: str
    job_id: str
    state: State
    attempt: int
    submitted_at: datetime
    request_hash: str
    action: str = ""
    model: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    lease_until: datetime | None = None
    told: bytes | None = None
    """The result, once it is done."""
    reason: str = ""
    reason_code: str = ""
    cancelled: bool = False
    """Called off, though its row may still say that it runs: its worker had died."""
    failures: int = 0
    """As a claim's."""
    callback_status: Literal["", "waiting", "delivered", "failed"] = ""
    """`waiting`, `delivered` or `failed`; empty where none was tried. See callbacks."""
    callback_attempts: int = 0
    callback_last_status: int = 0
    """The receiver's last HTTP status; 0: it gave none."""
    callback_error: str = ""


def new_nonce() -> str:
    """A nonce for a job that is put on record."""
    return uuid.uuid4().hex[:8]


def job_key(job_id: str) -> str:
    """The key of a job's row."""
    return f"j_{job_id}"


def read_claim(row: Row, owner: str) -> Claim:
    """The claim in a job's row, in the hands of `owner`."""
    values = row.values
    return Claim(
        customer=row.partition,
        job_id=row.key.removeprefix("j_"),
        attempt=values["attempt"],
        submitted_at=values["submitted_at"],
        started_at=values.get("started_at") or now(),
        owner=owner,
        etag=row.etag,
        retries=values.get("retries", 0),
        failures=values.get("failures", 0),
        deaths=tuple(int(one) for one in values.get("deaths", "").split(",") if one),
        lost=msgspec.json.decode(values.get("lost", "{}"), type=Usage),
        reason=values.get("reason", ""),
        reason_code=values.get("reason_code", ""),
        cancelled=values["state"] == "cancelled" or values.get("cancelled", False),
        nonce=values.get("nonce", ""),
    )


def step_key(claim: Claim, key: str) -> str:
    """The key of a step's row."""
    return f"s_{claim.job_id}~{key}"  # no job id has a `~`, so no job's keys begin like another's


def step_row(claim: Claim, step: StepRecord) -> Row:
    """A step as a row."""
    values = {"value": step.value, "spilled": step.spilled, **msgspec.structs.asdict(step.usage)}
    return Row(claim.customer, step_key(claim, step.key), values)


def read_step(row: Row, first: str) -> StepRecord:
    """The step in a row whose key begins with `first`."""
    usage = Usage(**{name: row.values[name] for name in Usage.__struct_fields__})
    return StepRecord(row.key.removeprefix(first), row.values["value"], usage, spilled=row.values["spilled"])


def read_record(row: Row) -> JobRecord:
    """The job's record in its row."""
    values: dict[str, Any] = dict(row.values)
    named = ("state", "attempt", "submitted_at", "action", "model", "started_at", "finished_at", "lease_until", "told")
    known = {name: values[name] for name in (*named, *_ALSO) if values.get(name) is not None}
    return JobRecord(customer=row.partition, job_id=row.key.removeprefix("j_"), request_hash=values["hash"], **known)


def time_key(submitted_at: datetime) -> str:
    """How the key of a job's place in time begins: the later, the smaller."""
    return f"t_{_LATEST_MS - int(submitted_at.timestamp() * 1000):014}_"


def time_row(customer: str, job_id: str, submitted_at: datetime) -> Row:
    """A job's place in time."""
    return Row(customer, f"{time_key(submitted_at)}{job_id}", {})
