"""Messages of the poison queue: which job one belongs to, and whether that goes on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import msgspec

from shared.clock import now
from shared.contract.job import Job
from shared.errors import AlreadyRunning, RetryLater
from shared.jobs.base import JobServices
from shared.jobs.envelope import QueuedJob
from shared.jobs.executor import MAX_FAILED_ATTEMPTS
from shared.jobs.fingerprint import fingerprint
from shared.jobs.message import Delivery, clock_start, deadline_of
from shared.jobs.records import may_continue

_RESUME_S = 60.0


async def with_own_id(services: JobServices, job: QueuedJob, delivery: Delivery) -> QueuedJob:
    """Return a job without a `job_id` under the id that it had before the host gave its message another."""
    if job.id != delivery.message_id:
        return job
    try:
        own_id = await services.queries.find_unfinished(job.customer, fingerprint(job))
    except AlreadyRunning:
        if now() < deadline_of(job, delivery.submitted_at):
            raise
        return job
    return msgspec.structs.replace(job, job_id=own_id or job.id)


async def resume(
    services: JobServices,
    job: Job,
    delivery: Delivery,
    requeue: Callable[[Job, Delivery, str, RetryLater], Awaitable[None]],
) -> bool:
    """Requeue a job that may still run, up to MAX_FAILED_ATTEMPTS times. Return whether it was requeued."""
    digest = fingerprint(job)
    record = await services.queries.get_same(job.customer, job.id, digest)
    if record is None:  # no attempt could begin
        record = await services.ledger.submit(job, fingerprint=digest, submitted_at=delivery.submitted_at)
    submitted_at = clock_start(job, record.submitted_at, record.budget_wait_s)
    # Whatever its generation, it may be all that the job has: nothing else is known to be left.
    delivery = replace(delivery, submitted_at=submitted_at, generation=max(delivery.generation, record.generation))
    is_late = now() >= deadline_of(job, submitted_at)
    if is_late or record.failed_attempts >= MAX_FAILED_ATTEMPTS or not may_continue(record, now()):
        return False
    reason = RetryLater("The host moved the message to the poison queue before the job had ended.", _RESUME_S)
    await requeue(job, delivery, services.settings.jobs_queue, reason)
    with suppress(RetryLater):  # it may be running already
        await services.updates.add_failed_attempt(job.customer, job.id)
    return True
