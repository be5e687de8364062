"""Chat jobs on a model without chat completions, over real HTTP: what is sent, learned, paid for and on record."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from aiohttp import web

from shared.contract.budget import Budget
from tests.support.customers import Customer
from tests.support.endpoint import reply
from tests.support.sdks import openai
from tests.support.workers import Worker

ONLY_RESPONSES = "This model is only supported in v1/responses and not in v1/chat/completions."


@dataclass(repr=False)
class Model:
    """A model that answers on the Responses API alone."""

    refused: Counter[int] = field(default_factory=Counter)
    """Statuses with which it refuses responses, and how often."""
    paths: list[str] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    """The bodies that it has answered."""

    def serve(self, customer: Customer) -> Model:
        """Make it answer the customer's calls from now on."""
        customer.account.answers[:] = [self.answer] * 100
        return self

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """See Answer."""
        self.paths.append(request.path.rpartition("/v1/")[2])
        if self.paths[-1] != "responses":
            error = {"message": ONLY_RESPONSES, "type": "invalid_request_error", "param": "model", "code": None}
            return await reply({"error": error}, status=404)(request)
        status = next(iter(self.refused.elements()), None)
        if status is not None:
            self.refused[status] -= 1
            return await reply({"error": {"message": "No.", "code": "x"}}, status=status)(request)
        self.sent.append(await request.json())
        part = {"type": "output_text", "text": "Hello.", "annotations": []}
        body = {
            "id": f"resp_{len(self.sent)}",
            "object": "response",
            "created_at": 1763640000,
            "status": "completed",
            "model": "gpt-6-codex-2026-11-01",
            "output": [{"type": "message", "role": "assistant", "content": [part]}],
            "service_tier": "default",
            "usage": {
                "input_tokens": 30,
                "input_tokens_details": {"cached_tokens": 10},
                "output_tokens": 20,
                "output_tokens_details": {"reasoning_tokens": 15},
                "total_tokens": 50,
            },
        }
        return await reply(body)(request)


def carried(worker: Worker) -> tuple[Customer, Model]:
    """Return a customer whose model takes responses alone, and the model."""
    customer = worker.customer(connection=None)
    worker.connect(customer, endpoint=f"{customer.account.base}/v1", provider="openai", default_model="gpt-6-codex")
    return customer, Model().serve(customer)


def asking(**parameters: Any) -> dict[str, Any]:
    """The members of a chat job with these parameters."""
    return {"input": {"prompt": "Hello?", "parameters": parameters}}


async def test_a_chat_is_carried_and_the_next_ones_are_right_at_once(worker: Worker):
    """One record a job, with all counts, under the job's own action."""
    customer, model = carried(worker)

    first = await worker.run(customer, **asking())
    second = await worker.run(customer, action="multi_chat", input={"prompts": ["a", "b"]})

    assert ["chat/completions", *["responses"] * 3] == model.paths
    for output in (first["output"], *second["output"]["answers"]):
        assert ("Hello.", "stop", ["chat/completions became responses"]) == (
            output["text"],
            output["finish_reason"],
            output["adapted"],
        )
    assert {"model": "gpt-6-codex", "input": [{"role": "user", "content": "Hello?"}], "store": False} == model.sent[0]
    rows = worker.usage(customer)
    assert ["chat", "multi_chat", "multi_chat"] == sorted(row["action"] for row in rows)
    assert {(30, 10, 20, 15, 50, "answered", "standard", "gpt-6-codex-2026-11-01")} == {
        (
            row["input_tokens"],
            row["cached_tokens"],
            row["output_tokens"],
            row["reasoning_tokens"],
            row["total_tokens"],
            row["outcome"],
            row["processing"],
            row["answered_by"],
        )
        for row in rows
    }


async def test_the_request_is_the_official_clients(worker: Worker):
    """What a chat becomes is what the client sends for the same; it reads the same answer."""
    customer, model = carried(worker)
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    picture = "data:image/png;base64,AAAA"
    parameters = {
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema, "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        "reasoning_effort": "low",
        "verbosity": "low",
        "max_completion_tokens": 99,
        "metadata": {"order": "7"},
        "user": "u",
    }
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture}}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "17"},
    ]

    result = await worker.run(customer, input={"messages": messages, "parameters": parameters})
    async with openai.AsyncOpenAI(base_url=f"{customer.account.base}/v1", api_key=customer.account.key) as client:
        response = await client.responses.create(
            model="gpt-6-codex",
            input=[
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "input_image", "image_url": picture, "detail": "auto"}]},
                {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "call_1", "output": "17"},
            ],
            tools=[{"type": "function", "name": "f", "parameters": schema, "strict": True}],
            tool_choice={"type": "function", "name": "f"},
            text={"format": {"type": "json_schema", "name": "a", "schema": schema}, "verbosity": "low"},
            reasoning={"effort": "low"},
            max_output_tokens=99,
            metadata={"order": "7"},
            user="u",
            store=False,
        )

    ours, theirs = model.sent
    assert theirs == ours
    assert response.output_text == result["output"]["text"]
    assert response.usage is not None
    assert response.usage.total_tokens == result["usage"]["total_tokens"]


async def test_what_is_learned_is_the_customers_own(worker: Worker):
    """Another customer's model of the same name is called as the job says."""
    (first, _), (second, model) = carried(worker), carried(worker)
    await worker.run(first, **asking())

    await worker.run(second, **asking())

    assert ["chat/completions", "responses"] == model.paths


async def test_a_strict_job_is_refused(worker: Worker):
    """As it is sent: it is not carried, though others are."""
    customer, model = carried(worker)
    await worker.run(customer, **asking())

    result = await worker.run(customer, **asking(), options={"strict": True})

    assert ("failed", "request_rejected", 404) == (
        result["status"],
        result["error"]["code"],
        result["error"]["status"],
    )
    assert ONLY_RESPONSES in result["error"]["message"]
    assert "chat/completions" == model.paths[-1]


async def test_each_of_several_answers_is_on_record(worker: Worker):
    """As many calls, and as many choices."""
    customer, model = carried(worker)

    result = await worker.run(customer, **asking(n=3))

    assert (3, 3, 60) == (
        len(result["output"]["choices"]),
        result["usage"]["calls"],
        result["usage"]["output_tokens"],
    )
    assert 3 == len(worker.usage(customer)) == len(model.sent)


async def test_answers_beside_a_call_that_fails_are_on_record_as_lost(worker: Worker):
    """They were paid for, and the job has no use for them."""
    customer, model = carried(worker)
    model.refused[400] = 1

    result = await worker.run(customer, **asking(n=3))

    assert ("failed", "request_rejected") == (result["status"], result["error"]["code"])
    assert ["lost", "lost"] == [row["outcome"] for row in worker.usage(customer)]


async def test_a_call_is_retried_as_any_other(worker: Worker):
    """A 429 and a 503 cost time, and no record."""
    customer, model = carried(worker)
    model.refused.update([429, 503])

    result = await worker.run(customer, **asking(), options={"retry_delay_ms": 1})

    assert ("succeeded", 1) == (result["status"], len(worker.usage(customer)))


async def test_a_hard_budget_covers_each_of_several_answers(worker: Worker):
    """The input goes in with each of them, and counts as often; the limit that is sent is that of one answer."""
    customer, model = carried(worker)
    budget = Budget(limit=Decimal(8000), unit="tokens", period="month")
    await worker.services.customer_records.change(
        customer.name, lambda record: record.with_budgets({"main": budget}), by="ann", subject="budgets"
    )
    job: dict[str, Any] = {"input": {"prompt": "x" * 2000, "parameters": {"n": 2, "max_tokens": 300}}}

    fits = await worker.run(customer, **job)
    job["input"]["parameters"]["n"] = 4
    refused = await worker.run(customer, **job)

    assert "succeeded" == fits["status"]
    assert [300, 300] == [body["max_output_tokens"] for body in model.sent]
    assert "budget_exceeded" == refused["error"]["code"]
