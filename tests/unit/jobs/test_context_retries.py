"""How many tries a call gets, in one attempt and over all attempts of its job."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from shared.jobs import time_budget
from tests.support.customers import Customer
from tests.support.endpoint import Answer, completion, error
from tests.support.workers import Worker

QUICK = {"retry_delay_ms": 1, "exponential_backoff": False}
MAX_ATTEMPTS = 9


async def run_to_the_end(worker: Worker, customer: Customer, **members: Any) -> tuple[dict[str, Any] | None, int]:
    """Return a job's result and how many attempts it took, or None if MAX_ATTEMPTS do not end it."""
    body = customer.body(job_id="job", **members)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        result = await worker.deliver(customer, body)
        if result is not None:
            return result, attempt
        ((body, _),) = worker.requeued()
    return None, MAX_ATTEMPTS


async def test_a_slow_call_is_made_no_more_often_than_allowed(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """
    A call that an attempt has time for once is tried once in each attempt, each time for its whole timeout, and ends
    when its retries are used: the end of an attempt neither shortens a try nor gives a retry back.
    """
    monkeypatch.setattr(time_budget, "ATTEMPT_S", 1.2)
    customer = worker.customer()
    customer.account.answers[:] = [completion(after_s=30)] * 30

    result, attempts = await run_to_the_end(worker, customer, options=QUICK | {"timeout_s": 0.7, "max_retries": 2})

    assert result is not None
    assert ("timeout", "127.0.0.1 did not answer within 0.7 s.") == (
        result["error"]["code"],
        result["error"]["message"],
    )
    assert attempts >= 3 == len(customer.account.received)
    assert [("unanswered", 0, 0)] * 3 == worker.outcomes(customer)


@pytest.mark.parametrize(("max_retries", "tries"), [(1, 3), (4, 6)])
async def test_a_long_wait_gives_no_retry_back(worker: Worker, max_retries: int, tries: int):
    """Tries that failed before the endpoint asked for a long wait still count in the next attempt."""
    customer = worker.customer()
    failing = [error(500)] * (max_retries - 1 or 1)
    customer.account.will_answer(*[*failing, error(429, retry_after="6")] * 12)

    result, attempts = await run_to_the_end(worker, customer, options=QUICK | {"max_retries": max_retries})

    assert result is not None
    assert (2, "provider_unavailable") == (attempts, result["error"]["code"])
    assert tries == len(customer.account.received)


@pytest.mark.parametrize("headers", [{"retry_after_ms": "10"}, {"retry_after": "0"}], ids=["a moment", "no time"])
async def test_an_endpoint_that_answers_nothing_is_called_no_more_often_than_allowed(
    worker: Worker, headers: dict[str, str]
):
    """A call that is asked to wait again and again, while nothing is answered, ends when its retries are used."""
    customer = worker.customer()
    customer.account.answers[:] = [error(429, **headers)] * 99

    result, attempts = await run_to_the_end(worker, customer, options=QUICK | {"max_retries": 2})

    assert result is not None
    assert ("rate_limited", 1, 3) == (result["error"]["code"], attempts, len(customer.account.received))


async def test_many_prompts_share_a_deployments_capacity(worker: Worker):
    """
    A job with more prompts than its deployment takes at once, which says how long to wait, is answered completely: a
    wait uses no retry while other calls are answered.
    """
    customer, in_flight = worker.customer(max_concurrency=8), [0]

    async def around(request: web.Request, _: Answer) -> web.StreamResponse:
        in_flight[0] += 1
        try:
            answer = completion(after_s=0.02) if in_flight[0] <= 2 else error(429, retry_after_ms="20")
            return await answer(request)
        finally:
            in_flight[0] -= 1

    customer.account.around = around
    prompts = [f"{number}?" for number in range(30)]

    result, _ = await run_to_the_end(
        worker, customer, action="multi_chat", input={"prompts": prompts}, options={"max_retries": 1}
    )

    assert result is not None
    assert ("succeeded", 0, 30) == (result["status"], result["output"]["failed"], result["usage"]["calls"])


@pytest.mark.parametrize("retry_after", ["0.01", "60"])
async def test_no_retries_means_one_call(worker: Worker, retry_after: str):
    """With `max_retries: 0` a call has one try, whatever the endpoint asks for."""
    customer = worker.customer()
    customer.account.will_answer(error(429, retry_after=retry_after))

    result, _ = await run_to_the_end(worker, customer, options={"max_retries": 0})

    assert result is not None
    assert ("rate_limited", 1) == (result["error"]["code"], len(customer.account.received))


async def test_a_permanent_refusal_does_not_wait_forever(worker: Worker):
    """A permanent refusal that is retried because the job says so uses a retry, although the endpoint asks to wait."""
    customer = worker.customer()
    customer.account.answers[:] = [error(404, retry_after="0.01")] * 9

    result, _ = await run_to_the_end(worker, customer, options=QUICK | {"max_retries": 2, "retry_on_all_errors": True})

    assert result is not None
    assert ("request_rejected", 3) == (result["error"]["code"], len(customer.account.received))


def _refusing(refused: Any, message: str, status: int = 400) -> Any:
    """Return a wrapper of an account that refuses requests for whose body and path `refused` is true."""

    async def around(request: web.Request, answer: Answer) -> web.StreamResponse:
        return await (error(status, message=message) if refused(await request.json(), request.path) else answer)(
            request
        )

    return around


WINDOW = "This model's maximum context length is 4096 tokens."
ADAPTED = {
    "parameter": (
        {"input": {"prompt": "x", "parameters": {"temperature": 0.5}}},
        _refusing(lambda body, _: "temperature" in body, "Unsupported parameter: 'temperature'."),
        2,
    ),
    "texts": (
        {"action": "embed", "input": {"texts": ["a", "b", "c", "d"]}},
        _refusing(lambda body, _: len(body["input"]) > 2, "Too many inputs. The max number of inputs is 2"),
        3,
    ),
    "pictures": (
        {"action": "image", "input": {"prompt": "x", "n": 2}},
        _refusing(lambda body, _: "n" in body, "You must provide n=1 for this model."),
        3,
    ),
    "window": (
        {"action": "summarize", "input": {"text": "A short sentence. " * 400}},
        _refusing(lambda body, _: len(body["messages"][-1]["content"]) > 6000, WINDOW),
        4,
    ),
    "operation": (
        {"input": {"prompt": "x"}},
        _refusing(lambda _, path: path.endswith("/chat/completions"), "Did you mean to use v1/completions?", 404),
        2,
    ),
}


@pytest.mark.parametrize("retry_on_all_errors", [False, True])
@pytest.mark.parametrize(("members", "around", "requests"), ADAPTED.values(), ids=ADAPTED.keys())
async def test_a_refusal_that_is_adapted_to_is_not_retried(
    worker: Worker, members: dict[str, Any], around: Any, requests: int, retry_on_all_errors: bool
):
    """If the job adapts to a refusal, such as that of a parameter, the refused request is sent only once."""
    customer = worker.customer()
    customer.account.around = around

    result = await worker.run(customer, **members, options=QUICK | {"retry_on_all_errors": retry_on_all_errors})

    assert "succeeded" == result["status"]
    assert requests == len(customer.account.received)


async def test_no_try_starts_that_the_attempt_has_no_time_for(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """If the attempt ends before the wait does, the job is requeued for that wait, and the retry is used."""
    monkeypatch.setattr(time_budget, "ATTEMPT_S", 8.0)
    customer = worker.customer()
    customer.account.will_answer(error(503))
    options = {"retry_delay_ms": 9000, "exponential_backoff": False, "timeout_s": 1}

    assert await worker.deliver(customer, job_id="late", options=options) is None

    ((_, delay_s),) = worker.requeued()
    assert 9 <= delay_s <= 9.9
    assert 1 == worker.row(customer, "late")["retries"]
