"""Parameters that a provider refuses, in chat jobs: adapted once, reported, kept for a while, and never guessed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from shared.upstream.capabilities import (
    MAX_AGE_S,
    RENAMED,
    SAMPLING,
    Capabilities,
)
from tests.support.customers import Customer
from tests.support.endpoint import Answer, completion, error, reply
from tests.support.manual_clock import ManualClock
from tests.support.workers import OpenWorker, Worker

RENAMING = "max_tokens became max_completion_tokens"


def refusal(parameter: str | None, *, code: str = "unsupported_parameter", message: str = "") -> Answer:
    """A refusal of a parameter as OpenAI and Azure OpenAI write it."""
    text = message or f"Unsupported parameter: '{parameter}' is not supported with this model."
    body = {"error": {"message": text, "type": "invalid_request_error", "param": parameter, "code": code}}
    return reply(body, status=400, headers={"x-request-id": "req-e"})


def foundry_refusal(parameter: str) -> Answer:
    """A refusal of a parameter as Foundry's older route writes it."""
    body = {
        "status": 422,
        "code": "parameter_not_supported",
        "detail": {"loc": ["body", parameter], "input": "1"},
        "message": "One of the parameters contain invalid values.",
    }
    return reply(body, status=422)


@dataclass(repr=False)
class Model:
    """A model that refuses some parameters, one at a time."""

    refused: tuple[str, ...]
    seen: list[dict[str, Any]] = field(default_factory=list)

    def serve(self, customer: Customer, times: int = 100) -> Model:
        """Make it answer the customer's calls from now on."""
        customer.account.answers[:] = [self.answer] * times
        return self

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """See Answer."""
        body = await request.json()
        self.seen.append(body)
        refused = next((name for name in self.refused if name in body), None)
        return await (refusal(refused) if refused else completion())(request)


def asking(**parameters: Any) -> dict[str, Any]:
    """The members of a chat job with these parameters."""
    return {"input": {"prompt": "Hello?", "parameters": parameters}}


def sent(customer: Customer) -> list[dict[str, Any]]:
    """The parameters of each call."""
    return [
        {name: value for name, value in received.json.items() if name not in {"model", "messages"}}
        for received in customer.account.received
    ]


async def test_max_tokens_becomes_max_completion_tokens(worker: Worker):
    """A refused `max_tokens` is sent again under its new name, and the result reports it."""
    customer = worker.customer()
    customer.account.will_answer(refusal("max_tokens"))

    result = await worker.run(customer, **asking(max_tokens=50, seed=7))

    assert ("succeeded", [RENAMING]) == (result["status"], result["output"]["adapted"])
    assert [{"max_tokens": 50, "seed": 7}, {"max_completion_tokens": 50, "seed": 7}] == sent(customer)
    assert (1, 1) == (result["usage"]["calls"], len(worker.usage(customer)))


@pytest.mark.parametrize("parameter", sorted(SAMPLING))
async def test_a_refused_sampling_parameter_is_left_out(worker: Worker, parameter: str):
    """A refused sampling parameter is dropped; the caller's other parameters are untouched."""
    customer = worker.customer()
    customer.account.will_answer(refusal(parameter))
    others = {"seed": 7, "stop": ["\n"], "metadata": {"temperature": "hot"}, "x-own": {"top_p": [1, None]}}

    result = await worker.run(customer, **asking(**{parameter: 1}, **others))

    assert [f"{parameter} was left out"] == result["output"]["adapted"]
    assert [{parameter: 1, **others}, others] == sent(customer)


async def test_several_are_adapted_one_after_the_other(worker: Worker):
    """A model that refuses one parameter at a time is called until it accepts the request."""
    customer = worker.customer()
    Model(("temperature", "max_tokens", "top_p")).serve(customer)

    result = await worker.run(customer, **asking(top_p=0.5, max_tokens=9, temperature=0.2, n=2))

    assert ["temperature was left out", RENAMING, "top_p was left out"] == result["output"]["adapted"]
    assert 4 == len(customer.account.received)
    assert {"n": 2, "max_completion_tokens": 9} == sent(customer)[-1]


@pytest.mark.parametrize(
    "answer",
    [
        refusal("temperature", code="unsupported_value", message="'temperature' does not support 0.2."),
        refusal(None, code="", message="Unsupported value: 'temperature' does not support 0.2 with this model."),
        refusal(None, code="", message='Unrecognized request argument supplied: "temperature"'),
        error(400, "unknown_parameter", "Unknown parameter: 'temperature'."),
        foundry_refusal("temperature"),
    ],
    ids=["value", "message only", "argument", "unknown", "foundry"],
)
async def test_every_form_of_refusal_is_understood(worker: Worker, answer: Answer):
    """`unsupported_value`, Foundry's `detail.loc`, and a message that only quotes the name are refusals of it."""
    customer = worker.customer()
    customer.account.will_answer(answer)

    result = await worker.run(customer, **asking(temperature=0.2))

    assert ["temperature was left out"] == result["output"]["adapted"]
    assert [{"temperature": 0.2}, {}] == sent(customer)


async def test_foundrys_older_route_is_adapted_to(worker: Worker):
    """A 422 of `/models` that points at the parameter leads to one more call without it."""
    customer = worker.customer(endpoint=f"{worker.endpoint.url}/models", provider="foundry")
    customer.account.will_answer(foundry_refusal("logprobs"))

    result = await worker.run(customer, **asking(logprobs=True))

    assert ["logprobs was left out"] == result["output"]["adapted"]
    assert ["/models/chat/completions"] * 2 == [received.path for received in customer.account.received]


async def test_an_adaptation_is_remembered(worker: Worker):
    """The next job of the same model makes one call, adapted from the start, and reports it."""
    customer = worker.customer()
    Model(("max_tokens", "temperature")).serve(customer)
    await worker.run(customer, **asking(max_tokens=5, temperature=1))

    result = await worker.run(customer, **asking(temperature=0, max_tokens=6, seed=1))
    plain = await worker.run(customer, **asking(seed=2))

    assert 3 + 1 + 1 == len(customer.account.received)
    assert {"max_completion_tokens": 6, "seed": 1} == sent(customer)[3]
    assert [RENAMING, "temperature was left out"] == result["output"]["adapted"]
    assert "adapted" not in plain["output"]


async def test_an_adaptation_is_for_one_model_at_one_endpoint(worker: Worker):
    """Another model, or the same at another endpoint, gets the request unchanged."""
    customer = worker.customer()
    worker.connect(customer, "other", endpoint=f"{worker.endpoint.url}/elsewhere/openai/v1")
    customer.account.will_answer(refusal("temperature"))
    await worker.run(customer, model="o9-mine", **asking(temperature=1))

    await worker.run(customer, model="gpt-mine", **asking(temperature=1))
    await worker.run(customer, model="o9-mine", connection="other", **asking(temperature=1))
    await worker.run(customer, model="o9-mine", **asking(temperature=1))

    assert [{"temperature": 1}, {}, {"temperature": 1}, {"temperature": 1}, {}] == sent(customer)


async def test_an_adaptation_is_for_one_reasoning_effort(worker: Worker):
    """GPT-5.1 and 5.2 take sampling parameters only without reasoning, so each effort has its own adaptations."""
    customer = worker.customer()

    async def model(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        refused = "temperature" in body and body.get("reasoning_effort", "none") != "none"
        return await (refusal("temperature") if refused else completion())(request)

    customer.account.answers[:] = [model] * 6

    for effort in ("high", "none", "high"):
        await worker.run(customer, **asking(temperature=0, reasoning_effort=effort))
    await worker.run(customer, **asking(temperature=0))

    high, none = {"reasoning_effort": "high"}, {"reasoning_effort": "none"}
    warm = {"temperature": 0}
    assert [warm | high, high, warm | none, high, warm] == sent(customer)


async def test_an_adaptation_is_forgotten_after_an_hour(open_worker: OpenWorker):
    """A deployment can be given another model: after an hour the parameter is tried again."""
    clock = ManualClock()
    worker = open_worker(capabilities=Capabilities(clock=clock))
    customer = worker.customer()
    customer.account.will_answer(refusal("temperature"))
    await worker.run(customer, **asking(temperature=1))
    clock.advance(MAX_AGE_S - 1)
    before = await worker.run(customer, **asking(temperature=1))
    clock.advance(2)
    after = await worker.run(customer, **asking(temperature=1))

    assert ["temperature was left out"] == before["output"]["adapted"]
    assert "adapted" not in after["output"]
    assert [{"temperature": 1}, {}, {}, {"temperature": 1}] == sent(customer)


async def test_a_strict_job_is_sent_unchanged(worker: Worker):
    """`options.strict` turns adaptation off: the refusal is the result, even if an adaptation was learned before."""
    customer = worker.customer()
    model = Model(("temperature",)).serve(customer)
    await worker.run(customer, **asking(temperature=1))

    result = await worker.run(customer, **asking(temperature=1), options={"strict": True})

    assert ("failed", "request_rejected", 400) == (
        result["status"],
        result["error"]["code"],
        result["error"]["status"],
    )
    assert "temperature" == result["error"]["detail"]["param"]
    assert {"temperature": 1} == {name: model.seen[-1][name] for name in model.seen[-1] if name == "temperature"}
    assert 3 == len(model.seen)


@pytest.mark.parametrize(
    ("answer", "parameters"),
    [
        (refusal("tools"), {"tools": []}),
        (refusal("n"), {"n": 2}),
        (refusal("reasoning_effort", code="unsupported_value"), {"reasoning_effort": "none"}),
        (refusal("messages"), {}),
        (refusal("model"), {}),
        (refusal("temperature"), {}),
        (refusal("temperature", code="invalid_value", message="'temperature' is above 2."), {"temperature": 3}),
        (refusal("messages[0].content", code="invalid_type", message="Expected a string."), {"temperature": 1}),
        (error(400, "context_length_exceeded", "Too many tokens in 'messages'."), {"max_tokens": 9}),
        (error(404, "unsupported_parameter", "Unsupported parameter: 'temperature'."), {"temperature": 1}),
        (foundry_refusal("n"), {"n": 2}),
    ],
)
async def test_a_refusal_of_something_else_is_the_result(worker: Worker, answer: Answer, parameters: dict[str, Any]):
    """A parameter that can't be changed, is missing, or was refused for its value ends the job after one call."""
    customer = worker.customer()
    customer.account.will_answer(answer)

    result = await worker.run(customer, **asking(**parameters))

    assert "failed" == result["status"]
    assert [parameters] == sent(customer)


async def test_a_provider_that_refuses_everything_is_not_called_forever(worker: Worker):
    """Each adaptation removes a parameter, so the calls end, and the last refusal is the result."""
    customer = worker.customer()
    every = dict.fromkeys([*sorted(SAMPLING), "max_tokens", "max_completion_tokens"], 1)

    async def refuse(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        name = next((name for name in (*sorted(SAMPLING), *RENAMED) if name in body), "max_completion_tokens")
        return await refusal(name)(request)

    customer.account.answers[:] = [refuse] * 100

    result = await worker.run(customer, **asking(**every))

    assert ("failed", "request_rejected") == (result["status"], result["error"]["code"])
    assert len(SAMPLING) + 2 == len(customer.account.received)


async def test_the_newer_of_two_names_is_kept(worker: Worker):
    """If the job has both names of a limit, the refused one is dropped and the other is unchanged."""
    customer = worker.customer()
    customer.account.will_answer(refusal("max_tokens"))

    await worker.run(customer, **asking(max_tokens=5, max_completion_tokens=9))

    assert {"max_completion_tokens": 9} == sent(customer)[-1]


async def test_many_prompts_learn_together(worker: Worker):
    """Of many prompts, those in flight are each refused; the others are right at once, and all report it."""
    customer = worker.customer(max_concurrency=2)
    Model(("temperature",)).serve(customer)
    request = {"prompts": [str(n) for n in range(20)], "parameters": {"temperature": 1}}

    result = await worker.run(customer, action="multi_chat", input=request)

    assert "succeeded" == result["status"]
    assert [["temperature was left out"]] * 20 == [answer["adapted"] for answer in result["output"]["answers"]]
    assert 20 < len(customer.account.received) <= 22
    assert 20 == result["usage"]["calls"]
