"""A run of a job, from what came in to what it ended with. Pure, but for the clock."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shared.actions.base import Completed
from shared.billing.usage import total
from shared.clock import now, rfc3339
from shared.connections.connection import Connection
from shared.contract.error_codec import error_body
from shared.contract.job import Job
from shared.contract.result import ConnectionLabel, Result, Usage
from shared.jobs.message import deadline_of
from shared.jobs.records import Lease
from shared.jobs.step_rows import StepRecord

log = logging.getLogger("customer_ai_jobs")


@dataclass(slots=True)
class Run:
    """One run of a claimed job, and what is known of it so far."""

    job: Job
    claim: Lease
    connection: Connection | None = None
    label: ConnectionLabel | None = None
    model: str | None = None
    billed: Usage = field(default_factory=Usage)
    """What the job's remembered steps have consumed; their usage records are written already."""
    lost: Usage = field(init=False)
    """What all runs have consumed whose answers could not be kept."""

    def __post_init__(self) -> None:
        self.lost = self.claim.lost

    def count(self, steps: Sequence[StepRecord]) -> None:
        """Counts what the job's stored steps have consumed."""
        self.billed = sum((step.usage for step in steps), Usage())

    def use(self, connection: Connection, *, model_needed: bool = True) -> None:
        """Goes on with this connection. Raises InvalidJob where no model follows from it but one is needed."""
        self.connection, self.label = connection, connection.label()
        self.model = connection.model_for(self.job.model, needed=model_needed)

    def in_time(self, wait_s: float = 0) -> bool:
        """Whether the job's deadline lies beyond `wait_s` seconds from now."""
        return wait_s < self.seconds_left()

    def seconds_left(self) -> float:
        """Seconds until the job's deadline; below zero when it has passed."""
        return (deadline_of(self.job, self.claim.submitted_at) - now()).total_seconds()

    def named(self) -> str:
        """The job, for a log line."""
        return f"customer={self.job.customer} job_id={self.job.id}"


def finished(run: Run, answer: Completed, at: datetime) -> Result:
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
        usage=total(answer.calls) + run.billed + run.lost,
        error=None if answer.error is None else error_body(answer.error),
        connection=run.label,
        attempts=claim.attempt,
        submitted_at=rfc3339(claim.submitted_at),
        started_at=rfc3339(claim.started_at),
        finished_at=rfc3339(at),
    )
