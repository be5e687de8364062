"""A circuit breaker for each connection: with a clock that the test moves, and end to end."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import dataclass

import pytest

from shared.errors import (
    ContentFiltered,
    CredentialRejected,
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
from tests.support.blocking_endpoint import Held
from tests.support.endpoint import completion, error
from tests.support.harness import Customer, World
from tests.support.workers import Worker, worker_of

DOWN = ProviderUnavailable("It is down.", UpstreamFacts(status=503, transient=True))
SLOW = UpstreamTimeout("It is slow.", UpstreamFacts(transient=True))
REFUSED = CredentialRejected("The key is refused.", UpstreamFacts(status=401))
RESPONSES = {
    "400": RequestRejected("No.", UpstreamFacts(status=400)),
    "429": RateLimited("Slower.", UpstreamFacts(status=429, transient=True)),
    "filtered": ContentFiltered("No.", UpstreamFacts(status=400)),
    "500 for good": ProviderUnavailable("No.", UpstreamFacts(status=500)),
}


@dataclass
class Clock:
    """Seconds that pass only if the test says so."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.seconds


@dataclass
class Case:
    """A breaker and its clock."""

    clock: Clock
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
    clock = Clock()
    return Case(clock, Breakers(clock=clock).of("acme", "default", "v1"))


@pytest.mark.parametrize("outcome", [DOWN, SLOW], ids=["down", "slow"])
def test_it_opens_after_failed_tries_in_a_row(case: Case, outcome: UpstreamError):
    """After FAILURES failed tries in a row it is open; one fewer does nothing."""
    case.fail(outcome, FAILURES - 1)
    assert "closed" == case.breaker.state

    case.fail(outcome, 1)

    error = case.prevents_a_try(retries=2)
    assert "open" == case.breaker.state
    assert (OPEN_S, 3) == (error.delay_s, error.retries)
    assert ("provider_unavailable", {"breaker": "open"}) == (error.reason.code, error.reason.facts.detail)
    assert "failed 8 times in a row, so it is not called for 10 s" in str(error)


@pytest.mark.parametrize("outcome", [*RESPONSES.values(), None], ids=[*RESPONSES, "success"])
def test_any_response_resets_it(case: Case, outcome: UpstreamError | None):
    """Any response, also 4xx or 429, resets the count; any number of them does not open it."""
    for _ in range(3):
        case.fail(times=FAILURES - 1)
        for _ in range(2 * FAILURES):
            with suppress(UpstreamError):
                case.attempt(outcome)

    assert "closed" == case.breaker.state


def test_a_job_without_retries_left_ends(case: Case):
    """If no retry is left, the reason itself is raised; its detail names the breaker."""
    case.fail()

    with pytest.raises(ProviderUnavailable) as raised:
        case.attempt(retries=4)

    assert {"breaker": "open"} == raised.value.facts.detail
    assert raised.value.facts.status is None


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


def test_one_call_probes(case: Case):
    """When its time is over, one call probes the endpoint; others wait for its outcome."""
    case.fail()
    case.advance(OPEN_S)
    with case.breaker.attempt(0, 4):
        error = case.prevents_a_try()
        assert (PROBE_S, {"breaker": "half_open"}) == (error.delay_s, error.reason.facts.detail)

    case.attempt()
    assert "closed" == case.breaker.state


def test_a_slow_probe_costs_other_jobs_no_retries(case: Case):
    """A job that waits for another's probe made no try, so it keeps its retries."""
    case.fail()
    case.advance(OPEN_S)
    with case.breaker.attempt(0, 4):
        assert [4] * 10 == [case.prevents_a_try(retries=4).retries for _ in range(10)]


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


def test_a_refused_key_opens_it(case: Case):
    """After REFUSALS refusals in a row jobs fail at once; later one call probes with the key."""
    case.fail(REFUSED, REFUSALS)
    for _ in range(2):
        with pytest.raises(CredentialRejected) as raised, case.breaker.attempt(0, 4):
            pytest.fail("The call was made.")
        assert {"breaker": "open"} == raised.value.facts.detail
        assert "refused this connection's key" in str(raised.value)
        case.advance(REFUSED_S - 0.1)
        assert "open" == case.breaker.state
        case.advance(0.1)
        case.fail(REFUSED, 1)

    case.advance(REFUSED_S)
    case.attempt()
    assert "closed" == case.breaker.state


def test_a_missing_permission_does_not_open_it(case: Case):
    """A 403 refuses one operation or model: jobs that the key has permission for continue."""
    case.fail(CredentialRejected("No permission.", UpstreamFacts(status=403)), 10 * REFUSALS)

    case.attempt()


def test_a_new_version_has_a_breaker_of_its_own():
    """A rotated secret, another connection and another customer are tried at once."""
    breakers = Breakers(clock=Clock())
    case = Case(Clock(), breakers.of("acme", "default", "v1"))
    case.fail(REFUSED, REFUSALS)

    for other in (("acme", "default", "v2"), ("acme", "eu", "v1"), ("other", "default", "v1")):
        assert "closed" == breakers.of(*other).state
    assert case.breaker is breakers.of("acme", "default", "v1")


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """The least recently used breakers are forgotten."""
    monkeypatch.setattr(module, "MAX_ENTRIES", 10)
    breakers = Breakers(clock=Clock())
    first = breakers.of("first", "default", "v1")
    for number in range(9):
        breakers.of(f"c{number}", "default", "v1")
    assert first is breakers.of("first", "default", "v1")
    for number in range(9, 18):
        breakers.of(f"c{number}", "default", "v1")

    assert first is breakers.of("first", "default", "v1")
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


# End to end.


@pytest.fixture
def clock() -> Clock:
    """The clock of the worker's breakers."""
    return Clock()


@pytest.fixture
def worker(world: World, clock: Clock) -> Worker:
    """A worker whose breakers use the clock."""
    return worker_of(world, breakers=Breakers(clock=clock))


OPTIONS = {"max_retries": 3, "retry_delay_ms": 0, "exponential_backoff": False}


async def test_an_endpoint_that_is_down_is_not_called(world: World, worker: Worker, clock: Clock):
    """
    After FAILURES failed tries no call reaches it. Jobs are requeued for the remaining time, each time with one retry
    fewer, and end with `provider_unavailable` when none is left; other customers' jobs run.
    """
    customer, other = world.customer(), world.customer()
    customer.account.will_answer(*[error(503)] * 100)
    for _ in range(2):
        assert "failed" == (await worker.run(customer, options=OPTIONS))["status"]
    before = len(customer.account.received)
    delays: list[float] = []

    result, body = None, json.dumps(customer.job(job_id="waits", options=OPTIONS)).encode()
    while result is None:
        result = await worker.deliver(customer, body)
        if result is None:
            ((body, delay_s),) = worker.requeued()
            delays.append(delay_s)
            clock.seconds += 1

    assert FAILURES == before == len(customer.account.received)
    assert len(delays) == 3
    assert all(left <= delay_s <= 1.1 * left for left, delay_s in zip((10, 9, 8), delays, strict=True))
    assert (4, "provider_unavailable", {"breaker": "open"}) == (
        result["attempts"],
        result["error"]["code"],
        result["error"]["detail"],
    )
    assert "open" == result["connection"]["breaker"]
    assert [] == worker.usage(customer)
    assert "breaker" not in (await worker.run(other))["connection"]


async def test_one_probe_closes_it(world: World, worker: Worker, clock: Clock):
    """When the endpoint is up again, one call probes it while others wait; then all continue."""
    customer = world.customer()
    await _open(worker, customer)
    clock.seconds += OPEN_S
    held = Held()
    customer.account.received.clear()
    customer.account.will_answer(held)
    probe = asyncio.create_task(worker.run(customer, job_id="probe"))
    await held.asked.wait()

    waiting = [await worker.deliver(customer, job_id=f"waits-{number}") for number in range(5)]
    calls, messages = len(customer.account.received), worker.requeued()
    held.end.set()
    results = [await probe, *[await worker.run(customer, body) for body, _ in messages]]

    assert ([None] * 5, 1, 5) == (waiting, calls, len(messages))
    assert all(PROBE_S <= delay_s <= 1.1 * PROBE_S for _, delay_s in messages)
    assert ["succeeded"] * 6 == [result["status"] for result in results]
    assert all("breaker" not in result["connection"] for result in results)


async def test_a_failed_probe_is_one_call(world: World, worker: Worker, clock: Clock):
    """An endpoint that is still down gets one call, and the breaker is open for longer."""
    customer = world.customer()
    await _open(worker, customer)
    clock.seconds += OPEN_S
    customer.account.received.clear()
    customer.account.will_answer(*[error(500)] * 9)

    assert await worker.deliver(customer, job_id="probe", options=OPTIONS) is None

    ((_, delay_s),) = worker.requeued()
    assert 1 == len(customer.account.received)
    assert 2 * OPEN_S <= delay_s <= 2.2 * OPEN_S


async def test_a_breaker_that_opens_within_a_job_of_many_calls_loses_none(world: World, worker: Worker, clock: Clock):
    """Calls that were answered before it opened are not repeated by the attempt after it has closed."""
    customer = world.customer(max_concurrency=1)
    customer.account.will_answer(completion("One."), completion("Two."), *[error(503)] * FAILURES)
    job = {"action": "multi_chat", "input": {"prompts": ["a", "b", "c", "d"]}, "job_id": "many"}

    options = {"max_retries": 20, "retry_delay_ms": 0, "exponential_backoff": False}
    assert await worker.deliver(customer, **job, options=options) is None
    ((body, delay_s),) = worker.requeued()
    clock.seconds += delay_s
    result = await worker.run(customer, body)

    assert ("succeeded", 4) == (result["status"], result["usage"]["calls"])
    assert 2 + FAILURES + 2 == len(customer.account.received)
    assert [("answered", 1, 18)] * 4 == worker.outcomes(customer)


async def test_a_revoked_key_is_not_tried_for_each_job(world: World, worker: Worker):
    """Of many jobs whose key was revoked few reach the endpoint; all fail at once with `credential_rejected`."""
    customer = world.customer()
    customer.account.will_answer(*[error(401)] * 200)

    results = await asyncio.gather(*(worker.run(customer, job_id=f"job-{number}") for number in range(16)))
    results += [await worker.run(customer, job_id=f"later-{number}") for number in range(34)]

    assert {("credential_rejected", 1)} == {(result["error"]["code"], result["attempts"]) for result in results}
    assert len(customer.account.received) <= 16 + REFUSALS
    assert "open" == results[-1]["connection"]["breaker"]
    assert [] == worker.usage(customer)


async def test_a_new_key_is_tried_at_once(world: World, worker: Worker):
    """A secret that is corrected while the old key's breaker is open serves the next job."""
    customer = world.customer(api_key="a-wrong-key-of-nobody")
    connections = worker.services.connections
    for _ in range(REFUSALS):
        assert "credential_rejected" == (await worker.run(customer))["error"]["code"]
    world.connect(customer)
    connections._cache._entries.get((customer.name, "default")).reread_at = float("-inf")  # REREAD_S later

    result = await worker.run(customer)

    assert "succeeded" == result["status"]
    assert "breaker" not in result["connection"]


@pytest.mark.parametrize("width", [1, 4, 16])
async def test_a_key_that_is_rotated_within_a_job_costs_no_job(world: World, worker: Worker, width: int):
    """The vault gets a new key while a job of many prompts runs: every prompt is answered, each bought once."""
    customer = world.customer(max_concurrency=width)
    old, new = customer.account, world.endpoint.account()

    async def rotate(request):
        del world.endpoint.accounts[old.key]
        customer.account = new
        world.connect(customer, max_concurrency=width)
        return await completion()(request)

    old.will_answer(completion(), completion(), rotate)
    prompts = [f"{number}?" for number in range(12)]

    result = await worker.run(customer, action="multi_chat", input={"prompts": prompts})

    assert ("succeeded", 1, 12) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert 12 == len(old.received) + len(new.received)
    assert [("answered", 1, 18)] * 12 == worker.outcomes(customer)


async def test_a_job_of_a_restricted_key_does_not_fail_another(world: World, worker: Worker):
    """Jobs that the key has no permission for don't fail jobs that it has permission for."""
    customer = world.customer()
    customer.account.will_answer(*[error(403)] * REFUSALS)
    for _ in range(REFUSALS):
        result = await worker.run(customer, action="image", input={"prompt": "A cat."})
        assert "credential_rejected" == result["error"]["code"]

    assert "succeeded" == (await worker.run(customer))["status"]


async def _open(worker: Worker, customer: Customer) -> None:
    customer.account.will_answer(*[error(503)] * FAILURES)
    for _ in range(2):
        await worker.run(customer, options=OPTIONS)
