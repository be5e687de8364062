"""A queue message as it was delivered, and what follows from it. Pure, but for the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.clock import now, rfc3339
from shared.contract.error_codec import error_body
from shared.contract.job import Job, salvage
from shared.contract.result import Result
from shared.errors import JobError


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as the queue handed it over."""

    body: bytes
    message_id: str
    submitted_at: datetime
    returned: bool = False
    """Whether the message has been in the queue before, and went back."""


def deadline_of(job: Job, submitted_at: datetime) -> datetime:
    """When the job ends as failed, if it has not ended."""
    return submitted_at + timedelta(seconds=job.options.deadline_s)


def refused(delivery: Delivery, error: JobError) -> Result:
    """The result of a message that never became a run: under its own id where it has a valid one."""
    at = rfc3339(now())
    return Result(
        **{"job_id": delivery.message_id, **salvage(delivery.body)},
        status="failed",
        error=error_body(error),
        submitted_at=rfc3339(delivery.submitted_at),
        started_at=at,
        finished_at=at,
    )
