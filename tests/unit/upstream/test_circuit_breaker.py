"""A connection's circuit breaker, with a clock that the test moves."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass

import pytest

from shared.errors import (
    ContentFiltered,
    CredentialRejected,
    NetworkRefused,
    PermissionRefused,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    UpstreamError,
    UpstreamFacts,
    UpstreamRetryLater,
    UpstreamTimeout,
)
from shared.upstream import circuit_breaker as module
from shared.upstream.circuit_breaker import (
    FAILURES,
    MAX_OPEN_S,
    OPEN_S,
    PROBE_S,
    REFUSALS,
    REFUSED_S,
    Breaker,
    Breakers,
)
from tests.support.manual_clock import ManualClock
from tests.support.rows import every_row

DOWN = ProviderUnavailable("It is down.", UpstreamFacts(status=503, transient=True))
SLOW = UpstreamTimeout("It is slow.", UpstreamFacts(transient=True))
REFUSED = CredentialRejected("The key is refused.", UpstreamFacts(status=401))
RESPONSES = {
    "400": RequestRejected("No.", UpstreamFacts(status=400)),
    "429": RateLimited("Slower.", UpstreamFacts(status=429, transient=True)),
    "filtered": ContentFiltered("No.", UpstreamFacts(status=400)),
    "permission, 403": PermissionRefused("No permission.", UpstreamFacts(status=403)),
    "permission, 401": PermissionRefused("Missing scopes.", UpstreamFacts(status=401)),
    "network": NetworkRefused("Not from here.", UpstreamFacts(status=401)),
    "500 for good": ProviderUnavailable("No.", UpstreamFacts(status=500)),
}


OPENS = {
    ProviderUnavailable: (FAILURES, OPEN_S, "provider_unavailable", "The endpoint failed"),
    UpstreamTimeout: (FAILURES, OPEN_S, "provider_unavailable", "The endpoint failed"),
    CredentialRejected: (REFUSALS, REFUSED_S, "credential_rejected", "The endpoint refused this connection's key"),
}
"""How often each happens before the breaker opens, for how long, and with what code and words."""


@dataclass
class Case:
    """A breaker and its clock."""

    clock: ManualClock
    breaker: Breaker

    def attempt(self, outcome: UpstreamError | None = None, *, retries: int = 0, max_retries: int = 4) -> None:
        """Make a try with that outcome."""
        with self.breaker.attempt(retries, max_retries):
            if outcome is not None:
                raise outcome

    def fail(self, outcome: UpstreamError = DOWN, times: int = FAILURES) -> None:
        """Make that many tries that fail."""
        for _ in range(times):
            with pytest.raises(type(outcome)):
                self.attempt(outcome)

    def prevents_a_try(self, *, retries: int = 0) -> UpstreamRetryLater:
        """Check that no try is made; return the error that says when to retry."""
        with pytest.raises(UpstreamRetryLater) as raised, self.breaker.attempt(retries, 4):
            pytest.fail("The call was made.")
        return raised.value

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.clock.seconds += seconds


@pytest.fixture
def case() -> Case:
    """The new breaker of a connection."""
    clock = ManualClock()
    return Case(clock, Breakers(clock=clock).of("acme", "default", "v1"))


@pytest.mark.parametrize("outcome", [DOWN, SLOW, REFUSED], ids=["down", "slow", "refused"])
def test_it_opens_after_failed_tries_in_a_row(case: Case, outcome: UpstreamError):
    """
    After FAILURES failed tries in a row, or REFUSALS refused keys, it is open; one fewer does nothing. A job waits,
    even one without retries once; if it has no retry left, the reason itself is raised.
    """
    times, seconds, code, message = OPENS[type(outcome)]
    case.fail(outcome, times - 1)
    assert "closed" == case.breaker.state

    case.fail(outcome, 1)

    error = case.prevents_a_try(retries=2)
    assert "open" == case.breaker.state
    assert (seconds, 3) == (error.delay_s, error.retries)
    assert f"{message} {times} times in a row, so it is not called for {seconds:.0f} s." in str(error)
    with pytest.raises(UpstreamRetryLater):
        case.attempt(retries=0, max_retries=0)
    with pytest.raises(UpstreamError) as raised:
        case.attempt(retries=4)
    for reason in (error.reason, raised.value):
        assert (code, {"breaker": "open"}) == (reason.code, reason.facts.detail)
        assert reason.facts.status is None


def test_what_was_never_sent_does_not_count(case: Case):
    """A call that the app had no connection for says nothing about the endpoint, however often that happens."""
    case.fail(DOWN, FAILURES - 1)

    case.fail(UpstreamTimeout("No connection was free.", UpstreamFacts(transient=True, unsent=True)), 2 * FAILURES)
    assert "closed" == case.breaker.state

    case.fail(DOWN, 1)
    assert "open" == case.breaker.state


@every_row("outcome", [*RESPONSES.values(), None], ids=[*RESPONSES, "success"])
def test_any_response_resets_it(case: Case, outcome: UpstreamError | None):
    """
    Any response, also 4xx or 429, resets the count; any number of them does not open it. A missing permission concerns
    one operation or model: jobs that the key has permission for continue.
    """
    for _ in range(3):
        case.fail(times=FAILURES - 1)
        for _ in range(2 * FAILURES):
            with suppress(UpstreamError):
                case.attempt(outcome)

    assert "closed" == case.breaker.state


def test_it_is_open_for_longer_each_time(case: Case):
    """Each failed probe doubles the time, up to five minutes; a success resets it."""
    case.fail()
    waits = []
    for _ in range(8):
        waits.append(case.prevents_a_try().delay_s)
        case.advance(waits[-1])
        assert "half_open" == case.breaker.state
        case.fail(times=1)

    assert [10, 20, 40, 80, 160, 300, 300, 300] == waits
    case.advance(MAX_OPEN_S)
    case.attempt()
    assert "closed" == case.breaker.state
    case.fail()
    assert OPEN_S == case.prevents_a_try().delay_s


def test_it_keeps_working_however_long_the_endpoint_is_down(case: Case):
    """After days of failed probes it is still open for five minutes each time."""
    for _ in range(1100):
        case.fail(REFUSED, REFUSALS if case.breaker.open_until is None else 1)
        case.advance(REFUSED_S)
    case.fail(DOWN, 1)

    case.advance(MAX_OPEN_S)
    assert "half_open" == case.breaker.state


@pytest.mark.parametrize("outcome", [DOWN, REFUSED], ids=["down", "refused"])
def test_one_call_probes(case: Case, outcome: UpstreamError):
    """
    When its time is over, one call probes the endpoint, or its key. A job that waits for its outcome made no try, so it
    keeps its retries.
    """
    times, seconds, *_ = OPENS[type(outcome)]
    case.fail(outcome, times)
    case.advance(seconds)
    with case.breaker.attempt(0, 4):
        error = case.prevents_a_try()
        assert (PROBE_S, {"breaker": "half_open"}) == (error.delay_s, error.reason.facts.detail)
        assert [4] * 10 == [case.prevents_a_try(retries=4).retries for _ in range(10)]

    case.attempt()
    assert "closed" == case.breaker.state


@pytest.mark.parametrize("end", [asyncio.CancelledError, RuntimeError, KeyboardInterrupt])
def test_a_probe_without_an_outcome_is_repeated(case: Case, end: type[BaseException]):
    """A probe that was cancelled or crashed says nothing about the endpoint, so the next call probes."""
    case.fail()
    case.advance(OPEN_S)
    with pytest.raises(end), case.breaker.attempt(0, 4):
        raise end

    assert "half_open" == case.breaker.state
    case.attempt()
    assert "closed" == case.breaker.state


def test_calls_under_way_when_it_opens_do_not_prolong_it(case: Case):
    """A failed call that began before it opened does not prolong it; a successful one closes it."""
    calls = [case.breaker.attempt(0, 4) for _ in range(3)]
    for call in calls:
        call.__enter__()
    case.fail()
    for call in calls[:2]:
        call.__exit__(type(DOWN), DOWN, None)

    assert OPEN_S == case.prevents_a_try().delay_s
    calls[2].__exit__(None, None, None)
    assert "closed" == case.breaker.state


def test_a_refused_key_is_probed(case: Case):
    """After REFUSALS refusals in a row jobs wait for REFUSED_S each time; then one call probes with the key."""
    case.fail(REFUSED, REFUSALS)
    for _ in range(2):
        assert (REFUSED_S, "credential_rejected") == (
            case.prevents_a_try().delay_s,
            case.prevents_a_try().reason.code,
        )
        case.advance(REFUSED_S - 0.1)
        assert "open" == case.breaker.state
        case.advance(0.1)
        case.fail(REFUSED, 1)

    case.advance(REFUSED_S)
    case.attempt()
    assert "closed" == case.breaker.state


def test_a_new_version_has_a_breaker_of_its_own(monkeypatch: pytest.MonkeyPatch):
    """
    A rotated secret, another connection and another customer are tried at once. Beyond MAX_ENTRIES, the least recently
    used breakers are forgotten.
    """
    monkeypatch.setattr(module, "MAX_ENTRIES", 10)
    monkeypatch.setattr("shared.lru.CUSTOMERS", 2)
    breakers = Breakers(clock=ManualClock())
    case = Case(ManualClock(), breakers.of("acme", "default", "v1"))
    case.fail(REFUSED, REFUSALS)
    for other in (("acme", "default", "v2"), ("acme", "eu", "v1"), ("other", "default", "v1")):
        assert "closed" == breakers.of(*other).state

    for numbers in (range(6), range(9, 18)):
        assert case.breaker is breakers.of("acme", "default", "v1")
        for number in numbers:
            breakers.of(f"c{number}", "default", "v1")

    assert case.breaker is breakers.of("acme", "default", "v1")
    assert 10 == len(breakers._breakers)


def test_state_changes_are_logged(case: Case, caplog: pytest.LogCaptureFixture):
    """A log line reports each state change, with the customer and connection."""
    caplog.set_level(logging.INFO, "customer_ai_jobs")
    case.fail(SLOW)
    case.advance(OPEN_S)
    case.attempt()
    case.fail(REFUSED, REFUSALS)

    assert [
        ("WARNING", "breaker_open customer=acme connection=default for_s=10 failures=8 refusals=0 code=timeout"),
        ("INFO", "breaker_half_open customer=acme connection=default"),
        ("INFO", "breaker_closed customer=acme connection=default"),
        (
            "WARNING",
            "breaker_open customer=acme connection=default for_s=15 failures=0 refusals=3 code=credential_rejected",
        ),
    ] == [(record.levelname, record.getMessage()) for record in caplog.records]
