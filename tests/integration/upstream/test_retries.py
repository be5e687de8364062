"""What tries a call gets, in one run of its job and over all of them, from the endpoint's answers to the result."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from shared.jobs import time_budget
from tests.support.endpoint import Answer, completion, error
from tests.support.harness import Customer, World
from tests.support.workers import Worker, worker_of

QUICK = {"retry_delay_ms": 1, "exponential_backoff": False}
MOST_RUNS = 9


@pytest.fixture
def worker(world: World) -> Worker:
    """A worker."""
    return worker_of(world)


async def run_to_the_end(worker: Worker, customer: Customer, **members: Any) -> tuple[dict[str, Any] | None, int]:
    """A job's result and its runs, one right after the other; None where so many do not end it."""
    body = json.dumps(customer.job(job_id="job", **members)).encode()
    for run in range(1, MOST_RUNS + 1):
        told = await worker.deliver(customer, body)
        if told is not None:
            return told, run
        ((body, _),) = worker.requeued()
    return None, MOST_RUNS


async def test_a_slow_call_is_bought_no_more_often_than_allowed(
    world: World, worker: Worker, monkeypatch: pytest.MonkeyPatch
):
    """
    A call that a run has time for once is tried once a run, each time as long as it may take, and ends with its
    retries: the end of a run neither cuts one short nor gives any back.
    """
    monkeypatch.setattr(time_budget, "ATTEMPT_S", 2.5)
    customer = world.customer()
    customer.account.answers[:] = [completion(after_s=30)] * 30

    told, runs = await run_to_the_end(worker, customer, options=QUICK | {"timeout_s": 1.5, "max_retries": 2})

    assert told is not None
    assert ("timeout", "127.0.0.1 did not answer within 1.5 s.") == (told["error"]["code"], told["error"]["message"])
    assert runs >= 3 == len(customer.account.received)
    assert [("unanswered", 0, 0)] * 3 == worker.outcomes(customer)


@pytest.mark.parametrize(("max_retries", "tries"), [(1, 3), (4, 6)])
async def test_a_long_wait_gives_no_retry_back(world: World, worker: Worker, max_retries: int, tries: int):
    """What failed before the endpoint asked for a long wait still counts in the run after it."""
    customer = world.customer()
    failing = [error(500)] * (max_retries - 1 or 1)
    customer.account.will_answer(*[*failing, error(429, retry_after="6")] * 12)

    told, runs = await run_to_the_end(worker, customer, options=QUICK | {"max_retries": max_retries})

    assert told is not None
    assert (2, "provider_unavailable") == (runs, told["error"]["code"])
    assert tries == len(customer.account.received)


@pytest.mark.parametrize("named", [{"retry_after_ms": "10"}, {"retry_after": "0"}], ids=["a moment", "no time"])
async def test_an_endpoint_that_answers_nothing_is_asked_no_more_often_than_allowed(
    world: World, worker: Worker, named: dict[str, str]
):
    """A call that is told to wait a moment again and again, while nothing is answered, ends with its retries."""
    customer = world.customer()
    customer.account.answers[:] = [error(429, **named)] * 99

    told, runs = await run_to_the_end(worker, customer, options=QUICK | {"max_retries": 2})

    assert told is not None
    assert ("rate_limited", 1, 3) == (told["error"]["code"], runs, len(customer.account.received))


async def test_many_prompts_share_what_a_deployment_takes(world: World, worker: Worker):
    """
    A job of more prompts than its deployment takes at once, which says for how long to wait, is answered whole: a
    wait uses up no retry while the others are answered.
    """
    customer, busy = world.customer(max_concurrency=8), [0]

    async def around(request: web.Request, _: Answer) -> web.StreamResponse:
        busy[0] += 1
        try:
            taken = completion(after_s=0.1) if busy[0] <= 2 else error(429, retry_after_ms="100")
            return await taken(request)
        finally:
            busy[0] -= 1

    customer.account.around = around
    prompts = [f"{number}?" for number in range(30)]

    told, _ = await run_to_the_end(
        worker, customer, action="multi_chat", input={"prompts": prompts}, options={"max_retries": 1}
    )

    assert told is not None
    assert ("succeeded", 0, 30) == (told["status"], told["output"]["failed"], told["usage"]["calls"])


@pytest.mark.parametrize("retry_after", ["0.01", "60"])
async def test_no_retries_means_one_call(world: World, worker: Worker, retry_after: str):
    """With `max_retries: 0` a call is sent once, whatever the endpoint asks for."""
    customer = world.customer()
    customer.account.will_answer(error(429, retry_after=retry_after))

    told, _ = await run_to_the_end(worker, customer, options={"max_retries": 0})

    assert told is not None
    assert ("rate_limited", 1) == (told["error"]["code"], len(customer.account.received))


async def test_a_refusal_for_good_does_not_wait_for_ever(world: World, worker: Worker):
    """A refusal that only the job wants tried again uses up a retry, though the endpoint names a time."""
    customer = world.customer()
    customer.account.answers[:] = [error(404, retry_after="0.01")] * 9

    told, _ = await run_to_the_end(worker, customer, options=QUICK | {"max_retries": 2, "retry_on_all_errors": True})

    assert told is not None
    assert ("request_rejected", 3) == (told["error"]["code"], len(customer.account.received))


def _refusing(refused: Any, message: str, status: int = 400) -> Any:
    """Stands before an account and refuses what `refused` says of the request's body and path."""

    async def around(request: web.Request, answer: Answer) -> web.StreamResponse:
        return await (error(status, message=message) if refused(await request.json(), request.path) else answer)(
            request
        )

    return around


WINDOW = "This model's maximum context length is 4096 tokens."
ANSWERED = {
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
@pytest.mark.parametrize(("members", "around", "requests"), ANSWERED.values(), ids=ANSWERED.keys())
async def test_a_refusal_that_is_answered_is_not_tried_again(
    world: World, members: dict[str, Any], around: Any, requests: int, retry_on_all_errors: bool
):
    """What the job itself mends, such as a parameter that a model does not take, is asked once in the way refused."""
    customer = world.customer(default_model=f"mended-{retry_on_all_errors}")
    customer.account.around = around

    told = await customer.run(**members, options=QUICK | {"retry_on_all_errors": retry_on_all_errors})

    assert "succeeded" == told["status"]
    assert requests == len(customer.account.received)
