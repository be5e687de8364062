"""The status document of a job, from its record."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from shared.clock import now, rfc3339
from shared.contract.documents import API_PREFIX, CallbackState, JobDocument, JobState
from shared.contract.result import ErrorBody, Result
from shared.jobs.lines import read_ranges
from shared.jobs.records import JobRecord, is_worker_dead


def document_of(record: JobRecord) -> JobDocument:
    """Return the status document of a job."""
    result = None if record.result_body is None else msgspec.json.decode(record.result_body, type=Result)
    error = None if result is None else result.error
    if result is None and record.reason:
        error = ErrorBody(code=record.reason_code or "internal", message=record.reason)
    links = {"self": job_path(record)}
    if result is not None:
        links["result"] = f"{job_path(record)}/result"
    return JobDocument(
        job_id=record.job_id,
        customer=record.customer,
        status=_status(record, result),
        attempts=record.attempt,
        submitted_at=rfc3339(record.submitted_at),
        action=record.action or None,
        model=(result.model if result is not None else None) or record.model or None,
        started_at=None if record.started_at is None else rfc3339(record.started_at),
        finished_at=None if record.finished_at is None else rfc3339(record.finished_at),
        due_at=_due_at(record),
        batch=_batch(record),
        error=error,
        callback=_callback(record),
        links=links,
    )


def _status(record: JobRecord, result: Result | None) -> JobState:
    cancelled = record.state == "cancelled" or (record.cancelled and result is None)
    if cancelled or (result is not None and result.error is not None and result.error.code == "cancelled"):
        return "cancelled"
    if result is not None:
        return result.status
    # A job whose worker has died waits for another attempt.
    dead = is_worker_dead(record.state, record.lease_until, now())
    return "waiting" if dead or record.state == "done" else record.state


def _due_at(record: JobRecord) -> str | None:
    waits = record.state in {"queued", "waiting"} and record.wakeup
    return rfc3339(record.due_at) if waits and record.due_at is not None else None


def _batch(record: JobRecord) -> str | None:
    waits = record.state == "waiting" and not record.wakeup and not record.reason
    return read_ranges(record.lines)[-1].batch if waits and record.lines else None


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
    """Return the path of the job's status document."""
    return f"{API_PREFIX}/jobs/{quote(record.customer)}/{quote(record.job_id)}"
