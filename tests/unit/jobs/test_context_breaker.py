"""A connection's circuit breaker in jobs that really run, with a clock that the test moves."""

from __future__ import annotations

import asyncio

import pytest

from shared.connections import secret_cache
from shared.upstream.circuit_breaker import FAILURES, OPEN_S, PROBE_S, REFUSALS, REFUSED_S, Breakers
from tests.support.blocking_endpoint import BlockingEndpoint
from tests.support.customers import Customer
from tests.support.endpoint import Answer, completion, error
from tests.support.manual_clock import ManualClock
from tests.support.workers import OpenWorker, Worker


@pytest.fixture
def clock() -> ManualClock:
    """The clock of the worker's breakers."""
    return ManualClock()


@pytest.fixture
def worker(open_worker: OpenWorker, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker whose breakers use the clock, and who reads a refused secret again after a short while."""
    monkeypatch.setattr(secret_cache, "REFUSED_PAUSE_S", 0.02)
    return open_worker(breakers=Breakers(clock=clock))


OPTIONS = {"max_retries": 3, "retry_delay_ms": 0, "exponential_backoff": False}


async def test_an_endpoint_that_is_down_is_not_called(worker: Worker, clock: ManualClock):
    """
    After FAILURES failed tries no call reaches it. Jobs are requeued for the remaining time, each time with one retry
    fewer, and end with `provider_unavailable` when none is left; other customers' jobs run.
    """
    customer, other = worker.customer(), worker.customer()
    customer.account.will_answer(*[error(503)] * 100)
    for _ in range(2):
        assert "failed" == (await worker.run(customer, options=OPTIONS))["status"]
    before = len(customer.account.received)
    delays: list[float] = []

    result, body = None, customer.body(job_id="waits", options=OPTIONS)
    while result is None:
        result = await worker.deliver(customer, body)
        if result is None:
            ((body, delay_s),) = worker.requeued()
            delays.append(delay_s)
            clock.advance(1)

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


async def test_one_probe_closes_it(worker: Worker, clock: ManualClock):
    """When the endpoint is up again, one call probes it while others wait; then all continue."""
    customer = worker.customer()
    await _open(worker, customer)
    clock.advance(OPEN_S)
    blocking = BlockingEndpoint()
    customer.account.received.clear()
    customer.account.will_answer(blocking)
    probe = asyncio.create_task(worker.run(customer, job_id="probe"))
    await blocking.called.wait()

    waiting = [await worker.deliver(customer, job_id=f"waits-{number}") for number in range(5)]
    calls, messages = len(customer.account.received), worker.requeued()
    blocking.release.set()
    results = [await probe, *[await worker.run(customer, body) for body, _ in messages]]

    assert ([None] * 5, 1, 5) == (waiting, calls, len(messages))
    assert all(PROBE_S <= delay_s <= 1.1 * PROBE_S for _, delay_s in messages)
    assert ["succeeded"] * 6 == [result["status"] for result in results]
    assert all("breaker" not in result["connection"] for result in results)


async def test_a_breaker_that_opens_within_a_job_loses_no_call(worker: Worker, clock: ManualClock):
    """Calls that were answered before it opened are not repeated by the attempt after it has closed."""
    customer = worker.customer(max_concurrency=1)
    customer.account.will_answer(completion("One."), completion("Two."), *[error(503)] * FAILURES)
    job = {"action": "multi_chat", "input": {"prompts": ["a", "b", "c", "d"]}, "job_id": "many"}

    options = {"max_retries": 20, "retry_delay_ms": 0, "exponential_backoff": False}
    assert await worker.deliver(customer, **job, options=options) is None
    ((body, delay_s),) = worker.requeued()
    clock.advance(delay_s)
    result = await worker.run(customer, body)

    assert ("succeeded", 4) == (result["status"], result["usage"]["calls"])
    assert 2 + FAILURES + 2 == len(customer.account.received)
    assert [("answered", 1, 18)] * 4 == worker.outcomes(customer)


async def test_a_revoked_key_is_not_tried_for_each_job(worker: Worker):
    """
    Of many jobs whose key was revoked few reach the endpoint. The others wait until it may be tried again, and end with
    `credential_rejected` when their retries are used up.
    """
    customer = worker.customer()
    customer.account.will_answer(*[error(401)] * 200)
    bodies = [customer.body(job_id=f"job-{number}", options={"max_retries": 2}) for number in range(40)]

    results = [*await asyncio.gather(*(worker.deliver(customer, body) for body in bodies))]
    waiting = worker.requeued()
    while waiting:
        assert all(delay_s <= 1.1 * REFUSED_S for _, delay_s in waiting)
        results += [*await asyncio.gather(*(worker.deliver(customer, body) for body, _ in waiting))]
        waiting = worker.requeued()

    ended = [result for result in results if result is not None]
    assert ["credential_rejected"] * 40 == [result["error"]["code"] for result in ended]
    assert {1, 3} == {result["attempts"] for result in ended}
    assert len(customer.account.received) <= 16 + REFUSALS
    assert [] == worker.usage(customer)


@pytest.mark.parametrize("max_retries", [0, 3])
async def test_jobs_wait_until_a_refused_key_is_accepted_again(worker: Worker, clock: ManualClock, max_retries: int):
    """
    An endpoint that refuses a right key for a while fails no job that comes meanwhile: behind the open breaker all are
    requeued, then one probes the key while the others wait for it.
    """
    customer = worker.customer()
    customer.account.will_answer(*[error(401)] * REFUSALS)
    for _ in range(REFUSALS):
        assert "credential_rejected" == (await worker.run(customer))["error"]["code"]
    options = {"max_retries": max_retries}

    behind = [await worker.deliver(customer, job_id=f"job-{number}", options=options) for number in range(4)]
    (probe, _), *others = worker.requeued()
    clock.advance(REFUSED_S)
    blocking = BlockingEndpoint()
    customer.account.will_answer(blocking)
    probing = asyncio.create_task(worker.run(customer, probe))
    await blocking.called.wait()
    during = [await worker.deliver(customer, body) for body, _ in others]
    messages = worker.requeued()
    blocking.release.set()
    results = [await probing, *[await worker.run(customer, body) for body, _ in messages]]

    assert [None] * 7 == [*behind, *during]
    assert all(PROBE_S <= delay_s <= 1.1 * PROBE_S for _, delay_s in messages)
    assert ["succeeded"] * 4 == [result["status"] for result in results]


@pytest.mark.parametrize(
    "refusal",
    [
        error(401, message="You have insufficient permissions for this operation. Missing scopes: images.write."),
        error(401, code="PermissionDenied", message="The principal lacks the required data action."),
        error(403, message="Your organization must be verified to use this model."),
    ],
    ids=["scopes", "data action", "verification"],
)
async def test_a_missing_permission_stops_no_other_job(worker: Worker, refusal: Answer):
    """Its jobs end with the provider's own sentence, and the breaker stays closed for the connection's other work."""
    customer = worker.customer()
    customer.account.will_answer(*[refusal] * 2 * REFUSALS)

    refused = await asyncio.gather(*(worker.run(customer, job_id=f"job-{number}") for number in range(2 * REFUSALS)))
    other = await worker.run(customer)

    assert {"credential_rejected"} == {result["error"]["code"] for result in refused}
    assert all(
        any(words in result["error"]["message"] for words in ("Missing scopes", "data action", "must be verified"))
        for result in refused
    )
    assert "succeeded" == other["status"]
    assert "breaker" not in other["connection"]


async def test_a_key_rotated_just_after_its_first_refusal_fails_no_further_job(worker: Worker):
    """The next job reads the secret again, however recently that was done for the one before."""
    customer = worker.customer()
    await worker.run(customer)
    del worker.endpoint.accounts[customer.account.key]
    first = await worker.run(customer)
    customer.account = worker.endpoint.account()
    worker.connect(customer)

    second = await worker.run(customer)

    assert ("credential_rejected", "succeeded") == (first["error"]["code"], second["status"])


async def test_a_new_key_is_tried_at_once(worker: Worker):
    """A secret that is corrected while the old key's breaker is open serves the next job."""
    customer = worker.customer(api_key="a-key-of-nobody")
    for _ in range(REFUSALS):
        assert "credential_rejected" == (await worker.run(customer))["error"]["code"]
    worker.connect(customer)

    result = await worker.run(customer)

    assert "succeeded" == result["status"]
    assert "breaker" not in result["connection"]


@pytest.mark.parametrize("concurrency", [1, 4, 16])
async def test_a_key_that_is_rotated_within_a_job_fails_no_job(worker: Worker, concurrency: int):
    """The vault gets a new key while a job of many prompts runs: each prompt is answered and billed once."""
    customer = worker.customer(max_concurrency=concurrency)
    old, new = customer.account, worker.endpoint.account()

    async def rotate(request):
        del worker.endpoint.accounts[old.key]
        customer.account = new
        worker.connect(customer, max_concurrency=concurrency)
        return await completion()(request)

    old.will_answer(completion(), completion(), rotate)
    prompts = [f"{number}?" for number in range(12)]

    result = await worker.run(customer, action="multi_chat", input={"prompts": prompts})

    assert ("succeeded", 1, 12) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert 12 == len(old.received) + len(new.received)
    assert [("answered", 1, 18)] * 12 == worker.outcomes(customer)


async def _open(worker: Worker, customer: Customer) -> None:
    customer.account.will_answer(*[error(503)] * FAILURES)
    for _ in range(2):
        await worker.run(customer, options=OPTIONS)
