"""
What the rows of the jobs table hold: a job's claim and record, its steps, its place in time. Pure.

`j_{job_id}` is a job, `s_{job_id}~{step}` a step of it, `u_{month}_{job_id}_{nonce}_{call}` a usage record
(see usage), `t_{time}_{job_id}` its place in time; all in the customer's partition.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import msgspec

from shared.clock import now
from shared.contract.result import Usage
from shared.storage.base import Row

_LATEST_MS = 10**14 - 1
"""Milliseconds since 1970, in the year 5138: what is subtracted from it sorts the newest first."""

State = Literal["queued", "running", "waiting", "cancelled", "done"]
_CALLBACK = ("callback_status", "callback_attempts", "callback_last_status", "callback_error")
_ALSO = ("reason", "reason_code", "cancelled", "failures", *_CALLBACK)


@dataclass(frozen=True, slots=True)
class Lease:
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


def read_claim(row: Row, owner: str) -> Lease:
    """The claim in a job's row, in the hands of `owner`."""
    values = row.values
    return Lease(
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
