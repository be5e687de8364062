"""Older models, which take completions and no chat completions."""

from __future__ import annotations

from typing import Any

from tests.support.endpoint import Answer, error, reply
from tests.support.harness import Harness

NOT_CHAT = error(
    404,
    "",
    "This is not a chat model and thus not supported in the v1/chat/completions endpoint. "
    "Did you mean to use v1/completions?",
)


def completions(text: str) -> Answer:
    """Answer as completions do."""
    choices = [{"index": 0, "finish_reason": "stop", "text": text}]
    usage = {"prompt_tokens": 5, "completion_tokens": 3}
    return reply({"id": "cmpl-1", "object": "text_completion", "model": "instruct", "choices": choices, "usage": usage})


async def test_all_chats_learn_the_operation(harness: Harness):
    """`chat`, `multi_chat` and `summarize` call completions if the model refuses chats; the first refusal is enough."""
    customer = harness.customer(default_model="instruct")
    customer.account.will_answer(NOT_CHAT, completions("One."), completions("Two."), completions("Three."))

    chat = await customer.run(options={"retry_on_all_errors": True})
    multi_chat = await customer.run(action="multi_chat", input={"prompts": ["Hi"]})
    summary = await customer.run(action="summarize", input={"text": "Some text."})

    assert ("One.", "Two.", "Three.") == (
        chat["output"]["text"],
        multi_chat["output"]["answers"][0]["text"],
        summary["output"]["text"],
    )
    adapted: list[dict[str, Any]] = [chat["output"], multi_chat["output"]["answers"][0], summary["output"]]
    assert [["chat/completions became completions"]] * 3 == [output["adapted"] for output in adapted]
    assert (1, 5) == (chat["usage"]["calls"], chat["usage"]["input_tokens"])
    refused, *received = customer.account.received
    assert "/openai/v1/chat/completions" == refused.path
    assert ["/openai/v1/completions"] * 3 == [request.path for request in received]
    *prompts, summary_prompt = [request.json["prompt"] for request in received]
    assert ["Hello?", "Hi"] == prompts
    assert summary_prompt.startswith("You write summaries.")
    assert summary_prompt.endswith("\n\nUser: <text>\nSome text.\n</text>\n\nAssistant:")
