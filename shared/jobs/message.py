"""A queue message as it was delivered, and what follows from it. Pure, except for clock and jitter."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from msgspec import UNSET

from shared.actions.base import Action
from shared.clock import now, rfc3339
from shared.contract.error_codec import error_body
from shared.contract.job import MAX_DEADLINE_S, Job, salvage
from shared.contract.processing import DEFAULT_DEADLINES_S
from shared.contract.result import Result
from shared.errors import JobError, RetryLater
from shared.jobs.envelope import QueuedJob
from shared.jobs.lease import MAX_GENERATION

_MAX_JITTERED_S = 3600.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as the queue delivered it."""

    body: bytes
    message_id: str
    submitted_at: datetime
    is_redelivered: bool = False
    """The host has delivered it before: a worker may have died with it."""
    requeued: bool = False
    """The job has been in the queue before."""
    traceparent: str | None = None
    """The trace of the request that submitted the job, or of its first attempt."""
    generation: int = 0
    """See Envelope."""


@dataclass(frozen=True, slots=True)
class DecodedJob:
    """What a job asks for: its action, and its decoded input."""

    action: Action
    request: Any
    memory: object = None
    """What the input takes of the worker's memory, as long as this object is referred to."""


Work = DecodedJob | JobError | RetryLater | None
"""An error instead of work is what a job ends with, or waits for; None gives the job up."""


def restore_envelope(job: QueuedJob, delivery: Delivery) -> tuple[QueuedJob, Delivery]:
    """
    Return the job, and its delivery with what the envelope says, such as the time at which the job was first submitted.

    That stands in the message, which anybody can write: the time counts only if it is not later than the delivery's
    own, nor earlier than any deadline reaches back, and the generation only as far as a table's column reaches.
    """
    if job.envelope is None:
        return job, delivery
    earliest = delivery.submitted_at - timedelta(seconds=MAX_DEADLINE_S)
    submitted_at = max(min(delivery.submitted_at, job.envelope.submitted_at), earliest)
    generation = min(job.envelope.generation, MAX_GENERATION)
    traceparent = job.envelope.traceparent
    return job, replace(delivery, submitted_at=submitted_at, traceparent=traceparent, generation=generation)


def deadline_of(job: Job, submitted_at: datetime) -> datetime:
    """Return when the job ends as failed, if it has not ended before."""
    start = submitted_at if job.options.run_at is None else starts_at(job, submitted_at)
    seconds = job.options.deadline_s  # not `lasts_s`: a call less for each job
    return start + timedelta(seconds=DEFAULT_DEADLINES_S[job.options.processing] if seconds is UNSET else seconds)


def starts_at(job: Job, submitted_at: datetime) -> datetime:
    """Return when the job may start: at its `run_at`, or when it was submitted."""
    return max(submitted_at, job.options.run_at or submitted_at)


def clock_start(job: Job, submitted_at: datetime, waited_s: float) -> datetime:
    """Return the time for `deadline_of`, of a job that has waited for so long while its deadline did not run."""
    return starts_at(job, submitted_at) + timedelta(seconds=waited_s) if waited_s else submitted_at


def with_jitter(delay_s: float, left_s: float) -> float:
    """
    Return the seconds for which a job is requeued that has so many left before its deadline.

    The jitter leaves time before the deadline, if there is any after the wait. The wait ends not long after the
    deadline, at which the job ends unless something is still unavailable.
    """
    jitter_s = min(delay_s, _MAX_JITTERED_S) * random.uniform(0, 0.1)  # noqa: S311
    if delay_s < left_s:
        jitter_s = min(jitter_s, (left_s - delay_s) / 2)
    return min(delay_s + jitter_s, max(left_s, 1.0) if left_s > 0 else math.inf)


def rejected(delivery: Delivery, error: JobError) -> Result:
    """Return the result of a message that got no attempt: under its own id if it has a valid one."""
    at = rfc3339(now())
    return Result(
        **{"job_id": delivery.message_id, **salvage(delivery.body)},
        status="failed",
        error=error_body(error),
        submitted_at=rfc3339(delivery.submitted_at),
        started_at=at,
        finished_at=at,
    )


def log_name(job: Job | None, delivery: Delivery | None = None) -> str:
    """Return how a log line names the job; a message that is not a job has only its id."""
    if job is None:
        return f"job_id={delivery.message_id if delivery else '-'}"
    return f"customer={job.customer} job_id={job.id}"
