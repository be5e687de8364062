"""How long to wait before the next try, and when there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.contract.job import Options
from shared.errors import ProviderUnavailable, RateLimited, RequestRejected, UpstreamFacts
from shared.upstream.retry import LONGEST_BACKOFF_S, SIT_OUT_S, is_retry, next_wait

PASSING = ProviderUnavailable("x", UpstreamFacts(status=503, transient=True))
FOR_GOOD = RequestRejected("x", UpstreamFacts(status=400))
UNSENT = ProviderUnavailable("x", UpstreamFacts())


def waits(options: Options, retries: int) -> list[float]:
    return [next_wait(PASSING, retries, options) or 0 for _ in range(200)]


def test_passing_failures_are_tried_again_as_often_as_asked():
    """A failure that may pass is tried again `max_retries` times, and not once more."""
    told = [next_wait(PASSING, retries, Options(max_retries=3)) is not None for retries in range(5)]

    assert [True, True, True, False, False] == told


def test_none_is_tried_again_where_none_was_asked_for():
    """With no retries allowed the first failure is the last."""
    assert next_wait(PASSING, 0, Options(max_retries=0)) is None


@pytest.mark.parametrize(
    ("error", "usually", "on_all_errors"),
    [(PASSING, True, True), (FOR_GOOD, False, True), (UNSENT, False, False)],
    ids=["passing", "refused", "no answer, for good"],
)
def test_what_is_worth_a_retry(error: ProviderUnavailable, usually: bool, on_all_errors: bool):
    """Passing failures are tried again, refusals where asked for, what can't be sent never."""
    assert usually == (next_wait(error, 0, Options()) is not None)
    assert on_all_errors == (next_wait(error, 0, Options(retry_on_all_errors=True)) is not None)


@pytest.mark.parametrize("asked", [0.0, 0.25, 3600.0])
@pytest.mark.parametrize("exponential", [False, True])
def test_servers_own_time_wins(asked: float, exponential: bool):
    """What the server asks for is waited, exactly, whatever the job's own delay."""
    error = ProviderUnavailable("x", UpstreamFacts(status=503, transient=True, retry_after_s=asked))

    assert asked == next_wait(error, 3, Options(retry_delay_ms=2000, exponential_backoff=exponential))


TOLD = RateLimited("x", UpstreamFacts(status=429, transient=True, retry_after_s=0.0))


@pytest.mark.parametrize(("asked_s", "moves_on", "counts"), [(0, False, True), (5, False, True), (5, True, False)])
def test_a_short_wait_is_no_retry_while_other_calls_are_answered(asked_s: float, moves_on: bool, counts: bool):
    """Calls that share what a deployment takes wait for their turn, whatever retries are left."""
    error = RateLimited("x", replace(TOLD.facts, retry_after_s=asked_s))

    assert counts == is_retry(error, moves_on=moves_on)
    assert (None if counts else asked_s) == next_wait(error, 4, Options(max_retries=4), moves_on=moves_on)


def test_a_wait_of_what_is_down_is_a_retry():
    """That other calls are answered says nothing of one that fails."""
    error = ProviderUnavailable("x", replace(TOLD.facts, status=503))

    assert is_retry(error, moves_on=True)


@pytest.mark.parametrize("moves_on", [False, True])
def test_a_long_wait_that_the_server_names_is_no_retry(moves_on: bool):
    """The job is put back for it until its deadline; only where it wants no retries at all is there no second try."""
    error = RateLimited("x", replace(TOLD.facts, retry_after_s=SIT_OUT_S + 1))

    assert not is_retry(error, moves_on=moves_on)
    assert SIT_OUT_S + 1 == next_wait(error, 4, Options(max_retries=4), moves_on=moves_on)
    assert next_wait(error, 0, Options(max_retries=0), moves_on=moves_on) is None


@pytest.mark.parametrize(("waits", "most"), [(1, 0.2), (3, 0.8), (7, 12.8), (60, LONGEST_BACKOFF_S)])
def test_a_server_is_not_hammered_for_naming_no_time(waits: int, most: float):
    """From the second wait that it names on, each is as long as a backoff would be, or as it says if that is longer."""
    told = [next_wait(TOLD, 0, Options(), waits=waits) or 0 for _ in range(200)]
    longer = replace(TOLD.facts, retry_after_s=2 * most)

    assert 0.75 * most <= min(told) < max(told) <= most
    assert 2 * most == next_wait(RateLimited("x", longer), 0, Options(), waits=waits)


def test_the_time_that_comes_with_a_refusal_for_good_is_not_the_servers():
    """Where only the job wants another try, waiting is no help: the backoff is the job's, and a retry is used up."""
    refused = RequestRejected("x", UpstreamFacts(status=404, retry_after_s=3600))
    options = Options(retry_on_all_errors=True, exponential_backoff=False)

    assert (1.0, None) == (next_wait(refused, 3, options), next_wait(refused, 4, options))


@pytest.mark.parametrize("retries", [0, 1, 3])
@pytest.mark.parametrize("delay_ms", [0, 1, 1500, 300_000])
def test_without_backoff_each_wait_is_the_same(delay_ms: int, retries: int):
    """Without backoff the delay is what the job says, each time."""
    assert delay_ms / 1000 == next_wait(PASSING, retries, Options(retry_delay_ms=delay_ms, exponential_backoff=False))


@pytest.mark.parametrize(
    ("delay_ms", "retries", "most"),
    [
        (1000, 0, 1),
        (1000, 1, 2),
        (1000, 3, 8),
        (1000, 6, LONGEST_BACKOFF_S),
        (1000, 19, LONGEST_BACKOFF_S),
        (0, 0, 0.1),
        (0, 4, 1.6),
        (60_000, 2, 60),
        (300_000, 0, 300),
        (300_000, 3, 300),
    ],
)
def test_backoff_doubles_with_jitter_up_to_a_bound(delay_ms: int, retries: int, most: float):
    """Each wait is up to twice the one before, never above a minute or the job's own longer delay."""
    told = waits(Options(retry_delay_ms=delay_ms, max_retries=20), retries)

    assert 0.75 * most <= min(told) <= max(told) <= most
    assert len(set(told)) > 1
