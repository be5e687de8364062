"""`chat`: one conversation to one model. Knows the JSON of chat completions, and of completions' answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from shared.actions.base import Bench, Completed
from shared.actions.completion import complete
from shared.billing.usage import call_of_answer
from shared.contract.chat import Chat, decode_chat
from shared.contract.decoding import json_object
from shared.errors import ContentFiltered, ProviderUnavailable, UpstreamFacts
from shared.upstream.messages import Reply

NEEDS_MODEL = True


def decode(data: Raw | bytes) -> Chat:
    """See Action."""
    return decode_chat(data)


def keeps_blobs(_: Chat) -> bool:
    """See Action."""
    return False


async def run(asked: Chat, bench: Bench) -> Completed:
    """See Action."""
    reply, adapted = await complete(bench, asked.messages, asked.parameters)
    return parse_chat(reply, adapted)


def parse_chat(reply: Reply, adapted: Sequence[str] = ()) -> Completed:
    """
    The answer in a 2xx reply: `text` (the first choice's), `finish_reason`, and the `choices` as they came,
    and how parameters were `adapted`.

    An answer that the content filter stopped is an error that was paid for, and keeps its details.
    """
    said = json_object(reply.body)
    choices, call = _choices(said), call_of_answer(said, reply.request_id)
    if not choices:
        return Completed(None, [call], "failed", _no_completion(reply))
    output = {
        "text": _text(choices[0]),
        "finish_reason": choices[0].get("finish_reason"),
        "choices": choices,
        **{name: said[name] for name in ("id", "model", "created", "system_fingerprint") if said.get(name)},
    }
    if verdicts := said.get("prompt_filter_results"):
        output["prompt_filter_results"] = verdicts
    if adapted:
        output["adapted"] = list(adapted)
    filtered = sum(choice.get("finish_reason") == "content_filter" for choice in choices)
    if not filtered:
        return Completed(output, [call])
    error = ContentFiltered(
        f"The provider's content policy stopped {filtered} of {len(choices)} answers; the call was paid for.",
        UpstreamFacts(status=reply.status, request_id=reply.request_id, detail=_verdicts(choices)),
    )
    return Completed(output, [call], "failed" if filtered == len(choices) else "partial", error)


def _choices(said: dict[str, Any]) -> list[dict[str, Any]]:
    choices = said.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        return []
    return choices


def _text(choice: dict[str, Any]) -> str | None:
    message = choice.get("message")
    # Completions, as older models have them, say it right in the choice.
    content = message.get("content") if isinstance(message, dict) else choice.get("text")
    return content if isinstance(content, str) else None


def _verdicts(choices: list[dict[str, Any]]) -> dict[str, Any]:
    stopped = [choice for choice in choices if choice.get("finish_reason") == "content_filter"]
    found = next((choice["content_filter_results"] for choice in stopped if choice.get("content_filter_results")), None)
    return {"content_filter_result": found} if found else {}


def _no_completion(reply: Reply) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"The endpoint answered {reply.status} with something that is no chat completion.",
        UpstreamFacts(status=reply.status, request_id=reply.request_id),
    )
