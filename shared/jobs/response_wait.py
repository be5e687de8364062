"""How a job waits for a response that its provider makes in the background."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from functools import partial

from shared.clock import now
from shared.errors import RetryLater
from shared.jobs.attempt import Attempt
from shared.jobs.base import BatchWait, JobServices
from shared.jobs.response_steps import Creation
from shared.jobs.windows import BUY_MARKS_S
from shared.storage.base import MAX_HIDDEN_S

MIN_WAIT_S, MAX_SHORT_WAIT_S = 2.0, 30.0
"""Between two looks in the first two minutes, for which the job's message is hidden in the queue."""
MAX_WAIT_S = 600.0
"""Afterwards, when the job waits in the schedule."""
CANCEL_BEFORE_S = 20.0
"""Before the job's deadline: then the response is looked at for the last time, and cancelled if it has not ended."""
ADOPT_POLL_S = 15.0
"""Between two looks at what events have named, for a creation without an answer."""
_JITTER = 0.05
_WAITS = "The response is being made at its provider."


class ResponseWait(BatchWait):
    """The job waits for its response. `wait` ends the attempt, and has the job continue later."""


def wait_for(services: JobServices, attempt: Attempt, creation: Creation, *, at_least_s: float = 0) -> ResponseWait:
    """Return the wait until the next look at a response."""
    delay_s = max(_delay_s(attempt, creation, services.settings.adopt_window_s), at_least_s)
    delay_s = min(delay_s, max(attempt.time.seconds_left() - margin_s(attempt, creation), 1.0))
    return ResponseWait(_WAITS, partial(_wait, services, attempt, RetryLater(_WAITS, delay_s)))


def margin_s(attempt: Attempt, creation: Creation) -> float:
    """Return how long before its job's deadline a response is to be cancelled, or that is tried again."""
    last_s, left_s = min(CANCEL_BEFORE_S, attempt.job.options.lasts_s / 10), attempt.time.seconds_left()
    marks_s = BUY_MARKS_S if is_replaceable(attempt, creation) else ()
    return next((mark_s for mark_s in marks_s if mark_s < left_s), last_s)


def is_replaceable(attempt: Attempt, creation: Creation) -> bool:
    """Return whether a response that comes too late is bought otherwise, in time."""
    return creation.processing != "standard" and attempt.job.options.processing == "cheapest"


def adopted_by(attempt: Attempt, creation: Creation, window_s: float) -> datetime:
    """Return until when an event may say which response a creation without an answer has come to."""
    left_s = attempt.time.seconds_left() + (now() - creation.at).total_seconds()
    return creation.at + timedelta(seconds=max(min(window_s, left_s / 2), 0))


def _delay_s(attempt: Attempt, creation: Creation, window_s: float) -> float:
    waited_s = (now() - creation.at).total_seconds()
    if not creation.response_id:
        left_s = (adopted_by(attempt, creation, window_s) - now()).total_seconds()
        return max(min(ADOPT_POLL_S, left_s), 1.0)
    if waited_s < MAX_HIDDEN_S:
        delay_s = min(max(waited_s, MIN_WAIT_S), MAX_SHORT_WAIT_S)
    else:
        delay_s = min(max(waited_s / 4, MAX_HIDDEN_S + MIN_WAIT_S), MAX_WAIT_S)
    return delay_s * random.uniform(1, 1 + _JITTER)  # noqa: S311  # not a secret


async def _wait(services: JobServices, attempt: Attempt, reason: RetryLater) -> None:
    """End the attempt, and send the message that continues its job. Raises LeaseLost, StorageUnavailable."""
    message = await services.outputs.next_message(attempt)
    if attempt.budgets is not None:
        attempt.budgets.keeps = True
    await attempt.release(reason)
    await services.schedule.send(attempt.job.customer, attempt.job.id, message, delay_s=reason.delay_s)
