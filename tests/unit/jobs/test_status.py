"""The status document of a job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.clock import now
from shared.contract.documents import CallbackState, JobDocument
from shared.contract.result import ErrorBody, Result, encode_result
from shared.jobs.records import JobRecord
from shared.jobs.status import document_of

SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)
PATH = "/api/jobs/acme/job-1"


def record(state: str = "queued", **values: Any) -> JobRecord:
    return JobRecord("acme", "job-1", state, values.pop("attempt", 1), SUBMITTED, "f", **values)  # type: ignore[arg-type]


def done(status: str = "succeeded", code: str | None = None, **values: Any) -> JobRecord:
    error = None if code is None else ErrorBody(code=code, message="Why.")
    result = Result(job_id="job-1", status=status, error=error, model="gpt-4o")  # type: ignore[arg-type]
    return record("done", result_body=encode_result(result), **values)


def test_a_queued_job_has_a_link_to_itself():
    """It has no result yet; what the job does not say is left out."""
    assert JobDocument(
        job_id="job-1",
        customer="acme",
        status="queued",
        attempts=0,
        submitted_at="2026-11-20T13:12:00.000Z",
        action="chat",
        links={"self": PATH},
    ) == document_of(record(attempt=0, action="chat"))


def test_a_finished_job_has_a_link_to_its_result():
    """Its model is the one that it ran on, and its times are in the document."""
    finished = done(
        model="requested", started_at=SUBMITTED + timedelta(seconds=1), finished_at=SUBMITTED + timedelta(seconds=2)
    )

    document = document_of(finished)

    assert {"self": PATH, "result": f"{PATH}/result"} == document.links
    assert ("succeeded", "gpt-4o", "2026-11-20T13:12:01.000Z", "2026-11-20T13:12:02.000Z") == (
        document.status,
        document.model,
        document.started_at,
        document.finished_at,
    )


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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
    ("values", "callback"),
    [
        ({}, None),
        ({"callback_status": "delivered", "callback_attempts": 1}, CallbackState(status="delivered", attempts=1)),
        (
            {
                "callback_status": "failed",
                "callback_attempts": 7,
                "callback_last_status": 503,
                "callback_error": "Busy.",
            },
            CallbackState(status="failed", attempts=7, last_status=503, error="Busy."),
        ),
    ],
)
def test_the_callback_is_in_the_document(values: dict[str, Any], callback: CallbackState | None):
    """If a delivery was tried: how often, and how the receiver answered."""
    assert callback == document_of(done(**values)).callback
