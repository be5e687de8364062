"""How long to wait before a failed call is tried again, if at all. Pure, but for the jitter."""

from __future__ import annotations

import random

from shared.contract.job import Options
from shared.errors import RateLimited, UpstreamError

LONGEST_BACKOFF_S = 60.0
SIT_OUT_S = 5.0
"""The longest wait that a server asks for and that is sat out in the call; for a longer one the job is put back."""
_SHORTEST_BACKOFF_S = 0.1


def next_wait(
    error: UpstreamError, retries: int, options: Options, *, waits: int = 0, moves_on: bool = False
) -> float | None:
    """
    Seconds to wait before the next try of a call that failed with `error` after `retries` retries;
    None where it is not to be tried again. `moves_on`: see `is_retry`.

    A server's own waiting time wins over any backoff; but the call's next such wait (it has had `waits` of them)
    is longer than what a server may name by habit, such as 0.
    """
    worthwhile = error.facts.transient or (options.retry_on_all_errors and error.facts.status is not None)
    if not worthwhile or options.max_retries == 0:
        return None
    if retries >= options.max_retries and is_retry(error, moves_on=moves_on):
        return None
    told = told_wait(error)
    if told is not None:
        return max(told, _grown(_SHORTEST_BACKOFF_S, waits) if waits else 0.0)
    delay = options.retry_delay_ms / 1000
    # From above zero, or doubling would never leave it.
    return _grown(max(delay, _SHORTEST_BACKOFF_S), retries) if options.exponential_backoff else delay


def is_retry(error: UpstreamError, *, moves_on: bool) -> bool:
    """
    Whether the next try of a call that failed with `error` is one of the job's retries.

    A long wait that the server names is none: the job's deadline ends it. Nor is a short one of a rate limit while
    the server answers other such calls (`moves_on`): they share what it takes, and the call's turn will come.
    """
    told = told_wait(error)
    return told is None or (told <= SIT_OUT_S and not (moves_on and isinstance(error, RateLimited)))


def told_wait(error: UpstreamError) -> float | None:
    """The server's own waiting time, in seconds, where waiting may help: not of what it has refused for good."""
    return error.facts.retry_after_s if error.facts.transient else None


def _grown(delay: float, times: int) -> float:
    longest = max(LONGEST_BACKOFF_S, delay)
    grown: float = min(longest, delay * 2**times)
    return grown * random.uniform(0.75, 1.0)  # noqa: S311  # no secret hangs on it; keeps a fleet from knocking at once
