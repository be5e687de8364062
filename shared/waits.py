"""How long to wait before a failed call is tried again, if at all. Pure, but for the jitter."""

from __future__ import annotations

import random

from shared.contract.job import Options
from shared.errors import UpstreamError

LONGEST_BACKOFF_S = 60.0
_SHORTEST_BACKOFF_S = 0.1


def next_wait(error: UpstreamError, retries: int, options: Options) -> float | None:
    """
    Seconds to wait before the next try of a call that failed with `error` after `retries` retries;
    None where it is not to be tried again. A server's own waiting time wins over any backoff.
    """
    worthwhile = error.facts.transient or (options.retry_on_all_errors and error.facts.status is not None)
    if not worthwhile or retries >= options.max_retries:
        return None
    if error.facts.retry_after_s is not None:
        return error.facts.retry_after_s
    delay = options.retry_delay_ms / 1000
    if not options.exponential_backoff:
        return delay
    # From above zero, or doubling would never leave it; the jitter keeps a fleet from knocking at once.
    longest = max(LONGEST_BACKOFF_S, delay)
    grown: float = min(longest, max(delay, _SHORTEST_BACKOFF_S) * 2**retries)
    return grown * random.uniform(0.75, 1.0)  # noqa: S311  # no secret hangs on it
