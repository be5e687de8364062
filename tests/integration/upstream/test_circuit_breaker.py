"""A breaker a connection: by a clock that stands still until it is told, and end to end."""

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
from shared.upstream.circuit_breaker import FAILURES, LONGEST_S, OPEN_S, REFUSALS, REFUSED_S, TRIAL_S, Breaker, Breakers
from tests.support.blocking_endpoint import Held
from tests.support.endpoint import completion, error
from tests.support.harness import Customer, World
from tests.support.workers import Worker, worker_of

DOWN = ProviderUnavailable("It is down.", UpstreamFacts(status=503, transient=True))
SLOW = UpstreamTimeout("It is slow.", UpstreamFacts(transient=True))
REFUSED = CredentialRejected("The key is refused.", UpstreamFacts(status=401))
ANSWERS = {
    "400": RequestRejected("No.", UpstreamFacts(status=400)),
    "429": RateLimited("Slower.", UpstreamFacts(status=429, transient=True)),
    "filtered": ContentFiltered("No.", UpstreamFacts(status=400)),
    "500 for good": ProviderUnavailable("No.", UpstreamFacts(status=500)),
}


@dataclass
class Clock:
    """Seconds, which go by when they are told to."""

    seconds: float = 1000.0

    def __call__(self) -> float:
        """The seconds."""
        return self.seconds


@dataclass
class Case:
    """A breaker and its clock."""

    clock: Clock
    breaker: Breaker

    def attempt(self, outcome: UpstreamError | None = None, *, retries: int = 0, most: int = 4) -> None:
        """A try that ends so."""
        with self.breaker.attempt(retries, most):
            if outcome is not None:
                raise outcome

    def fail(self, outcome: UpstreamError = DOWN, times: int = FAILURES) -> None:
        """So many tries that fail."""
        for _ in range(times):
            with pytest.raises(type(outcome)):
                self.attempt(outcome)

    def is_left_alone(self, *, retries: int = 0) -> UpstreamRetryLater:
        """Fails where a call is made; gives what says when to try again."""
        with pytest.raises(UpstreamRetryLater) as raised, self.breaker.attempt(retries, 4):
            pytest.fail("The call was made.")
        return raised.value

    def pass_by(self, seconds: float) -> None:
        """Lets the clock go by."""
        self.clock.seconds += seconds


@pytest.fixture
def case() -> Case:
    """A breaker of a connection that nothing is known of."""
    clock = Clock()
    return Case(clock, Breakers(ticks=clock).of("acme", "default", "v1"))


@pytest.mark.parametrize("outcome", [DOWN, SLOW], ids=["down", "slow"])
def test_it_opens_after_tries_in_a_row_that_fail(case: Case, outcome: UpstreamError):
    """After so many failures in a row no more calls are made for a while; one fewer does nothing."""
    case.fail(outcome, FAILURES - 1)
    assert "closed" == case.breaker.state

    case.fail(outcome, 1)

    moment = case.is_left_alone(retries=2)
    assert "open" == case.breaker.state
    assert (OPEN_S, 3) == (moment.delay_s, moment.retries)
    assert ("provider_unavailable", {"breaker": "open"}) == (moment.reason.code, moment.reason.facts.detail)
    assert "failed 8 times in a row, and is left alone for 10 s" in str(moment)


@pytest.mark.parametrize("outcome", [*ANSWERS.values(), None], ids=[*ANSWERS, "success"])
def test_an_endpoint_that_answers_is_well(case: Case, outcome: UpstreamError | None):
    """Whatever it answers, be it 4xx or 429, begins the counting anew; any number of them opens nothing."""
    for _ in range(3):
        case.fail(times=FAILURES - 1)
        for _ in range(2 * FAILURES):
            with suppress(UpstreamError):
                case.attempt(outcome)

    assert "closed" == case.breaker.state


def test_a_job_without_retries_ends(case: Case):
    """Where no retry is left, what is raised is the reason itself, which tells of the breaker."""
    case.fail()

    with pytest.raises(ProviderUnavailable) as raised:
        case.attempt(retries=4)

    assert {"breaker": "open"} == raised.value.facts.detail
    assert raised.value.facts.status is None


def test_it_is_left_alone_longer_each_time(case: Case):
    """Each trial that fails doubles the time, up to five minutes; success begins anew."""
    case.fail()
    waits = []
    for _ in range(8):
        waits.append(case.is_left_alone().delay_s)
        case.pass_by(waits[-1])
        assert "half_open" == case.breaker.state
        case.fail(times=1)

    assert [10, 20, 40, 80, 160, 300, 300, 300] == waits
    case.pass_by(LONGEST_S)
    case.attempt()
    assert "closed" == case.breaker.state
    case.fail()
    assert OPEN_S == case.is_left_alone().delay_s


def test_it_stays_right_however_long_the_endpoint_is_down(case: Case):
    """Days of failed trials are days of five minutes each."""
    for _ in range(1100):
        case.fail(REFUSED, REFUSALS if case.breaker.until is None else 1)
        case.pass_by(REFUSED_S)
    case.fail(DOWN, 1)

    case.pass_by(LONGEST_S)
    assert "half_open" == case.breaker.state


def test_one_call_is_on_trial(case: Case):
    """When its time is over one call is made; others wait for what it finds."""
    case.fail()
    case.pass_by(OPEN_S)
    with case.breaker.attempt(0, 4):
        moment = case.is_left_alone()
        assert (TRIAL_S, {"breaker": "half_open"}) == (moment.delay_s, moment.reason.facts.detail)

    case.attempt()
    assert "closed" == case.breaker.state


def test_a_slow_trial_costs_the_others_no_retries(case: Case):
    """A job that waits while another's call is on trial was not tried: it has the retries that it had."""
    case.fail()
    case.pass_by(OPEN_S)
    with case.breaker.attempt(0, 4):
        assert [4] * 10 == [case.is_left_alone(retries=4).retries for _ in range(10)]


@pytest.mark.parametrize("end", [asyncio.CancelledError, RuntimeError, KeyboardInterrupt])
def test_a_trial_that_comes_to_nothing_is_made_again(case: Case, end: type[BaseException]):
    """A trial that was cancelled, or crashed, says nothing of the endpoint: the next call is on trial."""
    case.fail()
    case.pass_by(OPEN_S)
    with pytest.raises(end), case.breaker.attempt(0, 4):
        raise end

    assert "half_open" == case.breaker.state
    case.attempt()
    assert "closed" == case.breaker.state


def test_calls_under_way_when_it_opens_do_not_prolong_it(case: Case):
    """What fails while it is open was begun before, and says nothing new; a success closes it."""
    calls = [case.breaker.attempt(0, 4) for _ in range(3)]
    for call in calls:
        call.__enter__()
    case.fail()
    for call in calls[:2]:
        call.__exit__(type(DOWN), DOWN, None)

    assert OPEN_S == case.is_left_alone().delay_s
    calls[2].__exit__(None, None, None)
    assert "closed" == case.breaker.state


def test_a_refused_key_is_not_tried_for_a_while(case: Case):
    """After some refusals in a row jobs fail at once; later one call tries the key again, with the same outcome."""
    case.fail(REFUSED, REFUSALS)
    for _ in range(2):
        with pytest.raises(CredentialRejected) as raised, case.breaker.attempt(0, 4):
            pytest.fail("The call was made.")
        assert {"breaker": "open"} == raised.value.facts.detail
        assert "has refused this connection's key" in str(raised.value)
        case.pass_by(REFUSED_S - 0.1)
        assert "open" == case.breaker.state
        case.pass_by(0.1)
        case.fail(REFUSED, 1)

    case.pass_by(REFUSED_S)
    case.attempt()
    assert "closed" == case.breaker.state


def test_what_a_key_may_not_do_says_nothing_of_what_it_may(case: Case):
    """A 403 is a refusal of this operation or model: jobs that the key may do go on."""
    case.fail(CredentialRejected("It may not do this.", UpstreamFacts(status=403)), 10 * REFUSALS)

    case.attempt()


def test_a_new_version_has_a_breaker_of_its_own():
    """A rotated secret, another connection and another customer are tried at once."""
    breakers = Breakers(ticks=Clock())
    case = Case(Clock(), breakers.of("acme", "default", "v1"))
    case.fail(REFUSED, REFUSALS)

    for other in (("acme", "default", "v2"), ("acme", "eu", "v1"), ("other", "default", "v1")):
        assert "closed" == breakers.of(*other).state
    assert case.breaker is breakers.of("acme", "default", "v1")


def test_what_is_kept_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    """Breakers of connections that were idle longest are forgotten."""
    monkeypatch.setattr(module, "MAX_ENTRIES", 10)
    breakers = Breakers(ticks=Clock())
    first = breakers.of("first", "default", "v1")
    for number in range(9):
        breakers.of(f"c{number}", "default", "v1")
    assert first is breakers.of("first", "default", "v1")
    for number in range(9, 18):
        breakers.of(f"c{number}", "default", "v1")

    assert first is breakers.of("first", "default", "v1")
    assert 10 == len(breakers._breakers)


def test_the_log_tells_what_it_does(case: Case, caplog: pytest.LogCaptureFixture):
    """A line says when it opens, tries and closes, with the customer and connection."""
    caplog.set_level(logging.INFO, "customer_ai_jobs")
    case.fail(SLOW)
    case.pass_by(OPEN_S)
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
    """A worker whose breakers go by the clock."""
    return worker_of(world, breakers=Breakers(ticks=clock))


OPTIONS = {"max_retries": 3, "retry_delay_ms": 0, "exponential_backoff": False}


async def test_an_endpoint_that_is_down_is_left_alone(world: World, worker: Worker, clock: Clock):
    """
    After so many failed tries no call reaches it. Jobs go back with the time that is left, each time with one
    retry fewer, and end as unavailable when they have none, which their results say; another customer's run.
    """
    customer, other = world.customer(), world.customer()
    customer.account.will_answer(*[error(503)] * 100)
    for _ in range(2):
        assert "failed" == (await worker.run(customer, options=OPTIONS))["status"]
    before = len(customer.account.received)
    delays: list[float] = []

    told, body = None, json.dumps(customer.job(job_id="waits", options=OPTIONS)).encode()
    while told is None:
        told = await worker.deliver(customer, body)
        if told is None:
            ((body, delay_s),) = worker.put_back()
            delays.append(delay_s)
            clock.seconds += 1

    assert FAILURES == before == len(customer.account.received)
    assert len(delays) == 3
    assert all(left <= delay_s <= 1.1 * left for left, delay_s in zip((10, 9, 8), delays, strict=True))
    assert (4, "provider_unavailable", {"breaker": "open"}) == (
        told["attempts"],
        told["error"]["code"],
        told["error"]["detail"],
    )
    assert "open" == told["connection"]["breaker"]
    assert [] == worker.usage(customer)
    assert "breaker" not in (await worker.run(other))["connection"]


async def test_one_trial_closes_it(world: World, worker: Worker, clock: Clock):
    """When the endpoint is back, one call tries it while others wait; then all go on."""
    customer = world.customer()
    await _open(worker, customer)
    clock.seconds += OPEN_S
    held = Held()
    customer.account.received.clear()
    customer.account.will_answer(held)
    trial = asyncio.create_task(worker.run(customer, job_id="trial"))
    await held.asked.wait()

    waiting = [await worker.deliver(customer, job_id=f"waits-{number}") for number in range(5)]
    calls, messages = len(customer.account.received), worker.put_back()
    held.end.set()
    results = [await trial, *[await worker.run(customer, body) for body, _ in messages]]

    assert ([None] * 5, 1, 5) == (waiting, calls, len(messages))
    assert all(TRIAL_S <= delay_s <= 1.1 * TRIAL_S for _, delay_s in messages)
    assert ["succeeded"] * 6 == [result["status"] for result in results]
    assert all("breaker" not in result["connection"] for result in results)


async def test_a_trial_that_fails_is_paid_by_one_call(world: World, worker: Worker, clock: Clock):
    """An endpoint that is still down gets one call, and is left alone for longer."""
    customer = world.customer()
    await _open(worker, customer)
    clock.seconds += OPEN_S
    customer.account.received.clear()
    customer.account.will_answer(*[error(500)] * 9)

    assert await worker.deliver(customer, job_id="trial", options=OPTIONS) is None

    ((_, delay_s),) = worker.put_back()
    assert 1 == len(customer.account.received)
    assert 2 * OPEN_S <= delay_s <= 2.2 * OPEN_S


async def test_a_breaker_that_opens_within_a_job_of_many_calls_loses_none(world: World, worker: Worker, clock: Clock):
    """What was answered before it opened is not asked again by the run that goes on after it has closed."""
    customer = world.customer(max_concurrency=1)
    customer.account.will_answer(completion("One."), completion("Two."), *[error(503)] * FAILURES)
    job = {"action": "multi_chat", "input": {"prompts": ["a", "b", "c", "d"]}, "job_id": "many"}

    options = {"max_retries": 20, "retry_delay_ms": 0, "exponential_backoff": False}
    assert await worker.deliver(customer, **job, options=options) is None
    ((body, delay_s),) = worker.put_back()
    clock.seconds += delay_s
    result = await worker.run(customer, body)

    assert ("succeeded", 4) == (result["status"], result["usage"]["calls"])
    assert 2 + FAILURES + 2 == len(customer.account.received)
    assert [("answered", 1, 18)] * 4 == worker.outcomes(customer)


async def test_a_revoked_key_is_not_asked_for_each_job(world: World, worker: Worker):
    """Of many jobs whose key was revoked few reach the endpoint; all fail at once, as `credential_rejected`."""
    customer = world.customer()
    customer.account.will_answer(*[error(401)] * 200)

    results = await asyncio.gather(*(worker.run(customer, job_id=f"job-{number}") for number in range(16)))
    results += [await worker.run(customer, job_id=f"later-{number}") for number in range(34)]

    assert {("credential_rejected", 1)} == {(result["error"]["code"], result["attempts"]) for result in results}
    assert len(customer.account.received) <= 16 + REFUSALS
    assert "open" == results[-1]["connection"]["breaker"]
    assert [] == worker.usage(customer)


async def test_a_new_key_is_tried_at_once(world: World, worker: Worker):
    """A secret that is mended while the old key is left alone serves the next job."""
    customer = world.customer(api_key="a-wrong-key-of-nobody")
    connections = worker.services.connections
    for _ in range(REFUSALS):
        assert "credential_rejected" == (await worker.run(customer))["error"]["code"]
    world.connect(customer)
    connections._known[customer.name, "default"].reread_at = float("-inf")  # REREAD_S later

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
    """Jobs that ask for what the key may not do do not fail those that ask for what it may."""
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
