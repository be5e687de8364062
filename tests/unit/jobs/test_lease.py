"""Leases: the first one of a job, the next one after a release or a crash, and the columns of the job's row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from shared.contract.result import Usage
from shared.jobs.lease import (
    MAX_REASON_LENGTH,
    Lease,
    first_lease,
    lease_values,
    next_lease,
    renewal,
)
from shared.jobs.records import new_incarnation
from shared.jobs.versions import VERSION
from shared.storage.base import Row
from tests.support.rows import every_row

SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)
START = SUBMITTED + timedelta(seconds=5)
MOMENT = SUBMITTED + timedelta(minutes=10)
DIED = "The worker that ran it died."


def row(**values: Any) -> Row:
    """A row of a job whose first attempt was released."""
    usual = {
        "state": "waiting",
        "attempt": 1,
        "submitted_at": SUBMITTED,
        "started_at": START,
        "incarnation": "0123abcd",
        "lease_until": MOMENT + timedelta(seconds=60),
    }
    return Row("acme", "j_job-1", usual | values, 'W/"7"')


def crashed(**values: Any) -> Row:
    """A row of a job whose worker died in its second attempt."""
    return row(**{"state": "running", "attempt": 2, "lease_until": MOMENT} | values)


def test_the_first_lease_is_attempt_1():
    """It starts now, and nothing went before. No two leases have the same owner, no two jobs the same incarnation."""
    leases = [first_lease("acme", "job-1", SUBMITTED, START) for _ in range(50)]

    for lease in leases:
        own: dict[str, Any] = {"incarnation": lease.incarnation, "began": lease.began}
        assert Lease("acme", "job-1", 1, SUBMITTED, START, lease.owner, "", **own) == lease
    assert 50 == len({lease.owner for lease in leases}) == len({lease.incarnation for lease in leases})
    assert 8 == len(new_incarnation())


def test_the_next_lease_continues_the_job():
    """It has the row's etag, the job's first start, and what earlier attempts have left."""
    same: dict[str, Any] = {"retries": 2, "failed_attempts": 1, "reason": "Slow down.", "reason_code": "rate_limited"}
    usage = Usage(calls=2, input_tokens=7)
    columns = {"crashed_attempts": "1,2", "unrecoverable_usage": '{"calls": 2, "input_tokens": 7}'}

    lease = next_lease(row(attempt=3, **same, **columns), MOMENT)

    expected = Lease("acme", "job-1", 4, SUBMITTED, START, lease.owner, 'W/"7"', **same, incarnation="0123abcd")
    assert replace(expected, crashed_attempts=(1, 2), unrecoverable_usage=usage, began=lease.began) == lease


def test_a_queued_job_starts_now():
    """A job that was submitted over HTTP has no start yet, and no attempt; its row has few columns."""
    queued = Row("acme", "j_job-1", {"state": "queued", "attempt": 0, "submitted_at": SUBMITTED}, "e")

    lease = next_lease(queued, MOMENT)

    assert Lease("acme", "job-1", 1, SUBMITTED, MOMENT, lease.owner, "e", began=lease.began) == lease


@every_row(
    ("state", "failed", "crashed_attempts"),
    [("running", 4, (1, 2)), ("waiting", 3, (1,)), ("queued", 3, (1,)), ("cancelled", 3, (1,))],
)
def test_a_crash_is_a_failed_attempt(state: str, failed: int, crashed_attempts: tuple[int, ...]):
    """An attempt whose lease has expired is one that failed, and needs a usage record; only a job that runs crashes."""
    lease = next_lease(crashed(state=state, failed_attempts=3, crashed_attempts="1"), MOMENT)

    assert (3, failed, crashed_attempts) == (lease.attempt, lease.failed_attempts, lease.crashed_attempts)


@every_row(
    ("before", "after"),
    [
        ("", DIED),
        ("Slow down.", f"{DIED} Before that: Slow down."),
        (DIED, DIED),
        (f"{DIED} Before that: Slow down.", f"{DIED} Before that: Slow down."),
        ("x" * 1000, f"{DIED} Before that: {'x' * 1000}"[:MAX_REASON_LENGTH]),
    ],
    ids=["none", "refusal", "crash", "crash after a refusal", "long"],
)
def test_a_crash_is_named_once(before: str, after: str):
    """The reason says that the worker died, and what had happened before; the code of that stays."""
    lease = next_lease(crashed(reason=before, reason_code="rate_limited"), MOMENT)

    assert (after, "rate_limited") == (lease.reason, lease.reason_code)


@pytest.mark.parametrize(
    ("values", "cancelled"),
    [({}, False), ({"state": "cancelled"}, True), ({"cancelled": True}, True)],
    ids=["no", "by its state", "while its worker was dead"],
)
def test_a_cancelled_job_stays_cancelled(values: dict[str, Any], cancelled: bool):
    """Whichever way it was cancelled, its next lease says so."""
    assert cancelled is next_lease(row(**values), MOMENT).cancelled


def test_a_row_says_what_its_lease_says():
    """A lease that is written and read again, after a crash, has the same values and one crash more."""
    columns = {"attempt": 3, "failed_attempts": 1, "crashed_attempts": "1,2", "generation": 2}
    lease = next_lease(row(**columns, reason="Slow down."), MOMENT)

    values = lease_values(lease, MOMENT, 90)

    assert {"lease_until": MOMENT + timedelta(seconds=30.5)} == renewal(MOMENT, 30.5)
    assert {
        "state": "running",
        "attempt": 4,
        "failed_attempts": 1,
        "crashed_attempts": "1,2",
        "reason": "Slow down.",
        "reason_code": "",
        "cancelled": False,
        "owner": lease.owner,
        "generation": 2,
        "version": VERSION,
        "started_at": START,
        "lease_until": MOMENT + timedelta(seconds=90),
    } == values
    again = next_lease(row(**values), MOMENT + timedelta(seconds=90))
    expected = replace(lease, attempt=5, failed_attempts=2, crashed_attempts=(1, 2, 4), owner=again.owner)
    assert replace(expected, reason=f"{DIED} Before that: Slow down.", began=again.began) == again
