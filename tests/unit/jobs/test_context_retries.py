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


async def run_to_the_end(worker: Worker, customer: Customer, **members: Any) -> tuple[dict[str, Any], int]:
    """Return a job's result and how many attempts it took; fails if MAX_ATTEMPTS do not end it."""
    body = customer.body(job_id="job", **members)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        result = await worker.deliver(customer, body)
        if result is not None:
            return result, attempt
        ((body, _),) = worker.requeued()
    pytest.fail(f"The job did not end in {MAX_ATTEMPTS} attempts.")


async def test_a_slow_call_is_made_no_more_often_than_allowed(worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """
    A call that an attempt has time for once is tried once in each attempt, each time for its whole timeout, and ends
    when its retries are used: the end of an attempt neither shortens a try nor gives a retry back.
    """
    monkeypatch.setattr(time_budget, "ATTEMPT_S", 1.2)
    customer = worker.customer()
    customer.account.answers[:] = [completion(after_s=30)] * 30

    result, attempts = await run_to_the_end(worker, customer, options=QUICK | {"timeout_s": 0.7, "max_retries": 2})

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

    assert (2, "provider_unavailable") == (attempts, result["error"]["code"])
    assert tries == len(customer.account.received)


@pytest.mark.parametrize(
    ("status", "headers", "options", "code", "calls"),
    [
        (429, {"retry_after_ms": "10"}, {"max_retries": 2}, "rate_limited", 3),
        (429, {"retry_after": "0"}, {"max_retries": 2}, "rate_limited", 3),
        (429, {"retry_after": "0.01"}, {"max_retries": 0}, "rate_limited", 1),
        (429, {"retry_after": "60"}, {"max_retries": 0}, "rate_limited", 1),
        (404, {"retry_after": "0.01"}, {"max_retries": 2, "retry_on_all_errors": True}, "request_rejected", 3),
    ],
    ids=["a moment", "no time", "no retries", "no retries, long", "permanent"],
)
async def test_an_endpoint_that_answers_nothing_is_called_no_more_often_than_allowed(
    worker: Worker, status: int, headers: dict[str, str], options: dict[str, Any], code: str, calls: int
):
    """A call that is asked to wait again and again, while nothing is answered, ends when its retries are used."""
    customer = worker.customer()
    customer.account.answers[:] = [error(status, **headers)] * 99

    result, attempts = await run_to_the_end(worker, customer, options=QUICK | options)

    assert (code, 1, calls) == (result["error"]["code"], attempts, len(customer.account.received))


@pytest.mark.long
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

    assert ("succeeded", 0, 30) == (result["status"], result["output"]["failed"], result["usage"]["calls"])


def _refusing(refused: Any, message: str, status: int = 400) -> Any:
    """Return a wrapper of an account that refuses requests for whose body and path `refused` is true."""

    async def around(request: web.Request, answer: Answer) -> web.StreamResponse:
        is_refused = refused(await request.json(), request.path)
        return await (error(status, message=message) if is_refused else answer)(request)

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


@pytest.mark.parametrize(("members", "around", "requests"), ADAPTED.values(), ids=ADAPTED.keys())
async def test_a_refusal_that_is_adapted_to_is_not_retried(
    worker: Worker, members: dict[str, Any], around: Any, requests: int
):
    """If the job adapts to a refusal, the refused request is sent only once, even if the job retries all errors."""
    customer = worker.customer()
    customer.account.around = around

    result = await worker.run(customer, **members, options=QUICK | {"retry_on_all_errors": True})

    assert ("succeeded", requests) == (result["status"], len(customer.account.received))


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
