"""Chats on models that take chat completions, and on older ones that take completions."""

from __future__ import annotations

from typing import Any

import pytest

from shared.actions import chat, multi_chat, summarize
from shared.actions.completion import CHAT, COMPLETIONS, as_prompt, wants_other
from shared.errors import RequestRejected, UpstreamFacts
from tests.support.memory_context import MemoryContext, completion, in_turn, response, run_action

NOT_CHAT = (
    "This is not a chat model and thus not supported in the v1/chat/completions endpoint. "
    "Did you mean to use v1/completions?"
)
IS_CHAT = (
    "This is a chat model and not supported in the v1/completions endpoint. Did you mean to use v1/chat/completions?"
)
AZURE_NOT_CHAT = "The chatCompletion operation does not work with the specified model, gpt-35-turbo-instruct."
AZURE_IS_CHAT = "The completion operation does not work with the specified model, gpt-4o."
NEITHER = "This model is only supported in v1/responses and not in v1/completions."
HELLO = {"prompt": "Hello?"}


def refusal(message: str, status: int = 404) -> RequestRejected:
    """Return a provider's refusal."""
    return RequestRejected(message, UpstreamFacts(status))


def text(text: str) -> Any:
    """Return a response of completions."""
    return response({"choices": [{"index": 0, "finish_reason": "stop", "text": text}]})


def paths(ctx: MemoryContext) -> list[str]:
    """Return the operations that were called."""
    return [operation.request.url.partition("/v1/")[2] for operation in ctx.called]


async def answer(ctx: MemoryContext, **members: Any) -> str | None:
    """Return the text of a chat."""
    outcome = await run_action(chat, HELLO | members, ctx)
    return outcome.output["text"]


@pytest.mark.parametrize(
    ("operation", "status", "message", "expected"),
    [
        (CHAT, 404, NOT_CHAT, True),
        (CHAT, 400, AZURE_NOT_CHAT, True),
        (COMPLETIONS, 404, IS_CHAT, True),
        (COMPLETIONS, 400, AZURE_IS_CHAT, True),
        (CHAT, 500, NOT_CHAT, False),
        (CHAT, 404, IS_CHAT, False),
        (COMPLETIONS, 404, NOT_CHAT, False),
        (COMPLETIONS, 404, NEITHER, False),
        (COMPLETIONS, 400, AZURE_NOT_CHAT, False),
    ],
)
def test_refusals_that_name_the_other_operation(operation: str, status: int, message: str, expected: bool):
    """OpenAI's and Azure's refusals of either operation name the other one; other refusals don't."""
    assert expected is wants_other(refusal(message, status), operation)


async def test_completions_model_is_learned():
    """A model that refuses chats is called with completions, and at once by later chats and summaries."""
    ctx = MemoryContext(in_turn(refusal(NOT_CHAT), *map(text, ("One.", "Two.", "Three.", "Four."))))

    first = await run_action(chat, HELLO | {"parameters": {"max_completion_tokens": 99}}, ctx)
    second = await run_action(multi_chat, {"prompts": ["Hi"]}, ctx)
    third = await run_action(summarize, {"text": "Some text."}, ctx)
    await answer(ctx, parameters={"max_completion_tokens": 99, "max_tokens": 5})

    adapted = ["chat/completions became completions"]
    assert [("One.", adapted), ("Two.", adapted), ("Three.", adapted)] == [
        (output["text"], output["adapted"]) for output in (first.output, second.output["answers"][0], third.output)
    ]
    assert [CHAT, *[COMPLETIONS] * 4] == paths(ctx)
    # Completions have only the older name of this parameter, which takes precedence.
    assert {"model": "m", "prompt": "Hello?", "max_tokens": 99} == ctx.bodies[1]
    assert {"model": "m", "prompt": "Hello?", "max_tokens": 5} == ctx.bodies[4]
    assert "Hi" == ctx.bodies[2]["prompt"]
    assert ctx.bodies[3]["prompt"].startswith("You write summaries.")
    assert ctx.bodies[3]["prompt"].endswith("\n\nUser: <text>\nSome text.\n</text>\n\nAssistant:")
    # No retry of the refusal comes first, whatever the job's options say.
    assert [True, False] == [ctx.called[0].is_final(refusal(words)) for words in (NOT_CHAT, "Invalid value.")]


async def test_deployment_that_became_a_chat_model_is_learned():
    """If a deployment's model is replaced by one for chats, its refusal of completions is learned too."""
    ctx = MemoryContext(
        in_turn(refusal(NOT_CHAT), text("One."), refusal(IS_CHAT), completion("Two."), completion("Three."))
    )

    assert ["One.", "Two.", "Three."] == [await answer(ctx) for _ in range(3)]
    assert [CHAT, COMPLETIONS, COMPLETIONS, CHAT, CHAT] == paths(ctx)


async def test_model_that_takes_neither_fails_with_the_last_refusal():
    """If a model refuses both operations, the job fails with the second refusal, and nothing is learned."""
    ctx = MemoryContext(in_turn(*[refusal(NOT_CHAT), refusal(NEITHER)] * 2))

    for _ in range(2):
        with pytest.raises(RequestRejected, match="only supported in v1/responses"):
            await answer(ctx)

    assert [CHAT, COMPLETIONS] * 2 == paths(ctx)


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}


@pytest.mark.parametrize(
    ("members", "strict", "message"),
    [
        pytest.param({}, True, NOT_CHAT, id="strict job"),
        pytest.param({"messages": [{"role": "user", "content": [IMAGE]}]}, False, NOT_CHAT, id="image"),
        pytest.param({}, False, "Invalid value.", id="other refusal"),
    ],
)
async def test_refusal_stands(members: dict[str, Any], strict: bool, message: str):
    """A strict job, one whose messages hold more than text, and one refused for another reason are called once."""
    ctx = MemoryContext(in_turn(refusal(message)), strict=strict)

    with pytest.raises(RequestRejected, match=message):
        await run_action(chat, members or HELLO, ctx)

    assert [CHAT] == paths(ctx)


PARTS = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}]


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([{"role": "user", "content": "Hi"}], "Hi"),
        (
            [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": PARTS},
                {"role": "assistant", "content": "Yes?"},
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": "Go on."},
            ],
            "Be kind.\n\nUser: Hello\nthere\n\nAssistant: Yes?\n\nBe brief.\n\nUser: Go on.\n\nAssistant:",
        ),
        ([{"role": "assistant", "tool_calls": []}], None),
        ([{"role": "user", "content": [*PARTS, IMAGE]}], None),
    ],
)
def test_messages_become_a_prompt(messages: list[dict[str, Any]], prompt: str | None):
    """A single user message is the prompt; else messages are labelled by role, and the assistant has the last turn."""
    assert prompt == as_prompt(messages)
