"""Chat jobs on a model without chat completions, over real HTTP: what is sent, learned, paid for and on record."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from shared.contract.budget import Budget
from tests.support.carried_jobs import ONLY_RESPONSES, asking, carried, connect
from tests.support.endpoint import error, reply
from tests.support.sdks import openai
from tests.support.several_connections import BOTH, NO_QUOTA, connect_second, served
from tests.support.workers import Worker


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


@pytest.mark.long
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


async def test_answers_beside_a_call_that_fails_are_on_record(worker: Worker):
    """They were paid for, and are kept, though the job has no use for them."""
    customer, model = carried(worker)
    model.refused[400] = 1

    result = await worker.run(customer, **asking(n=3))

    assert ("failed", "request_rejected") == (result["status"], result["error"]["code"])
    assert ["answered", "answered"] == [row["outcome"] for row in worker.usage(customer)]


async def test_answers_beside_a_call_that_waits_are_not_bought_again(worker: Worker):
    """Another worker goes on, which buys the missing one, in its place; also if the model was refused a parameter."""
    customer, model = carried(worker)
    model.text, model.faults[2] = "Answer {}.", error(429, retry_after="60")
    names = {"type": "invalid_request_error", "param": "temperature", "code": "unsupported_parameter"}
    refusal = {"error": {"message": "Unsupported parameter: 'temperature'.", **names}}
    model.faults[1] = reply(refusal, status=400)

    assert await worker.deliver(customer, job_id="job", **asking(n=3, temperature=0.5)) is None
    ((message, _),) = worker.requeued()
    kept = len(model.sent)
    result = await worker.another().run(customer, message)

    assert (2, 3) == (kept, len(model.sent))
    assert 3 == len({choice["message"]["content"] for choice in result["output"]["choices"]})
    assert (3, 60, 90) == tuple(result["usage"][name] for name in ("calls", "output_tokens", "input_tokens"))
    assert [("answered", 1, 50)] * 3 == worker.outcomes(customer)
    assert "temperature was left out" in result["output"]["adapted"]


async def test_answers_are_kept_when_the_key_changes(worker: Worker):
    """The calls that the old key is refused for are made with the new one."""
    customer, model = carried(worker, max_concurrency=1)
    model.text = "Answer {}."

    async def rotate(request: web.Request) -> web.StreamResponse:
        del worker.endpoint.accounts[customer.account.key]
        customer.account = worker.endpoint.account()
        connect(worker, customer, max_concurrency=1)
        model.serve(customer)
        return await model.answer(request)

    model.faults[2] = rotate

    result = await worker.run(customer, **asking(n=3))

    assert ("succeeded", 1, 3) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert ["Answer 1.", "Answer 2.", "Answer 3."] == [
        choice["message"]["content"] for choice in result["output"]["choices"]
    ]
    assert [("answered", 1, 50)] * 3 == worker.outcomes(customer)


async def test_another_connection_makes_the_calls_that_are_missing(worker: Worker):
    """Though its model takes chat completions, which would buy all answers again."""
    customer, model = carried(worker, max_concurrency=1)
    second = connect_second(worker, customer)
    model.text, model.faults[3] = "Answer {}.", NO_QUOTA

    result = await worker.run(customer, connection=BOTH, model="gpt-6", **asking(n=3))

    assert ("succeeded", "second", [("default", "quota_exhausted")]) == served(result)
    assert ["Answer 1.", "Answer 2.", "Fine."] == [
        choice["message"]["content"] for choice in result["output"]["choices"]
    ]
    assert ["/openai/v1/responses"] == [request.path for request in second.received]
    records = sorted((row["connection"], row["outcome"]) for row in worker.usage(customer))
    assert [*[("default", "answered")] * 2, ("second", "answered")] == records


async def test_one_answer_is_no_step(worker: Worker):
    """Nor are the two of a chat whose model makes several a call."""
    customer, _ = carried(worker)
    await worker.run(customer, **asking())
    await worker.run(worker.customer(), **asking(n=2))

    assert [] == [key for _, key in worker.table.rows if key.startswith("s_")]


async def test_each_of_several_prompts_keeps_its_answers(worker: Worker):
    """A part of `multi_chat` is one step once it is done; until then, each of its calls is on record and kept."""
    customer, model = carried(worker, max_concurrency=1)
    model.text, model.faults[4] = "Answer {}.", error(429, retry_after="60")
    job = {"action": "multi_chat", "input": {"prompts": ["a", "b"], "parameters": {"n": 3}}}

    assert await worker.deliver(customer, job_id="job", **job) is None
    ((message, _),) = worker.requeued()
    kept = len(model.sent)
    result = await worker.another().run(customer, message)

    answers = [[choice["message"]["content"] for choice in each["choices"]] for each in result["output"]["answers"]]
    assert [["Answer 1.", "Answer 2.", "Answer 3."], ["Answer 4.", "Answer 5.", "Answer 6."]] == answers
    assert (3, 6, 6) == (kept, len(model.sent), result["usage"]["calls"])
    assert [("answered", 1, 50)] * 6 == worker.outcomes(customer)


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
