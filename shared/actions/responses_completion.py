"""A response of the Responses API as a chat completion. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from shared.actions.responses_tools import as_tool_call
from shared.contract.decoding import json_object
from shared.upstream.error_body import filter_verdicts
from shared.upstream.messages import Response

_FINISH_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""By the reason why a response is incomplete. Others stay as they are."""
_NO_ANSWERS = ("failed", "cancelled", "queued", "in_progress")
_COMMON = frozenset({"message", "reasoning", "function_call", "custom_tool_call"})
_SHOWN = ("id", "model", "service_tier", "usage", "moderation")


def as_completion(response: Response, stops: Sequence[str] = ()) -> Response:
    """
    Return a response whose body is a chat completion with the same text, calls, usage and model.

    Its text ends before the first of the `stops`. What is no answer, such as an error, stays as it is.
    """
    body = json_object(response.body)
    items = body.get("output")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return response
    if body.get("error") or body.get("status") in _NO_ANSWERS:
        return response
    return replace(response, body=msgspec.json.encode(_completion(body, items, stops)))


def join_choices(completions: Sequence[Response]) -> Response:
    """
    Return chat completions of equal calls as one with a choice of each.

    If one of them is no answer, that one stands for all.
    """
    bodies = [json_object(completion.body) for completion in completions]
    for completion, body in zip(completions, bodies, strict=True):
        if not body.get("choices"):
            return completion
    choices = [body["choices"][0] | {"index": index} for index, body in enumerate(bodies)]
    return replace(completions[0], body=msgspec.json.encode(bodies[0] | {"choices": choices}))


def _completion(body: Mapping[str, Any], items: list[dict[str, Any]], stops: Sequence[str]) -> dict[str, Any]:
    message, has_stopped = _message(items, stops)
    choice: dict[str, Any] = {
        "index": 0,
        "message": message,
        "finish_reason": _finish_reason(body, message, has_stopped=has_stopped),
    }
    completion = {name: body[name] for name in _SHOWN if body.get(name) is not None}
    created = body.get("created_at")
    if isinstance(created, int | float):
        completion["created"] = int(created)
    if (verdicts := filter_verdicts(body.get("content_filters"), "completion")) is not None:
        choice["content_filter_results"] = verdicts
    if (verdicts := filter_verdicts(body.get("content_filters"), "prompt")) is not None:
        completion["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": verdicts}]
    return {**completion, "object": "chat.completion", "choices": [choice]}


def _finish_reason(body: Mapping[str, Any], message: Mapping[str, Any], *, has_stopped: bool) -> str:
    if body.get("status") == "incomplete" and not has_stopped:
        details = body.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        return _FINISH_REASONS.get(reason, reason) if isinstance(reason, str) else "length"
    return "tool_calls" if message.get("tool_calls") else "stop"


def _message(items: list[dict[str, Any]], stops: Sequence[str]) -> tuple[dict[str, Any], bool]:
    """Return the message that all items are, and whether one of the stops has ended it."""
    messages = [item for item in items if item.get("type") == "message"]
    # What the model says while it works is not the answer, once there is one: a schema holds for the answer alone.
    finals = [item for item in messages if item.get("phase") == "final_answer"]
    answer = finals or messages
    text, has_stopped = _stopped(_texts(answer, "output_text", "text"), stops)
    if has_stopped:  # the model would have called nothing any more
        items = _items_up_to(items, answer, len(text or ""))
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if refusal := _texts(answer, "refusal", "refusal"):
        message["refusal"] = refusal
    if calls := [call for item in items if (call := as_tool_call(item)) is not None]:
        message["tool_calls"] = calls
    if answer and (phase := answer[-1].get("phase")):
        message["phase"] = phase
    if finals and (commentary := _texts([item for item in messages if item not in finals], "output_text", "text")):
        message["commentary"] = commentary
    # Apart from the text: the summary under the name that gateways give it, and the items to send back.
    reasoning = [item for item in items if item.get("type") == "reasoning"]
    if summary := "\n\n".join(_parts_of(reasoning, "summary", "summary_text", "text")):
        message["reasoning_content"] = summary
    if whole := [item for item in reasoning if item.get("encrypted_content")]:
        message["reasoning_items"] = whole
    if not _COMMON.issuperset(str(item.get("type")) for item in items) or _has_sources(answer):
        message["output_items"] = items  # of other tools, and sources: a chat completion has no place for them
    return message, has_stopped


def _stopped(text: str | None, stops: Sequence[str]) -> tuple[str | None, bool]:
    ends = [at for stop in stops if text is not None and (at := text.find(stop)) >= 0]
    return (text[: min(ends)], True) if text is not None and ends else (text, False)


def _items_up_to(items: list[dict[str, Any]], answer: Sequence[Mapping[str, Any]], length: int) -> list[dict[str, Any]]:
    """Return the items up to the message of the answer in which its first `length` characters end."""
    for index, item in enumerate(items):
        if any(item is each for each in answer):
            length -= len(_texts([item], "output_text", "text") or "")
            if length < 0:
                return items[: index + 1]
    return items


def _texts(messages: Sequence[Mapping[str, Any]], kind: str, member: str) -> str | None:
    texts = _parts_of(messages, "content", kind, member)
    return "".join(texts) if texts else None


def _parts_of(items: Sequence[Mapping[str, Any]], name: str, kind: str, member: str) -> list[str]:
    """Return the texts of all parts of a kind."""
    lists = (item.get(name) for item in items)
    parts = (part for each in lists if isinstance(each, list) for part in each if isinstance(part, dict))
    texts = (part.get(member) for part in parts if part.get("type") == kind)
    return [text for text in texts if isinstance(text, str)]


def _has_sources(messages: Sequence[Mapping[str, Any]]) -> bool:
    contents = (item.get("content") for item in messages)
    parts = (part for each in contents if isinstance(each, list) for part in each if isinstance(part, dict))
    return any(part.get("annotations") for part in parts)
