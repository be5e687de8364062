"""
A lease: the right of one worker to run a job, until it expires.

The owner's id and the row's etag fence it: a worker that has lost its lease can't change the job's row.

A worker that stops sends its jobs again, while the host may keep the messages that it had, hidden, and deliver them
minutes later. So the new message is of the next generation, and the row says which one is the latest. It never says so
before that message is sent, or is there to be claimed with: whatever dies when, the latest one is still to come.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from shared.contract.usage import Usage
from shared.errors import AlreadyRunning, LeaseLost
from shared.ids import new_id
from shared.jobs.records import is_worker_dead, job_key, new_incarnation, time_row
from shared.jobs.versions import VERSION
from shared.storage.base import Row

MAX_REASON_LENGTH = 1000
"""Characters of a reason that are kept in a job's row."""
MAX_GENERATION = 10**9
"""Anybody can write a message, but a column holds no number of any size. Two of this one are the same."""
SUPERSEDED_FOR = timedelta(hours=1)
"""
How long after its job has last run a message of an earlier generation is dropped. The host keeps one hidden for ten
minutes. What comes later may be all that is left, after a failover of Storage or a fault that nobody has thought of.
"""
_BUSY_S, _STOPPING_S = 15.0, 2.0
_SAME_TIME = timedelta(seconds=1)
"""As exact as the time at which a queue got a message."""
_DIED = "The worker that ran it died."
_STATES_AFTER = {"running": {"running"}, "waiting": {"running", "waiting", "cancelled"}, "done": {"running", "done"}}
"""By the state that a lease's write sets: the states in which its row may be found if the write is refused."""


class Lease(msgspec.Struct, frozen=True):
    """One attempt's right to run a job, and what the job's row says about earlier attempts."""

    customer: str
    job_id: str
    attempt: int
    """Counts from 1."""
    submitted_at: datetime
    started_at: datetime
    """When the first attempt started."""
    owner: str
    """A random id; no two leases have the same."""
    etag: str
    retries: int = 0
    """Retries that earlier attempts have used up."""
    failed_attempts: int = 0
    """Earlier attempts without a result: the worker died, or Storage did not keep their result."""
    crashed_attempts: tuple[int, ...] = ()
    """Attempts whose worker died and that have no usage record yet."""
    unrecoverable_usage: Usage = msgspec.field(default_factory=Usage)
    """What earlier attempts have consumed whose responses could not be kept. Its usage records are written."""
    reason: str = ""
    """Why the last attempt came to nothing."""
    reason_code: str = ""
    """The contract's error code for it, if it has one."""
    cancelled: bool = False
    reservation: str = ""
    """What an earlier attempt had reserved of budgets (see billing.job_budgets), and not settled."""
    reserved_for: str = ""
    keeps_reservation: bool = False
    """Whether the job has waited with it; else a worker has died that may have used it."""
    budget_wait_s: float = 0
    """Seconds that it has waited for a budget's next period, while its deadline did not run."""
    generation: int = 0
    """Of the message with which it was claimed."""
    lines: str = ""
    """Its lines in batches of its provider (see `jobs.lines`)."""
    is_stepless: bool = False
    """It has waited for a batch, and has no step."""
    skipped: str = ""
    """The connections of the job's list that could not serve it, as JSON; empty: none."""
    began: float = msgspec.field(default_factory=time.perf_counter)
    """When this attempt's claim began, on `time.perf_counter()`'s clock."""
    incarnation: str = ""
    """
    Distinguishes the job from an earlier one with the same id: after its retention an id is free again, while usage
    records stay.
    """
    unwritten: Mapping[str, Any] | None = None
    """
    The columns that its first write sets, of an attempt whose claim has written nothing (see `Ledger.claim`). Without
    an etag, that write inserts the row.
    """

    def first_write(self, values: Mapping[str, Any]) -> tuple[Row, list[Row]]:
        """Return the job's row with new values, and the rows to insert beside it if the job is new."""
        row = Row(self.customer, job_key(self.job_id), {**(self.unwritten or {}), **values}, self.etag)
        return row, [] if self.etag else [time_row(self.customer, self.job_id, self.submitted_at)]


class Superseded(LeaseLost):
    """The message is not the job's latest, which continues the job or has ended it."""


def first_lease(customer: str, job_id: str, submitted_at: datetime, at: datetime, generation: int = 0) -> Lease:
    """Return the lease of a job's first attempt, which starts at `at`. It has no etag yet."""
    incarnation = new_incarnation()
    return Lease(customer, job_id, 1, submitted_at, at, new_id(), "", incarnation=incarnation, generation=generation)


def next_generation(generation: int) -> int:
    """Return that of the message which a worker that stops sends."""
    return min(generation + 1, MAX_GENERATION)


def check_claim(row: Row, first: Lease, at: datetime) -> None:
    """
    Raise if the job in `row` can't be claimed with the message that `first` would have been the lease of.

    Raises Superseded, or AlreadyRunning if another worker has a lease that holds.
    """
    values = row.values
    if first.generation < values.get("generation", 0) and _is_superseded(values, first, at):
        raise Superseded(f"A later message of job {first.job_id} has taken this one's place.")
    if values["state"] == "running" and values["lease_until"] > at:
        left_s = (values["lease_until"] - at).total_seconds()
        busy_s = _BUSY_S if first.generation <= values.get("generation", 0) else _STOPPING_S  # it is being released
        raise AlreadyRunning(f"Another worker runs job {first.job_id}.", min(left_s + 1, busy_s))


def _is_superseded(values: Mapping[str, Any], first: Lease, at: datetime) -> bool:
    """
    Return whether a message of an earlier generation is not needed. It is, whatever its generation, if its sender has
    sent the job again; if a batch wakes the job with it; or if nothing has happened for long.
    """
    is_same = first.submitted_at < values["submitted_at"] + _SAME_TIME
    is_wakeup = values["state"] != "done" and values.get("lines")
    return is_same and not is_wakeup and at - values["lease_until"] < SUPERSEDED_FOR


def next_lease(row: Row, at: datetime, generation: int | None = None) -> Lease:
    """
    Return the lease of another attempt of the job in `row`, which has no owner or one whose worker died. `generation`
    is that of the message, if there is one.

    A worker that died counts as a failed attempt.
    """
    values = row.values
    lease = Lease(
        customer=row.partition,
        job_id=row.key.removeprefix("j_"),
        attempt=values["attempt"] + 1,
        submitted_at=values["submitted_at"],
        started_at=values.get("started_at") or at,
        owner=new_id(),
        etag=row.etag,
        retries=values.get("retries", 0),
        failed_attempts=values.get("failed_attempts", 0),
        crashed_attempts=tuple(int(number) for number in values.get("crashed_attempts", "").split(",") if number),
        unrecoverable_usage=msgspec.json.decode(values.get("unrecoverable_usage", "{}"), type=Usage),
        reason=values.get("reason", ""),
        reason_code=values.get("reason_code", ""),
        cancelled=values["state"] == "cancelled" or values.get("cancelled", False),
        reservation=values.get("reservation", ""),
        reserved_for=values.get("reserved_for", ""),
        keeps_reservation=bool(values.get("reservation")) and values["state"] in {"waiting", "cancelled"},
        budget_wait_s=_budget_wait_s(values, at),
        incarnation=values.get("incarnation", ""),
        generation=values.get("generation", 0) if generation is None else generation,
        lines=values.get("lines", ""),
        is_stepless=values.get("stepless", False),
        skipped=values.get("skipped", ""),
    )
    if not is_worker_dead(values["state"], values.get("lease_until"), at):
        return lease
    other_reason = bool(lease.reason) and not lease.reason.startswith(_DIED)
    reason = f"{_DIED} Before that: {lease.reason}" if other_reason else lease.reason or _DIED
    return replace(
        lease,
        failed_attempts=lease.failed_attempts + 1,
        crashed_attempts=(*lease.crashed_attempts, values["attempt"]),
        reason=reason[:MAX_REASON_LENGTH],
    )


def _budget_wait_s(values: Mapping[str, Any], at: datetime) -> float:
    """Return for how long it has waited. A message that was delivered again continues it before its time."""
    ends_at: datetime = values.get("budget_wait_until") or at
    wait_s: float = values.get("budget_wait_s", 0)
    return max(wait_s - max((ends_at - at).total_seconds(), 0), 0)


def lease_values(lease: Lease, at: datetime, seconds: float) -> dict[str, Any]:
    """Return the columns of a job's row while `lease`, which starts or is renewed at `at`, holds."""
    return {
        "state": "running",
        "attempt": lease.attempt,
        "failed_attempts": lease.failed_attempts,
        "crashed_attempts": ",".join(map(str, lease.crashed_attempts)),
        "reason": lease.reason,
        "reason_code": lease.reason_code,
        "cancelled": lease.cancelled,
        "owner": lease.owner,
        "generation": lease.generation,
        "version": VERSION,
        "started_at": lease.started_at,
        **renewal(at, seconds),
    }


def waiting_values(lease: Lease, unrecoverable: Usage, *, skipped: str, stepless: bool) -> dict[str, Any]:
    """Return the columns of a job's row whose attempt waits for a batch. `stepless`: no attempt has stored a step."""
    return {
        "state": "waiting",
        "stepless": stepless,
        "retries": lease.retries,
        "failed_attempts": lease.failed_attempts,
        "budget_wait_s": int(lease.budget_wait_s),
        "reason": "",
        "reason_code": "",
        "unrecoverable_usage": msgspec.json.encode(unrecoverable).decode(),
        **({"skipped": skipped} if skipped else {}),
    }


def renewal(at: datetime, seconds: float, skipped: str = "") -> dict[str, Any]:
    """Return the column that moves the lease's end to `seconds` from `at`, and that of `skipped`, if any are."""
    return {"lease_until": at + timedelta(seconds=seconds), **({"skipped": skipped} if skipped else {})}


def own_row(lease: Lease, row: Row | None, new_state: str) -> Row:
    """
    Return the row that a write of `new_state` was refused for. Raises LeaseLost if it is not the lease's own any more.

    If it is and does not run, the write was made and its answer got lost; then somebody who needs no lease, such as a
    cancellation, has changed the row.
    """
    if row is None or row.values["owner"] != lease.owner or row.values["state"] not in _STATES_AFTER[new_state]:
        raise LeaseLost(f"The lease on job {lease.job_id} was lost.") from None
    return row
