"""`cancel` cancels jobs that have not started."""

from __future__ import annotations

import argparse
from collections import Counter

from aijobs.confirmation import is_confirmed
from aijobs.console import plural, warn
from aijobs.report import Report
from aijobs.selection import JobKey, describe_selection, read_selection, select_jobs, warn_not_found
from aijobs.settings import open_services
from shared.jobs.cancellation import cancel_job
from shared.jobs.status import document_of
from shared.services import Services
from shared.storage.bulk import gather_limited

_NOT_STARTED = ("queued", "waiting")


async def cancel(args: argparse.Namespace) -> Report:
    """Run `cancel`. The exit code is 1 if it was not confirmed, or if a selected job runs or does not exist."""
    async with open_services(args.settings) as services:
        states: Counter[str] = Counter()
        pending: list[JobKey] = []
        async for key, record in read_selection(services, args, select_jobs(args, services)):
            status = "not_found" if record is None else document_of(record).status
            if status not in _NOT_STARTED:
                states[status] += 1
            elif record is not None and record.marker:
                states["closes_month"] += 1
            else:
                pending.append(key)
        if pending:
            consequence = f"This cancels {plural(len(pending), 'job')}. It can't be undone."
            if not is_confirmed(args, services.settings, consequence, *describe_selection(args)):
                return Report({"cancelled": 0, "other": states}, ["Nothing was cancelled."], 1)
        cancelled = await _cancel_all(services, pending, states)
    if states["running"]:
        warn(f"Running, too late to cancel: {plural(states['running'], 'job')}.")
    if states["closes_month"]:
        warn(f"Not cancelled, because it closes a month: {plural(states['closes_month'], 'job')}.")
    warn_not_found(states["not_found"])
    ended = sum(count for status, count in states.items() if status not in {"running", "not_found", "closes_month"})
    suffix = f" {plural(ended, 'job')} had ended before." if ended else ""
    text = f"Cancelled {plural(cancelled, 'job')}.{suffix}"
    return Report(
        {"cancelled": cancelled, "other": states}, [text], 1 if states["running"] + states["not_found"] else 0
    )


async def _cancel_all(services: Services, pending: list[JobKey], states: Counter[str]) -> int:
    """Cancel the jobs, and return how many. The states of those that have started meanwhile are counted."""
    updates, schedule = services.updates, services.schedule
    after = await gather_limited(cancel_job(updates, schedule, key.customer, key.job_id) for key in pending)
    others = [state for state in after if state != "cancelled"]
    states.update("not_found" if state is None else "running" if state == "running" else "ended" for state in others)
    return len(after) - len(others)
