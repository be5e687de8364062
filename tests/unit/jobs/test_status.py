"""The status document of a job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from shared.clock import now
from shared.contract.documents import CallbackState, JobDocument
from shared.contract.result import ErrorBody, Result, encode_result
from shared.jobs.records import JobRecord
from shared.jobs.status import document_of
from tests.support.rows import every_row

SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)
PATH = "/api/jobs/acme/job-1"


def record(state: str = "queued", **values: Any) -> JobRecord:
    return JobRecord("acme", "job-1", state, values.pop("attempt", 1), SUBMITTED, "f", **values)  # type: ignore[arg-type]


def done(status: str = "succeeded", code: str | None = None, **values: Any) -> JobRecord:
    error = None if code is None else ErrorBody(code=code, message="Why.")
    result = Result(job_id="job-1", status=status, error=error, model="gpt-4o")  # type: ignore[arg-type]
    return record("done", result_body=encode_result(result), **values)


def test_a_job_has_links_to_itself_and_its_result():
    """It has no result until it is finished; its model is then the one that it ran on. What is empty is left out."""
    queued = JobDocument(
        job_id="job-1",
        customer="acme",
        status="queued",
        attempts=0,
        submitted_at="2026-11-20T13:12:00.000Z",
        action="chat",
        links={"self": PATH},
    )
    finished = msgspec.structs.replace(
        queued,
        status="succeeded",
        model="gpt-4o",
        started_at="2026-11-20T13:12:01.000Z",
        finished_at="2026-11-20T13:12:02.000Z",
        links={"self": PATH, "result": f"{PATH}/result"},
    )
    times = {"started_at": SUBMITTED + timedelta(seconds=1), "finished_at": SUBMITTED + timedelta(seconds=2)}

    assert queued == document_of(record(attempt=0, action="chat"))
    assert finished == document_of(done(attempt=0, action="chat", model="requested", **times))


@every_row(
    ("job", "status"),
    [
        (record("queued"), "queued"),
        (record("waiting"), "waiting"),
        (record("running", lease_until=now() + timedelta(hours=1)), "running"),
        (record("running", lease_until=now() - timedelta(seconds=1)), "waiting"),
        (record("cancelled"), "cancelled"),
        (record("running", lease_until=now() - timedelta(seconds=1), cancelled=True), "cancelled"),
        (done("succeeded"), "succeeded"),
        (done("partial"), "partial"),
        (done("failed", "timeout"), "failed"),
        (done("failed", "cancelled"), "cancelled"),
        (done("succeeded", cancelled=True), "succeeded"),
        (record("done"), "waiting"),
    ],
    ids=[
        *("queued", "waiting", "running", "worker died", "cancelled", "cancelled while its worker was dead"),
        *("succeeded", "partial", "failed", "ended as cancelled", "cancelled too late", "result not read"),
    ],
)
def test_the_status_says_what_becomes_of_the_job(job: JobRecord, status: str):
    """A job whose worker died waits for its next attempt; a finished job has its result's status."""
    assert status == document_of(job).status


@every_row(
    ("job", "error"),
    [
        (record("waiting"), None),
        (record("waiting", reason="Down.", reason_code=""), ErrorBody(code="internal", message="Down.")),
        (
            record("waiting", reason="Slower.", reason_code="rate_limited"),
            ErrorBody(code="rate_limited", message="Slower."),
        ),
        (done("failed", "timeout"), ErrorBody(code="timeout", message="Why.")),
        (done("succeeded", reason="Slower.", reason_code="rate_limited"), None),
    ],
)
def test_the_error_says_why_a_job_failed_or_waits(job: JobRecord, error: ErrorBody | None):
    """A finished job has its result's error alone; a waiting one what its last attempt met."""
    assert error == document_of(job).error


@pytest.mark.parametrize(
    ("columns", "callback"),
    [
        ((), None),
        (("delivered", 1), CallbackState(status="delivered", attempts=1)),
        (("failed", 7, 503, "Busy."), CallbackState(status="failed", attempts=7, last_status=503, error="Busy.")),
    ],
)
def test_the_callback_is_in_the_document(columns: Sequence[Any], callback: CallbackState | None):
    """If a delivery was tried: how often, and how the receiver answered."""
    names = ("callback_status", "callback_attempts", "callback_last_status", "callback_error")

    assert callback == document_of(done(**dict(zip(names, columns, strict=False)))).callback
