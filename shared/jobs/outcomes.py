"""What an attempt comes to: an exception as an outcome, an outcome as a result. Pure, except for a log line."""

from __future__ import annotations

import time
from datetime import datetime

import msgspec

from shared.actions.base import Completed, Deferred, Outcome, failed
from shared.clock import rfc3339
from shared.contract.error_codec import error_body, error_from_body
from shared.contract.job import Job
from shared.contract.result import ConnectionLabel, Result, Timings
from shared.errors import (
    CredentialRejected,
    DeadlinePassed,
    InternalError,
    JobError,
    LeaseLost,
    NetworkRefused,
    RetryLater,
    UpstreamRetryLater,
)
from shared.jobs.attempt import Attempt
from shared.jobs.crash_log import CRASHED, drop_frames, log_crash
from shared.jobs.fallback import read_skipped, unresolved
from shared.jobs.lease import Lease


def outcome_of(exc: Exception, attempt: Attempt) -> Outcome:
    """
    Return what an exception means for the job. What it has received outside of steps is lost.

    A fault of ours fails the job and is logged. Raises LeaseLost.
    """
    attempt.usage.discard_responses()
    if isinstance(exc, LeaseLost):
        raise exc
    if not isinstance(exc, RetryLater | JobError):
        log_crash(exc, str(attempt))
    drop_frames(exc)
    if isinstance(exc, RetryLater):
        return deferred(exc)
    return failed(exc if isinstance(exc, JobError) else InternalError(CRASHED))


def deferred(reason: RetryLater) -> Deferred:
    """Return the outcome of a job that has to wait for that reason."""
    if isinstance(reason, UpstreamRetryLater):
        return Deferred(reason, failed(reason.reason))
    return Deferred(reason, failed(DeadlinePassed(str(reason))))


def given_up(lease: Lease) -> Completed:
    """Return the outcome of a job whose attempts all failed, with the last known reason."""
    number = lease.failed_attempts
    after = f" after {number} failed attempt{'s' if number != 1 else ''}" if number else " by the queue"
    message = f"The job was given up{after}."
    if lease.reason:
        message += f" The last known reason: {lease.reason}"
    code = lease.reason_code
    return failed(error_from_body({"code": code, "message": message}) if code else InternalError(message))


def is_key_rejected(outcome: Outcome) -> bool:
    """Return whether a new key may change the outcome, also that of a job that waits because its key was refused."""
    if isinstance(outcome, Completed):
        rejected: JobError | None = outcome.rejected
    else:
        rejected = outcome.reason.reason if isinstance(outcome.reason, UpstreamRetryLater) else None
    return isinstance(rejected, CredentialRejected) and not isinstance(rejected, NetworkRefused)


def result_of(attempt: Attempt, outcome: Completed, at: datetime) -> Result:
    """Return the result of a job that ends with `outcome` at that time."""
    job, lease, usage = attempt.job, attempt.lease, attempt.usage
    return Result(
        job_id=job.id,
        status=outcome.status,
        customer=job.customer,
        action=job.action,
        model=usage.model or job.model,
        metadata=job.metadata,
        output=outcome.output,
        usage=usage.of_job(outcome.calls, outcome.status, at),
        timings=_timings(attempt),
        error=None if outcome.error is None else error_body(outcome.error),
        connection=_with_skipped(job, usage.label, usage.skipped) if usage.skipped else usage.label,
        attempts=lease.attempt,
        submitted_at=rfc3339(lease.submitted_at),
        started_at=rfc3339(lease.started_at),
        finished_at=rfc3339(at),
    )


def _with_skipped(job: Job, label: ConnectionLabel | None, skipped: str) -> ConnectionLabel:
    return msgspec.structs.replace(label or unresolved(job, skipped), skipped=read_skipped(skipped))


def _timings(attempt: Attempt) -> Timings:
    lease, upstream_s = attempt.lease, attempt.time.upstream_s
    queued_s = (lease.started_at - lease.submitted_at).total_seconds()
    own_s = time.perf_counter() - lease.began - upstream_s
    queued_ms, upstream_ms, overhead_ms = (round(max(seconds, 0) * 1000) for seconds in (queued_s, upstream_s, own_s))
    return Timings(queued_ms=queued_ms, upstream_ms=upstream_ms, overhead_ms=overhead_ms)
