"""How long one attempt may call: until it has to end itself, and until its job's deadline."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime

from shared.clock import now
from shared.contract.job import Job
from shared.errors import UpstreamError, UpstreamFacts, UpstreamRetryLater, UpstreamTimeout
from shared.jobs.message import clock_start, deadline_of

ATTEMPT_S = 540.0
"""Seconds that one attempt may spend upstream: well within host.json's `functionTimeout`."""
_CLOCK_RESOLUTION_S = 0.05
"""Timers may be early by a little."""
_RESUME_S = 1.0
_SAVE_FOR_S = 600.0
"""Seconds beyond its deadline for which a job's outcome is tried to be saved: it may have been paid for."""


@dataclass(slots=True)
class TimeBudget:
    """The time of one attempt of a job."""

    job: Job
    submitted_at: datetime
    waited_s: float = 0
    """Seconds for which its deadline did not run."""
    ends_at: float = field(init=False)
    """When the attempt has to end, on `time.monotonic()`'s clock."""
    upstream_s: float = 0
    """Seconds so far in which at least one call was under way, waits between its tries included."""
    _calls: int = 0
    _calling_since: float = 0
    _ends_at_deadline: bool = field(init=False)

    def __post_init__(self) -> None:
        if self.waited_s:
            self.submitted_at = clock_start(self.job, self.submitted_at, self.waited_s)
        left_s = self.seconds_left()
        self.ends_at, self._ends_at_deadline = time.monotonic() + min(ATTEMPT_S, left_s), left_s <= ATTEMPT_S

    def calling(self) -> AbstractContextManager[None]:
        """Count the time of a call, once if there are others at the same time."""
        return self

    def __enter__(self) -> None:
        if not self._calls:
            self._calling_since = time.perf_counter()
        self._calls += 1

    def __exit__(self, *_: object) -> None:
        self._calls -= 1
        if not self._calls:
            self.upstream_s += time.perf_counter() - self._calling_since

    def seconds_left(self) -> float:
        """Return the seconds until the job's deadline; below zero once it has passed."""
        return (deadline_of(self.job, self.submitted_at) - now()).total_seconds()

    def allows(self, wait_s: float = 0) -> bool:
        """Return whether the job's deadline is more than `wait_s` seconds away."""
        return wait_s < self.seconds_left()

    def allows_saving(self) -> bool:
        """Return whether the job's outcome may still be saved by a later attempt."""
        return self.seconds_left() > -_SAVE_FOR_S

    def timeout_s(self) -> float:
        """Return the seconds that a try which starts now may take."""
        return min(self.job.options.timeout_s, self.ends_at - time.monotonic())

    def explain(self, error: UpstreamError) -> UpstreamError:
        """
        Return the error of a try that has just failed, for what it means to the job.

        If the deadline ended the try, its message says so; if the flex tier has no room, it asks for a wait.
        """
        if self.job.options.processing == "flex":
            from shared.jobs.flex import explain_no_room  # noqa: PLC0415  # few jobs have it

            explained = explain_no_room(error, self.job.options, self.seconds_left())
            if explained is not error:
                return explained
        at_end = self._ends_at_deadline and time.monotonic() > self.ends_at - _CLOCK_RESOLUTION_S
        if not at_end or not isinstance(error, UpstreamTimeout):
            return error
        message = f"The job's deadline of {self.job.options.lasts_s:g} s passed during a call. {error}"
        return UpstreamTimeout(message, error.facts)

    def allows_try(self, wait_s: float = 0) -> bool:
        """
        Return whether another try may start after `wait_s` seconds.

        If the attempt ends before the job's deadline, a late try would be cut short and wasted, so it is left to the
        next attempt. The first call of an attempt can always be made.
        """
        job_continues = self.seconds_left() > self.ends_at - time.monotonic() + 1
        reserved_s = min(self.job.options.timeout_s, 0.9 * ATTEMPT_S) if job_continues else 0
        return time.monotonic() + wait_s < self.ends_at - reserved_s

    def check(self, retries: int) -> None:
        """Raise UpstreamRetryLater, with the retries used up, if no call may start any more."""
        if not self.allows_try():
            raise self.over(retries)

    def over(self, retries: int) -> UpstreamRetryLater:
        """Return what an attempt ends with whose time is up before its next call."""
        deadline_s = self.job.options.lasts_s
        at_deadline = f"The job's deadline of {deadline_s:g} s passed before its next call could start."
        message = at_deadline if self._ends_at_deadline else "The attempt's time was up."
        return UpstreamRetryLater(UpstreamTimeout(message, UpstreamFacts(transient=True)), _RESUME_S, retries)
