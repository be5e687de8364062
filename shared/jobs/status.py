"""The status document of a job, from its record."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from shared.clock import now, rfc3339
from shared.contract.documents import API_PREFIX, CallbackState, JobDocument, JobState
from shared.contract.result import ErrorBody, Result
from shared.jobs.records import JobRecord


def document_of(record: JobRecord) -> JobDocument:
    """The status document of a job."""
    done = None if record.told is None else msgspec.json.decode(record.told, type=Result)
    error = None if done is None else done.error
    if done is None and record.reason:
        error = ErrorBody(code=record.reason_code or "internal", message=record.reason)
    links = {"self": job_path(record)}
    if done is not None:
        links["result"] = f"{job_path(record)}/result"
    return JobDocument(
        job_id=record.job_id,
        customer=record.customer,
        status=_state(record, done),
        attempts=record.attempt,
        submitted_at=rfc3339(record.submitted_at),
        action=record.action or None,
        model=(done.model if done is not None else None) or record.model or None,
        started_at=None if record.started_at is None else rfc3339(record.started_at),
        finished_at=None if record.finished_at is None else rfc3339(record.finished_at),
        error=error,
        callback=_callback(record),
        links=links,
    )


def _state(record: JobRecord, done: Result | None) -> JobState:
    off = record.state == "cancelled" or (record.cancelled and done is None)
    if off or (done is not None and done.error is not None and done.error.code == "cancelled"):
        return "cancelled"
    if done is not None:
        return done.status
    # A lease that ended is one whose worker has died: the job waits to be taken over.
    died = record.state == "running" and record.lease_until is not None and record.lease_until < now()
    return "waiting" if died or record.state == "done" else record.state


def _callback(record: JobRecord) -> CallbackState | None:
    if not record.callback_status:
        return None
    return CallbackState(
        status=record.callback_status,
        attempts=record.callback_attempts,
        last_status=record.callback_last_status or None,
        error=record.callback_error or None,
    )


def job_path(record: JobRecord) -> str:
    """The path of the job's status document."""
    return f"{API_PREFIX}/jobs/{quote(record.customer)}/{quote(record.job_id)}"
