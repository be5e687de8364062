"""Chats on models that take chat completions, on older ones that take completions, and on newer ones that don't."""

from __future__ import annotations

from typing import Any

import pytest

from shared.actions import chat, multi_chat, summarize
from shared.actions.chat_routes import COMPLETIONS, RESPONSES, as_prompt, names_another
from shared.actions.completion import CHAT
from shared.errors import ModelNotFound, RequestRejected, UpstreamFacts
from tests.support.memory_context import MemoryContext, completion, in_turn, response, run_action
from tests.support.rows import every_row

NOT_CHAT = (
    "This is not a chat model and thus not supported in the v1/chat/completions endpoint. "
    "Did you mean to use v1/completions?"
)
IS_CHAT = (
    "This is a chat model and not supported in the v1/completions endpoint. Did you mean to use v1/chat/completions?"
)
AZURE_NOT_CHAT = "The chatCompletion operation does not work with the specified model, gpt-35-turbo-instruct."
AZURE_IS_CHAT = "The completion operation does not work with the specified model, gpt-4o."
ONLY_RESPONSES = "This model is only supported in v1/responses and not in v1/chat/completions."
NEITHER = "This model is only supported in v1/responses and not in v1/completions."
NO_TOOLS = (
    "Function tools with reasoning_effort are not supported for gpt-5.6-sol in /v1/chat/completions. To use function "
    "tools, use /v1/responses or set reasoning_effort to 'none'."
)
NO_TOOLS_EITHER = (
    "Function tools with reasoning_effort are not supported for gpt-5.4 in /v1/chat/completions. Please use "
    "/v1/responses instead."
)
NO_RESPONSES = "The requested model 'gpt-audio' is not supported with the Responses API."
DEPLOYMENT = "https://r.openai.azure.com/openai/deployments/m"
"""An endpoint without responses."""
TOOLS = [{"type": "function", "function": {"name": "f"}}]
HELLO = {"prompt": "Hello?"}


def refusal(message: str, status: int = 404) -> RequestRejected:
    """Return a provider's refusal."""
    return RequestRejected(message, UpstreamFacts(status))


def text(text: str) -> Any:
    """Return a response of completions."""
    return response({"choices": [{"index": 0, "finish_reason": "stop", "text": text}]})


def responded(text: str) -> Any:
    """Return a response of the Responses API."""
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    return response({"id": "resp_1", "object": "response", "status": "completed", "output": [item]})


def paths(ctx: MemoryContext) -> list[str]:
    """Return the operations that were called."""
    return [getattr(operation, "name", "") for operation in ctx.called]


async def answer(ctx: MemoryContext, **members: Any) -> str | None:
    """Return the text of a chat."""
    outcome = await run_action(chat, HELLO | members, ctx)
    return outcome.output["text"]


@every_row(
    ("operation", "status", "message", "expected"),
    [
        (CHAT, 404, NOT_CHAT, True),
        (CHAT, 400, AZURE_NOT_CHAT, True),
        (COMPLETIONS, 404, IS_CHAT, True),
        (COMPLETIONS, 400, AZURE_IS_CHAT, True),
        (CHAT, 500, NOT_CHAT, False),
        (CHAT, 404, IS_CHAT, False),
        (COMPLETIONS, 404, NOT_CHAT, False),
        (COMPLETIONS, 404, NEITHER, True),
        (CHAT, 404, ONLY_RESPONSES, True),
        (CHAT, 400, NO_TOOLS, True),
        (CHAT, 400, NO_TOOLS_EITHER, True),
        (RESPONSES, 400, NO_RESPONSES, True),
        # A batch's line, which an earlier attempt wrote, has the answer to another operation.
        (RESPONSES, 404, ONLY_RESPONSES, False),
        (RESPONSES, 404, NOT_CHAT, False),
        (RESPONSES, 400, AZURE_NOT_CHAT, False),
        (RESPONSES, 400, NO_TOOLS, False),
        (COMPLETIONS, 400, AZURE_NOT_CHAT, False),
    ],
)
def test_refusals_that_name_the_other_operation(operation: str, status: int, message: str, expected: bool):
    """OpenAI's and Azure's refusals of either operation name the other one; other refusals don't."""
    assert expected is names_another(refusal(message, status), operation)


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
    """If a model refuses all operations of its endpoint, the last refusal stands, and nothing is learned."""
    ctx = MemoryContext(in_turn(*[refusal(NOT_CHAT), refusal(NEITHER)] * 2), endpoint=DEPLOYMENT)

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
    ctx = MemoryContext(in_turn(refusal(message)), strict=strict, endpoint=DEPLOYMENT)

    with pytest.raises(RequestRejected, match=message):
        await run_action(chat, members or HELLO, ctx)

    assert [CHAT] == paths(ctx)


async def test_model_of_responses_is_learned():
    """Whichever of OpenAI's or Azure's sentences says so; chats, summaries and all others then go there at once."""
    for refusals in (
        [refusal(ONLY_RESPONSES)],
        [refusal(NOT_CHAT), refusal(NEITHER)],
        [refusal(AZURE_NOT_CHAT, 400)],
    ):
        ctx = MemoryContext(in_turn(*refusals, *map(responded, ("One.", "Two.", "Three."))))

        first = await run_action(chat, HELLO, ctx)
        second = await run_action(multi_chat, {"prompts": ["Hi"]}, ctx)
        third = await run_action(summarize, {"text": "Some text."}, ctx)

        adapted = ["chat/completions became responses"]
        assert [("One.", adapted), ("Two.", adapted), ("Three.", adapted)] == [
            (output["text"], output["adapted"]) for output in (first.output, second.output["answers"][0], third.output)
        ]
        assert [*[CHAT, COMPLETIONS][: len(refusals)], *[RESPONSES] * 3] == paths(ctx)
        assert {"model": "m", "input": [{"role": "user", "content": "Hello?"}], "store": False} == ctx.bodies[-3]
        assert ctx.called[0].is_final(refusal(ONLY_RESPONSES))


async def test_azures_sentence_is_the_same_for_all():
    """Responses are called first, since few models are older; whatever they say, completions may be what it takes."""
    older = MemoryContext(in_turn(refusal(AZURE_NOT_CHAT, 400), refusal("Not here.", 400), text("One."), text("Two.")))

    assert ["One.", "Two."] == [await answer(older) for _ in range(2)]
    assert [CHAT, RESPONSES, COMPLETIONS, COMPLETIONS] == paths(older)


async def test_refusal_that_is_about_the_chat_itself_stands():
    """Not the one that only says which operation the model doesn't take."""
    newer = MemoryContext(
        in_turn(refusal(AZURE_NOT_CHAT, 400), refusal("Invalid value.", 400), refusal(AZURE_IS_CHAT, 400))
    )

    with pytest.raises(RequestRejected, match="Invalid value"):
        await answer(newer)

    assert [CHAT, RESPONSES, COMPLETIONS] == paths(newer)


async def test_what_completions_can_not_say_goes_to_responses():
    """A chat with tools or pictures is not called as a prompt, if the endpoint has responses."""
    for members in ({"parameters": {"tools": TOOLS}}, {"messages": [{"role": "user", "content": [IMAGE]}]}):
        ctx = MemoryContext(in_turn(refusal(NOT_CHAT), responded("One.")))

        assert (
            "One."
            == (await run_action(chat, members if "messages" in members else HELLO | members, ctx)).output["text"]
        )
        assert [CHAT, RESPONSES] == paths(ctx)


async def test_model_that_takes_tools_by_responses_alone_is_learned_for_tools():
    """Its other chats stay where they are."""
    ctx = MemoryContext(in_turn(refusal(NO_TOOLS, 400), responded("One."), completion("Two."), responded("Three.")))
    tools = {"parameters": {"tools": TOOLS}}

    assert ["One.", "Two.", "Three."] == [await answer(ctx, **members) for members in (tools, {}, tools)]
    assert [CHAT, RESPONSES, CHAT, RESPONSES] == paths(ctx)


@pytest.mark.parametrize("members", [{}, {"parameters": {"tools": TOOLS}}])
async def test_deployment_that_takes_chat_completions_again_is_learned(members: dict[str, Any]):
    """If the model of a deployment is replaced by one without responses, its refusal is learned too."""
    first = refusal(NO_TOOLS if members else ONLY_RESPONSES)
    ctx = MemoryContext(
        in_turn(first, responded("One."), refusal(NO_RESPONSES, 400), completion("Two."), completion("Three."))
    )

    assert ["One.", "Two.", "Three."] == [await answer(ctx, **members) for _ in range(3)]
    assert [CHAT, RESPONSES, RESPONSES, CHAT, CHAT] == paths(ctx)


async def test_deployment_that_is_gone_is_forgotten():
    """OpenAI calls a model unknown that has no responses; the next job is sent as it is."""
    ctx = MemoryContext(
        in_turn(refusal(ONLY_RESPONSES), responded("One."), ModelNotFound(NO_RESPONSES), completion("Two."))
    )
    await answer(ctx)

    with pytest.raises(ModelNotFound):
        await answer(ctx)

    assert "Two." == await answer(ctx)
    assert [CHAT, RESPONSES, RESPONSES, CHAT] == paths(ctx)


@pytest.mark.parametrize(
    "endpoint", [DEPLOYMENT, "https://r.services.ai.azure.com/models", "https://r.openai.azure.com"]
)
async def test_endpoint_without_responses_lets_the_refusal_stand(endpoint: str):
    """Only the v1 API has them, and the error says so."""
    ctx = MemoryContext(in_turn(refusal(ONLY_RESPONSES)), endpoint=endpoint)

    with pytest.raises(
        RequestRejected, match=r"only supported in v1/responses.*`endpoint` ends in /openai/v1"
    ) as caught:
        await answer(ctx)

    assert 404 == caught.value.facts.status

    assert [CHAT] == paths(ctx)


async def test_strict_job_is_not_carried_to_what_others_have_learned():
    """It is sent as it is, and refused."""
    ctx = MemoryContext(in_turn(refusal(ONLY_RESPONSES), responded("One."), refusal(ONLY_RESPONSES)))
    await answer(ctx)
    ctx.strict = True

    with pytest.raises(RequestRejected, match="only supported in v1/responses"):
        await answer(ctx)

    assert [CHAT, RESPONSES, CHAT] == paths(ctx)


PARTS = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}]


@every_row(
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
