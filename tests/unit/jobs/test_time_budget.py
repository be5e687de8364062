"""How long one attempt may call, by clocks that the test moves together."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from shared.contract.job import Job, Options
from shared.errors import RateLimited, UpstreamFacts, UpstreamRetryLater, UpstreamTimeout
from shared.jobs import time_budget
from shared.jobs.time_budget import ATTEMPT_S, TimeBudget
from tests.support.manual_clock import ManualClock

SUBMITTED = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)

Budget = Callable[..., TimeBudget]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The time of both clocks; it starts at the submission."""
    clock = ManualClock()
    monkeypatch.setattr(time_budget, "time", SimpleNamespace(monotonic=clock, perf_counter=clock))
    monkeypatch.setattr(time_budget, "now", lambda: SUBMITTED + timedelta(seconds=clock.seconds - 1000))
    return clock


def budget(deadline_s: float, timeout_s: float = 120) -> TimeBudget:
    """The time of an attempt that starts now."""
    options = Options(deadline_s=deadline_s, timeout_s=timeout_s)
    return TimeBudget(Job(customer="acme", action="chat", options=options), SUBMITTED)


def test_a_deadline_is_so_many_seconds_away(clock: ManualClock):
    """It counts from the submission, and is passed when no second is left."""
    time = budget(100)
    clock.advance(40)

    assert 60 == time.seconds_left()
    assert [True, True, False, False] == [time.allows(wait_s) for wait_s in (0, 59.9, 60, 61)]
    clock.advance(60)
    assert not time.allows()
    clock.advance(1)
    assert -1 == time.seconds_left()


@pytest.mark.parametrize(
    ("deadline_s", "passed_s", "expected_s"),
    [(86_400, 0, 120), (86_400, 500, 40), (86_400, 539, 1), (100, 0, 100), (100, 99, 1)],
)
def test_a_try_ends_with_the_attempt_or_the_deadline(
    clock: ManualClock, deadline_s: float, passed_s: float, expected_s: float
):
    """It may take `timeout_s`, or what is left of the attempt, which ends after ATTEMPT_S or at the deadline."""
    time = budget(deadline_s)
    clock.advance(passed_s)

    assert expected_s == time.timeout_s()


@pytest.mark.parametrize(
    ("deadline_s", "passed_s", "says_so"),
    [(100, 100, True), (100, 99.96, True), (100, 99, False), (500, 500, True), (86_400, 540, False)],
)
def test_a_try_that_the_deadline_cuts_says_so(clock: ManualClock, deadline_s: float, passed_s: float, says_so: bool):
    """A timeout at the deadline says so, with the same facts; one before it, or at an attempt's end, does not."""
    time = budget(deadline_s)
    clock.advance(passed_s)
    timeout = UpstreamTimeout("The host did not answer.", UpstreamFacts(transient=True, unanswered=True))
    refusal = RateLimited("Too many.")

    explained = time.explain(timeout)

    words = f"The job's deadline of {deadline_s} s passed during a call. " if says_so else ""
    assert (f"{words}The host did not answer.", timeout.facts) == (str(explained), explained.facts)
    assert refusal is time.explain(refusal)


@pytest.mark.parametrize(
    ("deadline_s", "passed_s", "message"),
    [
        (100, 100, "The job's deadline of 100 s passed before its next call could start."),
        (86_400, 500, "The attempt's time was up."),
    ],
)
def test_a_call_that_can_not_start_says_why(clock: ManualClock, deadline_s: float, passed_s: float, message: str):
    """It was the job's deadline, or the end of an attempt that another one follows."""
    time = budget(deadline_s)
    clock.advance(passed_s)

    with pytest.raises(UpstreamRetryLater) as raised:
        time.check(2)

    assert (message, 2) == (str(raised.value.reason), raised.value.retries)


@pytest.mark.parametrize(
    ("timeout_s", "passed_s", "wait_s", "allowed"),
    [
        *((120, 419.9, 0, True), (120, 420, 0, False)),
        *((120, 0, 419.9, True), (120, 0, 420, False)),
        *((120, 400, 19.9, True), (120, 400, 20, False)),
        *((480, 50, 0, True), (480, 60, 0, False)),
    ],
)
def test_a_late_try_is_left_to_the_next_attempt(
    clock: ManualClock, timeout_s: float, passed_s: float, wait_s: float, allowed: bool
):
    """
    If the job goes on after the attempt, no try starts that the end of the attempt would cut short. A timeout that is
    as long as an attempt leaves a tenth of the attempt for its first try.
    """
    time = budget(86_400, timeout_s)
    clock.advance(passed_s)

    assert allowed is time.allows_try(wait_s)


@pytest.mark.parametrize("deadline_s", [100, ATTEMPT_S, ATTEMPT_S + 0.9])
def test_the_last_attempt_uses_all_of_its_time(clock: ManualClock, deadline_s: float):
    """If the deadline is the attempt's end, or less than a second later, a try may start until then."""
    time = budget(deadline_s)
    clock.advance(min(deadline_s, ATTEMPT_S) - 0.1)

    assert time.allows_try()
    clock.advance(0.1)
    assert not time.allows_try()


def test_a_call_that_is_not_allowed_requeues_the_job(clock: ManualClock):
    """UpstreamRetryLater has a transient timeout as its reason, and uses up no retry."""
    time = budget(86_400)
    time.check(3)
    clock.advance(ATTEMPT_S)

    with pytest.raises(UpstreamRetryLater) as raised:
        time.check(3)

    assert (1, 3) == (raised.value.delay_s, raised.value.retries)
    assert isinstance(raised.value.reason, UpstreamTimeout)
    assert raised.value.reason.facts.transient
    assert not raised.value.reason.facts.unanswered


def test_calls_at_the_same_time_count_once(clock: ManualClock):
    """As long as any is under way; between calls, and after one that fails, the time is not theirs."""
    time = budget(100)

    first, second = time.calling(), time.calling()
    clock.advance(1)
    first.__enter__()
    clock.advance(2)
    second.__enter__()
    clock.advance(3)
    first.__exit__(None, None, None)
    clock.advance(4)
    second.__exit__(None, None, None)
    clock.advance(5)
    assert 9 == time.upstream_s
    with pytest.raises(KeyError), time.calling():  # noqa: PT012  # the clock moves within
        clock.advance(6)
        raise KeyError
    clock.advance(7)

    assert 15 == time.upstream_s
