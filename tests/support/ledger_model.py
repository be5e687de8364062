"""
A model of the rows that a ledger keeps for one customer. Pure.

It says what a use of the ledger may leave behind: all of it if it succeeds, nothing if it is refused, and all or
nothing if Storage did not answer. `ledger_machine` compares it with the ledger.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from shared.contract.result import Usage
from shared.jobs.lease import Lease
from shared.jobs.records import time_row
from shared.storage.base import Row

LEASE_S = 90
START = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)
DIED = "The worker that ran it died."
_COLUMNS = {
    "state": None,
    "attempt": None,
    "fingerprint": None,
    "lease_until": None,
    "result_body": None,
    "failed_attempts": 0,
    "reason": "",
    "reason_code": "",
    "cancelled": False,
    "retries": 0,
}
"""Columns of a job's row that the model has as they are, and what a row without them means."""


@dataclass
class JobModel:
    """A job's row."""

    fingerprint: str
    state: str = "running"
    attempt: int = 1
    failed_attempts: int = 0
    crashed_attempts: tuple[int, ...] = ()
    reason: str = ""
    reason_code: str = ""
    cancelled: bool = False
    retries: int = 0
    unrecoverable_usage: Usage = field(default_factory=Usage)
    lease_until: datetime | None = None
    result_body: bytes | None = None
    holder: Holder | None = None
    """The worker that may change it; None if the worker never learned of its lease."""
    written_by: Write | None = None
    """The holder's write that changed the row last; None if somebody else's did."""

    def lease_holds(self, at: datetime) -> bool:
        """Return whether its lease has not expired."""
        return self.lease_until is not None and self.lease_until > at


@dataclass(eq=False)
class Write:
    """One write of a holder, which it repeats under the same id until it knows that it was made."""

    send: Callable[..., Coroutine[Any, Any, Lease | None]]
    apply: Callable[[Partition], None]
    """Changes the model as the write changes the table."""
    confirmed: Callable[[], None] = lambda: None
    operation_id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(eq=False)
class Holder:
    """What one worker has in memory of a job."""

    lease: Lease
    stored: set[str]
    """Steps that it knows to be stored."""
    unsaved: list[str] = field(default_factory=list)
    """Steps that it has not stored; they go along with its next write."""
    unrecorded: list[str] = field(default_factory=list)
    """Usage records of calls without a step, which go along likewise."""
    calls: int = 0
    unconfirmed: Write | None = None


@dataclass
class Partition:
    """All that one partition holds: jobs, and the keys of steps and usage records."""

    jobs: dict[str, JobModel] = field(default_factory=dict)
    steps: set[str] = field(default_factory=set)
    usage: set[str] = field(default_factory=set)

    def copy(self) -> Partition:
        """Return a copy that can be changed by itself; holders and writes stay the same objects."""
        jobs = {name: deepcopy(job, _shared(job)) for name, job in self.jobs.items()}
        return Partition(jobs, {*self.steps}, {*self.usage})

    def rows(self, customer: str) -> dict[str, Any]:
        """Return the rows that the table must hold, as `read_rows` returns them."""
        entries = {time_row(customer, name, START).key for name in self.jobs}
        rows: dict[str, Any] = {key: {} for key in self.steps | self.usage | entries}
        for name, job in self.jobs.items():
            rows[f"j_{name}"] = {column: getattr(job, column) for column in _COLUMNS} | {
                "crashed_attempts": ",".join(map(str, job.crashed_attempts)),
                "unrecoverable_usage": job.unrecoverable_usage,
            }
        return rows

    def claimed(self, name: str, fingerprint: str, at: datetime) -> Partition | None:
        """Return what a claim leaves, or None if the job can't be claimed."""
        after = self.copy()
        job = after.jobs.get(name)
        if job is None:
            after.jobs[name] = JobModel(fingerprint, lease_until=lease_from(at))
            return after
        if job.fingerprint != fingerprint or job.state == "done" or (job.state == "running" and job.lease_holds(at)):
            return None
        if job.state == "running":
            job.failed_attempts += 1
            job.crashed_attempts = (*job.crashed_attempts, job.attempt)
            before = job.reason.removeprefix(DIED).removeprefix(" Before that: ")
            job.reason = f"{DIED} Before that: {before}" if before else DIED
        job.cancelled = job.cancelled or job.state == "cancelled"
        job.state, job.holder, job.written_by, job.lease_until = "running", None, None, lease_from(at)
        job.attempt += 1
        return after

    def record(self, name: str, lease: Lease, suffixes: Sequence[str]) -> None:
        """Add usage records. The first ones of an attempt include those of crashed attempts."""
        self.usage.update(usage_keys(name, suffixes))
        if suffixes and lease.crashed_attempts:
            self.jobs[name].crashed_attempts = ()

    def end(self, name: str, result_body: bytes, suffixes: Sequence[str]) -> None:
        """End a job with usage records."""
        job = self.jobs[name]
        job.state, job.result_body = "done", result_body
        self.usage.update(usage_keys(name, suffixes))
        if suffixes:
            job.crashed_attempts = ()


def lease_from(at: datetime) -> datetime:
    """Return the end of a lease that starts, or is renewed, at that time."""
    return at + timedelta(seconds=LEASE_S)


def usage_keys(job: str, suffixes: Sequence[str]) -> list[str]:
    """Return the keys of a job's usage records."""
    return [f"u_2026-11_{job}_{suffix}" for suffix in suffixes]


def read_rows(rows: Sequence[Row]) -> dict[str, Any]:
    """Return by key what the model says of a job's row, and nothing of other rows."""
    contents: dict[str, Any] = {}
    for row in rows:
        values, contents[row.key] = row.values, {}
        if row.key.startswith("j_"):
            contents[row.key] = {name: values.get(name, default) for name, default in _COLUMNS.items()} | {
                "crashed_attempts": values.get("crashed_attempts", ""),
                "unrecoverable_usage": msgspec.json.decode(values.get("unrecoverable_usage", "{}"), type=Usage),
            }
    return contents


def _shared(job: JobModel) -> dict[int, Any]:
    return {id(each): each for each in (job.holder, job.written_by) if each is not None}
