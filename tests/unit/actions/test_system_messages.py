"""`summarize` on models that take no system message: the product's own gives way."""

from __future__ import annotations

from typing import Any

from shared.actions import summarize
from shared.actions.base import Completed
from shared.actions.summary_prompts import refuses_system
from shared.errors import RequestRejected, UpstreamFacts
from shared.upstream.messages import Operation, Response
from tests.support.long_texts import long_text
from tests.support.memory_context import MemoryContext, Respond, completion, run_action
from tests.support.rows import every_row

ADAPTED = "the system message became a part of the user message"
REFUSALS = [
    ("Unsupported value: 'messages[0].role' does not support 'system' with this model.", {"param": "messages[0].role"}),
    ("Unsupported value: 'messages[0].role' does not support 'developer' with this model.", {}),
    ("Developer instruction is not enabled for models/gemma-3-27b-it", {}),
    ("System role not supported", {}),
    ('messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter.', {}),
    ("Conversation roles must alternate user/assistant/user/assistant/...", {}),
    ("This model does not support the system role", {}),
    ("Unsupported: developer messages", {}),
    ("messages.0.role: Input should be 'user' or 'assistant'", {"param": "messages.0.role"}),
    ("'system' is not one of ['user', 'assistant'] - 'messages.0.role'", {}),
]
OTHERS = [
    ("The system is overloaded.", {}),
    ("Unsupported parameter: 'temperature'", {"param": "temperature"}),
    ("This model's maximum context length is 8192 tokens.", {}),
    ("The file system does not allow this.", {}),
    ("", {}),
]


def refusing(message: str, detail: dict[str, Any]) -> Respond:
    """Return a model that refuses system messages in these words."""

    def respond(operation: Operation) -> Response:
        if any(message["role"] != "user" for message in operation.body["messages"]):
            raise RequestRejected(
                f"The endpoint refused the request (400): {message}", UpstreamFacts(400, detail=detail)
            )
        return completion("A summary.")

    return respond


@every_row(("message", "detail"), REFUSALS)
@every_row("strict", [False, True])
async def test_the_products_own_system_message_gives_way(message: str, detail: dict[str, Any], strict: bool):
    """The instructions are then a part of the user's message; the next job on that model begins so."""
    ctx = MemoryContext(refusing(message, detail), strict=strict)

    first = await run_action(summarize, {"text": "A text.", "instructions": "Be kind."}, ctx)
    ctx.steps.clear()
    second = await run_action(summarize, {"text": "A text."}, ctx)

    for outcome in (first, second):
        assert isinstance(outcome, Completed)
        assert ("succeeded", [ADAPTED]) == (outcome.status, (outcome.output or {})["adapted"])
    assert [["system", "user"], ["user"], ["user"]] == [
        [message["role"] for message in body["messages"]] for body in ctx.bodies
    ]
    content = ctx.bodies[1]["messages"][0]["content"]
    assert all(words in content for words in ("You write summaries.", "Be kind.", "<text>\nA text.\n</text>"))


async def test_all_parts_of_a_long_text_are_summarized():
    """Parts that run side by side learn together, and the level that combines them begins without."""
    ctx = MemoryContext(refusing(*REFUSALS[0]))

    outcome = await run_action(summarize, {"text": long_text(4)}, ctx)

    assert isinstance(outcome, Completed)
    assert ("succeeded", [ADAPTED]) == (outcome.status, (outcome.output or {})["adapted"])
    assert ["user"] == [message["role"] for message in ctx.bodies[-1]["messages"]]


@every_row(("message", "detail"), OTHERS)
async def test_another_refusal_stands(message: str, detail: dict[str, Any]):
    """It is no reason to send the request again, and nothing is learned from it."""
    ctx = MemoryContext(refusing(message, detail))

    outcome = await run_action(summarize, {"text": "A text."}, ctx)

    assert isinstance(outcome, Completed)
    assert ("failed", 1) == (outcome.status, len(ctx.called))


async def test_a_model_that_refuses_both_teaches_nothing():
    """The second refusal is the result, and the next job begins with a system message again."""

    def respond(_: Operation) -> Response:
        raise RequestRejected(REFUSALS[0][0], UpstreamFacts(400))

    ctx = MemoryContext(respond)
    for _ in range(2):
        outcome = await run_action(summarize, {"text": "A text."}, ctx)
        assert isinstance(outcome, Completed)
        assert "failed" == outcome.status

    assert [2, 1, 2, 1] == [len(body["messages"]) for body in ctx.bodies]


@every_row("status", [401, 403, 429, 500, None])
def test_only_a_refused_request_counts(status: int | None):
    """Another status says nothing about the messages."""
    assert not refuses_system(RequestRejected(REFUSALS[0][0], UpstreamFacts(status)))
