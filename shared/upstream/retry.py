"""Whether a failed try of a call is retried, and after how long. Pure, except for the jitter."""

from __future__ import annotations

import random
from dataclasses import dataclass

from shared.contract.job import Options
from shared.errors import RateLimited, UpstreamError

MAX_BACKOFF_S = 60.0
MAX_INLINE_WAIT_S = 5.0
"""The longest wait named by a server that the call itself waits for; for a longer one the job is requeued."""
MAX_INLINE_BACKOFF_S = 10.0
"""The same for a backoff: the usual retries of a job stay in one attempt."""
MAX_DELAY_S = 7 * 24 * 3600.0
"""As long as the longest deadline: an endpoint that asks for more gets this."""
_MIN_BACKOFF_S = 0.1


@dataclass(frozen=True, slots=True)
class Retry:
    """The decision to retry."""

    wait_s: float
    inline: bool
    """The call waits. False: the wait is too long, and the job is requeued."""


@dataclass(slots=True)
class RetryState:
    """How often one call was tried, under its job's options."""

    options: Options
    used: int = 0
    """Retries used up, over all attempts of the job."""
    server_waits: int = 0
    """Waits of this call that the server named."""

    def decide(self, error: UpstreamError, *, progress: bool = False) -> Retry | None:
        """
        Return how to retry after a try failed with `error`, and count that retry; None: the call has failed.

        A wait that the server names wins over any backoff, but its second such wait is longer than what a server may
        name by habit, such as 0. `progress`: other calls like this one were answered meanwhile; see `counts_as_retry`.
        """
        options = self.options
        worthwhile = error.facts.transient or (options.retry_on_all_errors and error.facts.status is not None)
        counts = counts_as_retry(error, progress=progress)
        if not worthwhile or options.max_retries == 0 or (counts and self.used >= options.max_retries):
            return None
        named_s = server_wait(error)
        wait_s = self._backoff() if named_s is None else max(named_s, self._minimum())
        self.used += counts
        self.server_waits += named_s is not None
        inline = wait_s <= MAX_INLINE_BACKOFF_S and (named_s or 0) <= MAX_INLINE_WAIT_S
        return Retry(min(wait_s, MAX_DELAY_S), inline)

    def _minimum(self) -> float:
        return _exponential(_MIN_BACKOFF_S, self.server_waits) if self.server_waits else 0.0

    def _backoff(self) -> float:
        delay_s = self.options.retry_delay_ms / 1000
        if not self.options.exponential_backoff:
            return delay_s
        return _exponential(max(delay_s, _MIN_BACKOFF_S), self.used)  # from zero, doubling would never grow


def counts_as_retry(error: UpstreamError, *, progress: bool) -> bool:
    """
    Return whether the next try after `error` uses up one of the job's retries.

    A long wait that the server names doesn't: the job's deadline ends it. Nor does a short wait for a rate limit
    while the server answers other such calls (`progress`): they share the limit, and this call's turn will come.
    """
    wait_s = server_wait(error)
    return wait_s is None or (wait_s <= MAX_INLINE_WAIT_S and not (progress and isinstance(error, RateLimited)))


def server_wait(error: UpstreamError) -> float | None:
    """Return the seconds that the server asks to wait, if waiting may help: not after a permanent refusal."""
    return error.facts.retry_after_s if error.facts.transient else None


def _exponential(delay_s: float, times: int) -> float:
    longest = max(MAX_BACKOFF_S, delay_s)
    backoff: float = min(longest, delay_s * 2**times)
    return backoff * random.uniform(0.75, 1.0)  # noqa: S311  # not a secret; so that workers don't retry in step
