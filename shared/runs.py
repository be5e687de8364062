"""A run of a job, from what came in to what it ended with. Pure, but for the clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.actions import Answer
from shared.clock import now, rfc3339
from shared.connections import Connection
from shared.contract.job import Job, salvage
from shared.contract.result import ErrorBody, Result
from shared.errors import JobError, UpstreamError
from shared.ledger import Claim
from shared.usage import total


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as the queue handed it over."""

    body: bytes
    message_id: str
    submitted_at: datetime


@dataclass(slots=True)
class Run:
    """One run of a claimed job, and what is known of it so far."""

    job: Job
    claim: Claim
    connection: Connection | None = None
    model: str | None = None

    def in_time(self, wait_s: float = 0) -> bool:
        """Whether the job's deadline lies beyond `wait_s` seconds from now."""
        deadline = self.claim.submitted_at + timedelta(seconds=self.job.options.deadline_s)
        return now() + timedelta(seconds=wait_s) < deadline


def finished(run: Run, answer: Answer, at: datetime) -> Result:
    """The result of a run that came to `answer`."""
    job, claim = run.job, run.claim
    return Result(
        job_id=job.id,
        status=answer.status,
        customer=job.customer,
        action=job.action,
        model=run.model or job.model,
        metadata=job.metadata,
        output=answer.output,
        usage=total(answer.calls),
        error=None if answer.error is None else _error(answer.error),
        connection=None if run.connection is None else run.connection.label(),
        attempts=claim.attempt,
        submitted_at=rfc3339(claim.submitted_at),
        started_at=rfc3339(claim.started_at),
        finished_at=rfc3339(at),
    )


def refused(delivery: Delivery, error: JobError) -> Result:
    """The result of a message that never became a run: under its own id where it has a valid one."""
    at = rfc3339(now())
    return Result(
        **{"job_id": delivery.message_id, **salvage(delivery.body)},
        status="failed",
        error=_error(error),
        submitted_at=rfc3339(delivery.submitted_at),
        started_at=at,
        finished_at=at,
    )


def _error(error: JobError) -> ErrorBody:
    if not isinstance(error, UpstreamError):
        return ErrorBody(code=error.code, message=str(error))
    facts = error.facts
    return ErrorBody(
        code=error.code,
        message=str(error),
        status=facts.status,
        request_id=facts.request_id,
        detail=facts.detail or None,
    )
