"""The check of `doctor` of the schedule: whether what waits on purpose, jobs and batches, is woken when it is due."""

from __future__ import annotations

from datetime import timedelta

from aijobs.finding import Finding, run_check
from aijobs.job_view import duration
from shared.clock import now
from shared.jobs.schedule_entries import oldest_entry
from shared.services import Services

MAX_DELAY = timedelta(minutes=15)
"""The timer runs each minute. If there is much to wake, it takes some runs."""


async def check_schedule(services: Services) -> Finding:
    """Check that no entry of the schedule is long overdue."""
    overdue = timedelta()

    async def read() -> str:
        nonlocal overdue
        oldest = await oldest_entry(services.table)
        overdue = timedelta() if oldest is None else now() - oldest
        return "Jobs and batches that wait are woken when they are due."

    finding = await run_check("schedule", read)
    if finding.verdict != "ok" or overdue <= MAX_DELAY:
        return finding
    message = (
        f"A job or batch was to continue {duration(overdue.total_seconds())} ago, and was not woken: the function "
        "wake_jobs does not run, or fails. Nothing that waits continues until it does."
    )
    return Finding("schedule", "warning", message)
