"""
What the jobs table holds about a job: its row, and its entry in the order of time. Pure.

`j_{job_id}` is a job, `s_{job_id}~{step}` a step of it (see step_rows), `u_{day}_{job_id}_{incarnation}_{call}` a
usage record (see billing.usage_records), `t_{time}_{job_id}` its entry in the order of time, `l_{batch}_{number}` a
line of it (see lines); all in the customer's partition. A job that waits for long also has an entry in the schedule
(see schedule).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from shared.ids import new_id
from shared.jobs.versions import VERSION
from shared.storage.base import Row

if TYPE_CHECKING:
    from shared.contract.job import Job

_LATEST_MS = 10**14 - 1
"""Milliseconds since 1970, in the year 5138: subtracting from it sorts the newest first."""

State = Literal["queued", "running", "waiting", "cancelled", "done"]
_CALLBACK_COLUMNS = ("callback_url", "callback_status", "callback_attempts", "callback_last_status", "callback_error")
NO_WAKEUP: dict[str, Any] = {"waits": "", "wakeup": b""}
"""The columns of a job of which nothing waits in the schedule any more."""
_OPTIONAL_COLUMNS = (
    *("state", "attempt", "submitted_at", "action", "model", "started_at", "finished_at", "lease_until"),
    *("result_body", "reason", "reason_code", "cancelled", "failed_attempts", "due_at", "wakeup", "marker"),
    *("budget_wait_s", "version", "generation", "lines"),
    *_CALLBACK_COLUMNS,
)


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """The job is done; `result_body` is its result as it was published."""

    result_body: bytes


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job's row."""

    customer: str
    job_id: str
    state: State
    attempt: int
    submitted_at: datetime
    fingerprint: str
    action: str = ""
    model: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    lease_until: datetime | None = None
    result_body: bytes | None = None
    """The result, once the job is done."""
    reason: str = ""
    reason_code: str = ""
    cancelled: bool = False
    """Cancelled, although the row may still say `running`: the worker had died."""
    failed_attempts: int = 0
    """See Lease."""
    due_at: datetime | None = None
    """When a job that waits in the schedule is due, or was for the last time."""
    wakeup: bytes = b""
    """The message that continues the job or its callback, while that waits in the schedule (see `jobs.schedule`)."""
    marker: str = ""
    """What the message of the job must have, if only the app itself may send it (see `jobs.statement_jobs`)."""
    budget_wait_s: int = 0
    """Seconds that it has waited for a budget's next period, while its deadline did not run."""
    version: int = 0
    """Of the worker that last claimed or submitted it (see `jobs.versions`)."""
    generation: int = 0
    """Of the message that last claimed it, or of the next one, which a worker that stopped has sent (see `lease`)."""
    lines: str = ""
    """Its lines in batches of its provider (see `jobs.lines`)."""
    callback_url: str = ""
    """Where the job has its result posted to; empty: nowhere."""
    callback_status: Literal["", "waiting", "delivered", "failed"] = ""
    """Empty if no delivery was tried."""
    callback_attempts: int = 0
    callback_last_status: int = 0
    """The receiver's last HTTP status; 0: there was none."""
    callback_error: str = ""


def is_worker_dead(state: State, lease_until: datetime | None, at: datetime) -> bool:
    """Return whether a job's row says `running` and its lease has expired: its worker has died, or is too slow."""
    return state == "running" and lease_until is not None and lease_until <= at


def may_continue(record: JobRecord, at: datetime) -> bool:
    """Return whether a job is neither done nor cancelled, and nobody runs it."""
    is_dead = is_worker_dead(record.state, record.lease_until, at)
    return (is_dead or record.state in {"queued", "waiting"}) and not record.cancelled


def job_key(job_id: str) -> str:
    """Return the key of a job's row."""
    return f"j_{job_id}"


def new_incarnation() -> str:
    """Return an incarnation for a job that gets its row (see `Lease`)."""
    return new_id()[:8]


def queued_values(job: Job) -> dict[str, Any]:
    """Return what the row of a job that has not started has of the job itself."""
    callback = {"callback_url": job.output.callback} if job.output.callback else {}
    return {
        "state": "queued",
        "attempt": 0,
        "owner": "",
        "action": job.action,
        "model": job.model or "",
        "incarnation": new_incarnation(),
        "version": VERSION,
        **callback,
    }


def job_id_of(row: Row) -> str:
    """Return the id of the job in a row."""
    return row.key.removeprefix("j_")


def read_record(row: Row) -> JobRecord:
    """Return the record in a job's row."""
    values: dict[str, Any] = {name: row.values[name] for name in _OPTIONAL_COLUMNS if row.values.get(name) is not None}
    return JobRecord(customer=row.partition, job_id=job_id_of(row), fingerprint=row.values["fingerprint"], **values)


def time_key(submitted_at: datetime) -> str:
    """Return the beginning of the key of a job's entry in the order of time: the later, the smaller."""
    return f"t_{_LATEST_MS - int(submitted_at.timestamp() * 1000):014}_"


def time_row(customer: str, job_id: str, submitted_at: datetime) -> Row:
    """Return a job's entry in the order of time."""
    return Row(customer, f"{time_key(submitted_at)}{job_id}", {})
