"""A job's row, and its entry in the order of time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.records import JobRecord, State, is_worker_dead, job_id_of, job_key, read_record, time_key, time_row
from shared.storage.base import Row
from tests.support.rows import every_row

SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)
MOMENT = SUBMITTED + timedelta(minutes=10)


def test_a_record_has_the_columns_of_its_row():
    """Columns that the row does not have, or that are empty, have their defaults; others are ignored."""
    values = {"state": "done", "attempt": 2, "submitted_at": SUBMITTED, "fingerprint": "f", "result_body": b"{}"}
    callback: dict[str, Any] = {
        "callback_status": "failed",
        "callback_attempts": 7,
        "callback_last_status": 503,
        "callback_error": "Busy.",
    }
    row = Row("acme", "j_job-1", {**values, "finished_at": MOMENT, "model": None, "owner": "x"})
    expected = JobRecord("acme", "job-1", "done", 2, SUBMITTED, "f", finished_at=MOMENT, result_body=b"{}")

    assert expected == read_record(row)
    assert replace(expected, **callback) == read_record(replace(row, values=row.values | callback))


@every_row(
    ("state", "lease_until", "dead"),
    [
        ("running", MOMENT, True),
        ("running", MOMENT - timedelta(seconds=1), True),
        ("running", MOMENT + timedelta(seconds=1), False),
        ("running", None, False),
        ("waiting", MOMENT, False),
        ("done", MOMENT, False),
    ],
)
def test_a_worker_is_dead_once_its_lease_has_expired(state: State, lease_until: datetime | None, dead: bool):
    """A job that runs under an expired lease has no worker any more; only a job that runs has one."""
    assert dead is is_worker_dead(state, lease_until, MOMENT)


MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(MOMENTS, MOMENTS)
def test_later_jobs_sort_first(first: datetime, other: datetime):
    """Keys of the order of time have one length, and the later job's is smaller."""
    earlier, later = sorted((first, other))

    assert len(time_key(earlier)) == len(time_key(later)) == 17
    if later - earlier >= timedelta(milliseconds=2):  # a float of seconds is exact to a microsecond
        assert time_key(later) < time_key(earlier)


def test_keys_name_the_job():
    """A job's own begins with `j_`. Its entry in the order of time has no columns."""
    assert "j_job-1" == job_key("job-1")
    assert "j_x" == job_id_of(Row("acme", job_key("j_x"), {}))
    assert Row("acme", "t_98204819679999_job-1", {}) == time_row("acme", "job-1", SUBMITTED)
