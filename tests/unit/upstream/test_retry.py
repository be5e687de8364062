"""Whether a failed try is retried, and after how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.contract.job import Options
from shared.errors import ProviderUnavailable, RateLimited, RequestRejected, UpstreamError, UpstreamFacts
from shared.upstream.retry import MAX_BACKOFF_S, MAX_DELAY_S, MAX_INLINE_WAIT_S, Retry, RetryState, counts_as_retry
from tests.support.rows import every_row

TEMPORARY = ProviderUnavailable("x", UpstreamFacts(status=503, transient=True))
PERMANENT = RequestRejected("x", UpstreamFacts(status=400))
UNSENT = ProviderUnavailable("x", UpstreamFacts())
LIMITED = RateLimited("x", UpstreamFacts(status=429, transient=True, retry_after_s=0.0))
MINUTE = MAX_BACKOFF_S


def decide(
    error: UpstreamError, used: int = 0, *, server_waits: int = 0, progress: bool = False, **options: object
) -> Retry | None:
    """The decision after `used` retries."""
    return RetryState(Options(**options), used, server_waits).decide(error, progress=progress)  # type: ignore[arg-type]


def wait_s(error: UpstreamError, used: int = 0, **more: object) -> float | None:
    """The seconds to wait after `used` retries; None if there is no retry."""
    decision = decide(error, used, **more)  # type: ignore[arg-type]
    return None if decision is None else decision.wait_s


def waits(used: int, **options: object) -> list[float]:
    """The waits of many calls after a temporary failure."""
    return [wait_s(TEMPORARY, used, **options) or 0 for _ in range(200)]


def test_temporary_failures_are_retried_as_often_as_the_job_says():
    """A temporary failure is retried `max_retries` times, each counted, and not once more."""
    state = RetryState(Options(max_retries=3))
    retried = [state.decide(TEMPORARY) is not None for _ in range(5)]

    assert ([True, True, True, False, False], 3) == (retried, state.used)
    assert retried == [decide(TEMPORARY, used, max_retries=3) is not None for used in range(5)]
    assert decide(TEMPORARY, max_retries=0) is None
    assert decide(LIMITED, max_retries=0) is None


@pytest.mark.parametrize(
    ("error", "by_default", "on_all_errors"),
    [(TEMPORARY, True, True), (PERMANENT, False, True), (UNSENT, False, False)],
    ids=["temporary", "permanent", "no response"],
)
def test_which_errors_are_retried(error: UpstreamError, by_default: bool, on_all_errors: bool):
    """Temporary failures are retried, refusals if the job says so, and never what can't be sent."""
    assert by_default == (decide(error) is not None)
    assert on_all_errors == (decide(error, retry_on_all_errors=True) is not None)


@every_row("seconds", [0.0, 0.25, 3600.0])
@every_row("exponential", [False, True])
def test_the_servers_wait_wins(seconds: float, exponential: bool):
    """The wait that the server names is exact, whatever the job's own delay."""
    error = ProviderUnavailable("x", UpstreamFacts(status=503, transient=True, retry_after_s=seconds))

    assert seconds == wait_s(error, 3, retry_delay_ms=2000, exponential_backoff=exponential)


@every_row(
    ("seconds", "inline", "wait"),
    [
        (0, True, 0),
        (MAX_INLINE_WAIT_S, True, MAX_INLINE_WAIT_S),
        (MAX_INLINE_WAIT_S + 0.1, False, MAX_INLINE_WAIT_S + 0.1),
        (30 * 86_400, False, MAX_DELAY_S),
    ],
)
def test_a_long_wait_is_not_waited_in_the_call(seconds: float, inline: bool, wait: float):
    """The call sits out a short wait; for a longer one the job is requeued, for a week at most."""
    assert Retry(wait, inline) == decide(RateLimited("x", replace(LIMITED.facts, retry_after_s=seconds)))


@every_row("used", [0, 1, 3])
@every_row(
    ("delay_ms", "inline"), [(0, True), (1, True), (1500, True), (10_000, True), (10_001, False), (300_000, False)]
)
def test_without_backoff_each_wait_is_the_same(delay_ms: int, inline: bool, used: int):
    """Without backoff the delay is what the job says, each time; a long one is not waited in the call either."""
    decision = decide(TEMPORARY, used, retry_delay_ms=delay_ms, exponential_backoff=False)

    assert Retry(delay_ms / 1000, inline) == decision


@every_row(
    ("seconds", "progress", "counts"),
    [
        (0, False, True),
        (5, False, True),
        (5, True, False),
        (MAX_INLINE_WAIT_S + 1, False, False),
        (MAX_INLINE_WAIT_S + 1, True, False),
    ],
)
def test_a_wait_that_the_server_names_may_be_no_retry(seconds: float, progress: bool, counts: bool):
    """
    Calls that share a deployment's limit wait for their turn, whatever retries are left, while others are answered; for
    a long wait the job is requeued until its deadline. About an endpoint that fails, answers to others say nothing.
    """
    error = RateLimited("x", replace(LIMITED.facts, retry_after_s=seconds))

    assert counts == counts_as_retry(error, progress=progress)
    assert (None if counts else seconds) == wait_s(error, 4, max_retries=4, progress=progress)
    assert counts_as_retry(ProviderUnavailable("x", replace(LIMITED.facts, status=503)), progress=progress)


@every_row(("server_waits", "limit"), [(1, 0.2), (3, 0.8), (7, 12.8), (60, MINUTE)])
def test_a_server_that_names_no_time_is_not_hammered(server_waits: int, limit: float):
    """From the second wait that it names on, each is as long as a backoff, or as named if that is longer."""
    seconds = [wait_s(LIMITED, server_waits=server_waits) or 0 for _ in range(200)]
    longer = RateLimited("x", replace(LIMITED.facts, retry_after_s=2 * limit))

    assert 0.75 * limit <= min(seconds) < max(seconds) <= limit
    assert 2 * limit == wait_s(longer, server_waits=server_waits)


def test_the_wait_of_a_permanent_refusal_is_the_jobs():
    """If only the job wants another try, waiting does not help: the backoff is the job's, and a retry is used up."""
    error = RequestRejected("x", UpstreamFacts(status=404, retry_after_s=3600))
    options = {"retry_on_all_errors": True, "exponential_backoff": False}

    assert (1.0, None) == (wait_s(error, 3, **options), wait_s(error, 4, **options))


@every_row(
    ("delay_ms", "used", "limit"),
    [
        (1000, 0, 1),
        (1000, 1, 2),
        (1000, 3, 8),
        (1000, 6, MINUTE),
        (1000, 19, MINUTE),
        (0, 0, 0.1),
        (0, 4, 1.6),
        (60_000, 2, 60),
        (300_000, 0, 300),
        (300_000, 3, 300),
    ],
)
def test_backoff_doubles_with_jitter_up_to_a_limit(delay_ms: int, used: int, limit: float):
    """Each wait is up to twice the one before, never above a minute or the job's own longer delay."""
    seconds = waits(used, retry_delay_ms=delay_ms, max_retries=20)

    assert 0.75 * limit <= min(seconds) <= max(seconds) <= limit
    assert len(set(seconds)) > 1
