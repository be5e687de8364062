"""Parameters that a provider refuses, in chat jobs: adapted once, reported, kept for a while, and never guessed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from shared.upstream.capabilities import RENAMED, SAMPLING
from tests.support.customers import Customer
from tests.support.endpoint import completion, embeddings, error, reply
from tests.support.workers import Worker


@dataclass(repr=False)
class Model:
    """A model that refuses some parameters, one at a time, as OpenAI and Azure OpenAI do."""

    refused: tuple[str, ...]
    sent: list[dict[str, Any]] = field(default_factory=list)
    """The parameters of each call."""

    def serve(self, customer: Customer) -> Model:
        """Make it answer the customer's calls from now on."""
        customer.account.answers[:] = [self.answer] * 100
        return self

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """See Answer."""
        body = await request.json()
        self.sent.append({name: value for name, value in body.items() if name not in {"model", "messages"}})
        refused = next((name for name in self.refused if name in body), None)
        if refused is None:
            return await completion()(request)
        message = f"Unsupported parameter: '{refused}' is not supported with this model."
        error = {"message": message, "type": "invalid_request_error", "param": refused, "code": "unsupported_parameter"}
        return await reply({"error": error}, status=400)(request)


def asking(**parameters: Any) -> dict[str, Any]:
    """The members of a chat job with these parameters."""
    return {"input": {"prompt": "Hello?", "parameters": parameters}}


async def test_refused_parameters_are_adapted_once_and_reported(worker: Worker):
    """
    A model that refuses one parameter at a time is called until it accepts the request; other parameters are untouched.

    The next job is adapted from the start. A strict one isn't: the refusal is its result.
    """
    customer = worker.customer()
    model = Model(("temperature", "max_tokens", "top_p")).serve(customer)
    others = {"n": 2, "stop": ["\n"], "metadata": {"temperature": "hot"}, "x-own": {"top_p": [1, None]}}

    first = await worker.run(customer, **asking(top_p=0.5, max_tokens=9, temperature=0.2, **others))
    second = await worker.run(customer, **asking(temperature=0, max_tokens=6, seed=1))
    plain = await worker.run(customer, **asking(seed=2))
    strict = await worker.run(customer, **asking(temperature=1), options={"strict": True})

    renamed, *left_out = "max_tokens became max_completion_tokens", "temperature was left out", "top_p was left out"
    assert [left_out[0], renamed, left_out[1]] == first["output"]["adapted"]
    assert ("succeeded", 1) == (first["status"], first["usage"]["calls"])
    assert [left_out[0], renamed] == second["output"]["adapted"]
    assert "adapted" not in plain["output"]
    assert ("failed", "request_rejected", 400, "temperature") == (
        strict["status"],
        strict["error"]["code"],
        strict["error"]["status"],
        strict["error"]["detail"]["param"],
    )
    assert [
        others | {"top_p": 0.5, "max_tokens": 9, "temperature": 0.2},
        others | {"top_p": 0.5, "max_tokens": 9},
        others | {"top_p": 0.5, "max_completion_tokens": 9},
        others | {"max_completion_tokens": 9},
        {"max_completion_tokens": 6, "seed": 1},
        {"seed": 2},
        {"temperature": 1},
    ] == model.sent


async def test_a_provider_that_refuses_everything_is_not_called_forever(worker: Worker):
    """Each adaptation removes a parameter, so the calls end, and the last refusal is the result."""
    customer = worker.customer()
    every = [*sorted(SAMPLING), *RENAMED, *RENAMED.values()]
    model = Model((*every, "messages")).serve(customer)

    result = await worker.run(customer, **asking(**dict.fromkeys(every, 1)))

    assert ("failed", "request_rejected") == (result["status"], result["error"]["code"])
    assert len(SAMPLING) - 1 + 2 == len(model.sent)  # logprobs takes top_logprobs along


async def test_many_prompts_learn_together(worker: Worker):
    """Of many prompts, those in flight are each refused; the others are right at once, and all report it."""
    customer = worker.customer(max_concurrency=2)
    model = Model(("temperature",)).serve(customer)
    request = {"prompts": [str(n) for n in range(20)], "parameters": {"temperature": 1}}

    result = await worker.run(customer, action="multi_chat", input=request)

    assert ("succeeded", 20) == (result["status"], result["usage"]["calls"])
    assert [["temperature was left out"]] * 20 == [answer["adapted"] for answer in result["output"]["answers"]]
    assert 20 < len(model.sent) <= 22


async def test_limits_and_operations_are_learned(worker: Worker):
    """After a refused number of texts, or of chats altogether, the next job's calls are right at once."""
    customer = worker.customer()

    async def answer(request: web.Request) -> web.StreamResponse:
        texts = (await request.json()).get("input", [])
        if len(texts) > 2:
            return await error(400, message="Too many inputs.")(request)
        if request.path.endswith("/chat/completions"):
            return await error(404, message="This is not a chat model.")(request)
        completions = reply({"choices": [{"text": "Hello."}]})
        return await (embeddings if texts else completions)(request)

    customer.account.answers[:] = [answer] * 100
    job = {"action": "embed", "input": {"texts": ["a", "b", "c", "d"]}, "options": {"retry_on_all_errors": True}}

    embedded = [await worker.run(customer, **job) for _ in range(2)]
    chats = [await worker.run(customer, options=job["options"]) for _ in range(2)]

    assert [4, 4] == [result["output"]["vectors"] for result in embedded]
    assert ["Hello.", "Hello."] == [result["output"]["text"] for result in chats]
    paths = [received.path.removeprefix("/openai/v1/") for received in customer.account.received]
    assert ["embeddings"] * 5 + ["chat/completions", "completions", "completions"] == paths
    assert [4, 2, 2, 2, 2] == [len(received.json["input"]) for received in customer.account.received[:5]]
