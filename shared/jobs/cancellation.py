"""Cancels a job that has not started, from wherever that is requested."""

from __future__ import annotations

from shared.jobs.job_updates import JobUpdates
from shared.jobs.records import State
from shared.jobs.schedule import Schedule


async def cancel_job(updates: JobUpdates, schedule: Schedule, customer: str, job_id: str) -> State | None:
    """As `JobUpdates.cancel`. A job that waits in the schedule ends now. Raises StorageUnavailable."""
    state = await updates.cancel(customer, job_id)
    if state == "cancelled":
        await schedule.wake(customer, job_id)
    return state
