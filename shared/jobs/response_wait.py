"""
How a job waits for a response that its provider makes in the background: without a message, which would be one too many
for the host (docs/scale.md). The poll of its connection looks at the response, and wakes the job.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

from shared.clock import now
from shared.errors import RetryLater
from shared.jobs.attempt import Attempt
from shared.jobs.base import BatchWait, JobServices
from shared.jobs.polls import Polls
from shared.jobs.response_rows import ResponseRows
from shared.jobs.response_steps import Creation, is_new
from shared.jobs.waiting_rows import look_row, look_time, response_row
from shared.jobs.windows import BUY_MARKS_S
from shared.storage.base import Row
from shared.storage.bulk import missing

CANCEL_BEFORE_S = 20.0
"""Before the job's deadline: then the response is looked at for the last time, and cancelled if it has not ended."""
MIN_BACKUP_S, MAX_BACKUP_S = 600.0, 1800.0
"""After which the job looks itself, should the poll not have woken it: when it has waited for half as long again."""
_WAITS = "The response is being made at its provider."


class ResponseWait(BatchWait):
    """The job waits for its response. `wait` ends the attempt, and has the job continue later."""


def wait_for(services: JobServices, attempt: Attempt, creation: Creation, *, at_least_s: float = 0) -> ResponseWait:
    """Return the wait for a response. It is looked at in `at_least_s`, or later."""
    return ResponseWait(_WAITS, partial(_wait, services, attempt, creation, at_least_s))


def margin_s(attempt: Attempt, creation: Creation) -> float:
    """Return how long before its job's deadline a response is to be cancelled, or that is tried again."""
    last_s, left_s = min(CANCEL_BEFORE_S, attempt.job.options.lasts_s / 10), attempt.time.seconds_left()
    marks_s = BUY_MARKS_S if is_replaceable(attempt, creation) else ()
    return next((mark_s for mark_s in marks_s if mark_s < left_s), last_s)


def is_replaceable(attempt: Attempt, creation: Creation) -> bool:
    """Return whether a response that comes too late is bought otherwise, in time."""
    return creation.processing != "standard" and attempt.job.options.processing == "cheapest"


def adopted_by(attempt: Attempt, creation: Creation, window_s: float) -> datetime:
    """
    Return until when an event may say which response a creation without an answer has come to.

    The window begins when the answer should have come: the response may have been created as late. None (0 s) is for
    those whose providers send no events.
    """
    left_s = attempt.time.seconds_left() + (now() - creation.at).total_seconds()
    waits_s = attempt.job.options.timeout_s + window_s if window_s else 0
    return creation.at + timedelta(seconds=max(min(waits_s, left_s / 2), 0))


async def _wait(services: JobServices, attempt: Attempt, creation: Creation, at_least_s: float) -> None:
    """End the attempt; the job's row keeps the message that continues it. Raises LeaseLost, StorageUnavailable."""
    message = await services.outputs.next_message(attempt)
    if attempt.budgets is not None:
        attempt.budgets.keeps = True
    await attempt.release(RetryLater("", 0))  # no reason: nothing is wrong
    job, schedule, at = attempt.job, services.schedule, now()
    wake_at = at + timedelta(seconds=max(attempt.time.seconds_left() - margin_s(attempt, creation), 1))
    if not creation.response_id:
        wake_at = min(max(adopted_by(attempt, creation, services.settings.adopt_window_s), at), wake_at)
    waited_s = (at - creation.at).total_seconds()
    backup_at = at + timedelta(seconds=min(max(waited_s / 2, MIN_BACKUP_S), MAX_BACKUP_S))
    own = job.customer, creation.label.name
    values = {
        "job_id": job.id,
        "at": creation.at,
        "response": creation.response_id,
        "account": creation.account,
        "model": creation.model,
        "wake_at": wake_at,
    }
    look = look_row(*own, creation.name, values, at, at + timedelta(seconds=at_least_s))
    rows: Sequence[Row] = [look, *([response_row(*own, creation.name, values)] if creation.response_id else [])]
    is_first = creation.response_id and is_new(attempt, creation)
    if not is_first:
        rows = await missing(schedule.table, rows)
    # They are in the transaction with which the job waits, so that none comes back after an erasure.
    if not await schedule.add(job.customer, job.id, min(backup_at, wake_at), message, beside=rows):
        return
    if is_first:
        await ResponseRows(schedule.table).answered(*own, creation.name)
    await Polls(schedule).join(*own, look_time(look), look.key)
