"""Chats by the Responses API: several answers, stops, limits, and whatever a job says and an endpoint answers."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.actions import chat, multi_chat
from shared.actions.base import Step
from shared.actions.chat import parse_chat
from shared.actions.chat_by_responses import OPERATION, completion_of, read_step
from shared.actions.completion import CHAT
from shared.actions.responses_completion import as_completion, join_choices
from shared.actions.responses_request import responses_request
from shared.contract.chat import check_messages, check_parameters
from shared.errors import InvalidJob, LeaseLost, RateLimited, RequestRejected, UpstreamFacts, UpstreamRetryLater
from shared.upstream.capabilities import Capabilities
from shared.upstream.messages import Operation, Response
from tests.support.memory_context import MemoryContext, in_turn, response, run_action

ONLY_RESPONSES = RequestRejected(
    "This model is only supported in v1/responses and not in v1/chat/completions.", UpstreamFacts(404)
)

NO_TEMPERATURE = RequestRejected(
    "Unsupported parameter: 'temperature' is not supported with this model.",
    UpstreamFacts(400, detail={"param": "temperature"}),
)


def responded(text: str, **more: Any) -> Response:
    """Return a response."""
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    usage = {"input_tokens": 10, "output_tokens": len(text), "total_tokens": 10 + len(text)}
    body = {"id": "resp_1", "object": "response", "status": "completed", "output": [item], "usage": usage}
    return response(body | more)


def context(*responses: Response | Exception, **members: Any) -> MemoryContext:
    """Return the context of a job whose model is known to take responses alone."""
    ctx = MemoryContext(in_turn(*responses), **members)
    ctx.capabilities.learn_replacement(CHAT, OPERATION)
    return ctx


async def run(ctx: MemoryContext, **parameters: Any) -> Any:
    """Run a chat with these parameters."""
    return await run_action(chat, {"prompt": "Hello?", "parameters": parameters}, ctx)


async def test_several_answers_are_as_many_calls():
    """Each is billed, and each answer is a choice."""
    ctx = context(responded("A."), responded("B"), responded("C"))

    outcome = await run(ctx, n=3, temperature=0.5)

    assert ("succeeded", "A.", []) == (outcome.status, outcome.output["text"], outcome.calls)
    assert ["A.", "B", "C"] == [choice["message"]["content"] for choice in outcome.output["choices"]]
    assert ["chat/completions became responses", "n became 1, in 3 calls"] == outcome.output["adapted"]
    assert [2, 1, 1] == [call.consumed().output_tokens for call in ctx.billed]
    assert 1 == len({json.dumps(body) for body in ctx.bodies})
    assert "n" not in ctx.bodies[0]


async def test_what_several_answers_are_asked_for_with_is_in_memory_once():
    """An input may have 16 MiB of pictures, and 128 answers."""
    ctx = context(*[responded("A.")] * 20, max_concurrency=3)

    await run_action(chat, {"prompt": "Look. " * 10_000, "parameters": {"n": 20}}, ctx)

    assert 20 == len(ctx.called)
    assert 1 == len({id(operation.request.content) for operation in ctx.called})


async def test_several_answers_to_each_of_several_prompts():
    """Each call is on record once, in the part of its prompt's step."""
    ctx = context(*[responded("A.")] * 4)

    outcome = await run_action(multi_chat, {"prompts": ["x", "y"], "parameters": {"n": 2}}, ctx)

    assert [2, 2] == [len(answer["choices"]) for answer in outcome.output["answers"]]
    assert {"0000-1": 1, "0000-2": 1, "0001-1": 1, "0001-2": 1} == {
        key: len(step.calls) for key, step in ctx.steps.items() if step.calls
    }


@pytest.mark.parametrize("error", [UpstreamRetryLater(RateLimited("b"), 5), LeaseLost("c"), RateLimited("a")])
async def test_a_later_attempt_makes_the_calls_that_are_missing(error: Exception):
    """What was answered keeps its place, and how it was adapted is not forgotten."""
    ctx = context()
    rest = [responded("A."), error, responded("C")]

    def respond(operation: Operation) -> Response:
        if "temperature" in json.loads(operation.request.content):
            assert operation.adapt(NO_TEMPERATURE)
        return in_turn(rest.pop(0))(operation)

    ctx.respond = respond
    with pytest.raises(type(error)):
        await run(ctx, n=3, temperature=0.5)
    ctx.learned, rest[:] = Capabilities(), [responded("B", content_filters=[])]
    ctx.capabilities.learn_replacement(CHAT, OPERATION)
    outcome = await run(ctx, n=3)

    assert (4, 3, []) == (len(ctx.called), len(ctx.billed), outcome.calls)
    assert ["A.", "B", "C"] == [choice["message"]["content"] for choice in outcome.output["choices"]]
    assert "temperature was left out" in outcome.output["adapted"]


async def test_a_call_that_is_no_answer_is_kept():
    """It was paid for, too; the job ends with it as soon as the others are answered."""
    ctx = context(responded("A."), response(b"Busy\xff"), UpstreamRetryLater(RateLimited("b"), 5), responded("C"))
    with pytest.raises(UpstreamRetryLater):
        await run(ctx, n=3)

    outcome = await run(ctx, n=3)

    assert ("failed", ["answered", "unanswered", "answered"]) == (
        outcome.status,
        [call.outcome for _, step in sorted(ctx.steps.items()) for call in step.calls],
    )
    assert "something that is not a chat completion" in str(outcome.error)
    assert "Busy" in str(outcome.error)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([RateLimited("a"), UpstreamRetryLater(RateLimited("b"), 5)], RateLimited),
        ([UpstreamRetryLater(RateLimited("b"), 5), RateLimited("a")], RateLimited),
        ([RateLimited("a"), LeaseLost("c")], LeaseLost),
    ],
)
async def test_one_call_that_fails_fails_the_chat(errors: list[Exception], expected: type[Exception]):
    """What ends the job counts before what lets it wait."""
    with pytest.raises(expected):
        await run(context(responded("A."), *errors), n=3)


async def test_the_longest_wait_counts():
    """The others would be over by then."""
    waits = [UpstreamRetryLater(RateLimited("a"), 5), UpstreamRetryLater(RateLimited("b"), 50)]

    with pytest.raises(UpstreamRetryLater) as caught:
        await run(context(*waits), n=2)

    assert 50 == caught.value.delay_s


async def test_stops_end_each_answer():
    """And the output says who ended it."""
    outcome = await run(context(responded("1 2 3"), responded("2")), n=2, stop=["3", "4"])

    assert [("1 2 ", "stop"), ("2", "stop")] == [
        (choice["message"]["content"], choice["finish_reason"]) for choice in outcome.output["choices"]
    ]
    assert "stop was looked for in the whole answer" in outcome.output["adapted"]


async def test_sampling_that_the_model_refuses_is_dropped_and_learned_by_effort():
    """Models that take it only without reasoning are asked again for each effort (GPT-5.1, 5.2)."""
    ctx = context()

    def respond(operation: Operation) -> Response:
        body = json.loads(operation.request.content)
        if "temperature" in body and body["reasoning"]["effort"] == "high":
            assert operation.adapt(NO_TEMPERATURE)
        return responded("A.")

    ctx.respond = respond
    adapted = [
        (await run(ctx, temperature=0.5, reasoning_effort=effort)).output["adapted"][1:]
        for effort in ("high", "none", "high")
    ]

    assert [["temperature was left out"], [], ["temperature was left out"]] == adapted
    assert "temperature" not in ctx.bodies[2]


async def test_a_budgets_limit_is_sent():
    """Under the API's name; it is not raised, since the budget covers no more."""
    ctx = context(responded("A."), output_limit=300)
    await run(ctx)
    few = context(responded("A."), output_limit=300)
    await run(few, max_completion_tokens=5)

    assert [300, 5] == [ctx.bodies[0]["max_output_tokens"], few.bodies[0]["max_output_tokens"]]


async def test_what_the_api_does_not_have_is_refused_before_anything_is_bought():
    """Once it is learned, and after the first refusal."""
    for ctx in (context(), MemoryContext(in_turn(ONLY_RESPONSES))):
        with pytest.raises(InvalidJob, match=r"`parameters\.audio` can't be set"):
            await run(ctx, audio={"voice": "alloy"})


async def test_calls_are_side_by_side():
    """None waits for another's answer."""
    ctx = context()
    running = asyncio.Barrier(3)

    async def call(operation: Operation) -> Response:
        ctx.called.append(operation)
        async with asyncio.timeout(5):
            await running.wait()
        return responded("A.")

    ctx.call = call  # type: ignore[method-assign]
    assert 3 == len((await run(ctx, n=3)).output["choices"])


TYPES = [
    *("text", "image_url", "file", "refusal", "input_audio", "function", "custom", "json_schema", "json_object"),
    *("allowed_tools", "grammar", "message", "reasoning", "function_call", "custom_tool_call", "output_text"),
    *("summary_text", "web_search_call"),
]
words = st.sampled_from(
    ["", " ", "text", "none", "high", "auto", "data:image/png;base64,AA==", "https://e.com/a", "{}"]
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-2, 3), st.floats(allow_nan=False, width=16), words)
names = st.sampled_from(
    [
        *(
            "text",
            "image_url",
            "url",
            "detail",
            "file",
            "file_data",
            "filename",
            "refusal",
            "function",
            "custom",
            "name",
        ),
        *("arguments", "input", "parameters", "schema", "json_schema", "id", "content", "format", "grammar", "tools"),
        *("allowed_tools", "call_id", "summary", "encrypted_content", "phase", "annotations", "reason", "effort"),
    ]
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(names, inner, max_size=3),
        st.builds(
            lambda kind, members: {"type": kind, **members},
            st.sampled_from(TYPES),
            st.dictionaries(names, inner, max_size=3),
        ),
    ),
    max_leaves=6,
)
parts = st.builds(
    lambda kind, members: {"type": kind, **members}, st.sampled_from(TYPES), st.dictionaries(names, values, max_size=3)
)
members = st.sampled_from(
    [
        *("tool_calls", "tool_call_id", "name", "refusal", "reasoning_items", "output_items", "phase", "function_call"),
        *("audio", "x"),
    ]
)
messages = st.builds(
    lambda role, content, more: {"role": role, "content": content, **more},
    st.sampled_from(["system", "developer", "user", "assistant", "tool", "function", ""]),
    st.one_of(st.none(), words, st.lists(parts, max_size=3)),
    st.dictionaries(members, st.one_of(values, st.lists(parts, max_size=2)), max_size=2),
)
parameters = st.dictionaries(
    st.sampled_from(
        [
            *("temperature", "n", "stop", "max_tokens", "max_completion_tokens", "tools", "tool_choice", "metadata"),
            *("response_format", "reasoning_effort", "verbosity", "text", "reasoning", "user", "seed", "logprobs", "x"),
            *("logit_bias", "modalities", "store", "prompt_cache_options", "include", "previous_response_id"),
        ]
    ),
    st.one_of(values, st.lists(parts, max_size=2)),
    max_size=4,
)


@given(st.lists(messages, min_size=1, max_size=4), parameters)
def test_any_chat_is_a_request_or_is_refused(conversation: list[dict[str, Any]], settings: dict[str, Any]):
    """What the contract takes becomes JSON for the API, or InvalidJob says why not; nothing is ever stored there."""
    with suppress(InvalidJob):
        check_messages(conversation, at="input.messages")
        check_parameters(settings)
        request = responses_request(conversation, settings)

        assert json.loads(msgspec.json.encode(request.body)).keys() == request.body.keys()
        assert request.body["store"] is False
        assert not {"previous_response_id", "x"} & request.body.keys()
        assert request.count >= 1


bodies = st.dictionaries(
    st.sampled_from(
        ["output", "status", "incomplete_details", "content_filters", "usage", "model", "id", "error", "object"]
    ),
    st.one_of(values, st.lists(parts, max_size=3), st.sampled_from(["completed", "incomplete", "failed"])),
)


@given(st.lists(bodies, min_size=1, max_size=3), st.lists(words.filter(bool), max_size=2))
def test_any_answer_ends_the_job(answers: list[dict[str, Any]], stops: list[str]):
    """Answers that were paid for have an outcome and one call each on record, however little they are responses."""
    outcome = parse_chat(as_completion(response(answers[0]), stops))
    steps = [read_step(response(each), stops, ()) for each in answers]
    stored = [Step(json.loads(msgspec.json.encode(step.value))) for step in steps]
    joined, again = (parse_chat(join_choices([completion_of(step) for step in each])) for each in (steps, stored))

    for each in (outcome, joined):
        assert each.status in {"succeeded", "partial", "failed"}
        assert each.output is None or msgspec.json.encode(each.output)
    assert [1] * (1 + len(answers)) == [len(outcome.calls), *(len(step.calls) for step in steps)]
    assert (joined.status, joined.output) == (again.status, again.output)
