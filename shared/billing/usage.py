"""What an upstream call consumed, read from the provider's response. Never estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from shared.contract.decoding import json_object
from shared.contract.result import Usage

_MAX_COUNT = 2**31 - 1
"""Of a table's whole number. A larger count is not a count."""
_IMAGE_MEMBERS = frozenset({"b64_json", "url"})

CallOutcome = Literal["answered", "lost", "unanswered"]
"""
`answered`: the job has the response. `lost`: the call was answered, and so billed, but its response could not be kept.
`unanswered`: the call was cut short, or its worker died; it may have been billed.
"""


@dataclass(frozen=True, slots=True)
class Call:
    """One upstream call that was billed, or may have been."""

    tokens: Usage | None
    """None: the provider did not report it."""
    model: str | None = None
    """The model that answered, as the provider names it."""
    request_id: str | None = None
    images: int = 0
    """Images in the response. They are counted in it, since no provider's usage reports them."""
    outcome: CallOutcome = "answered"

    def consumed(self) -> Usage:
        """Return what is known of the consumption: what the provider reported, nothing for an unanswered call."""
        if self.outcome == "unanswered":
            return Usage()
        return (self.tokens or Usage(calls=1)) + Usage(images=self.images)


def read_usage(usage: Any) -> Usage | None:
    """
    Return the `usage` object of a chat completion, or None if there is none or a count in it is not a whole number.

    `completion_tokens` includes the reasoning, and `prompt_tokens` the cached tokens: nothing is added up
    (platform.openai.com/docs/api-reference/chat/object).
    """
    if not isinstance(usage, dict):
        return None
    input_tokens = _count(usage, "prompt_tokens", "input_tokens")
    output_tokens = _count(usage, "completion_tokens", "output_tokens")
    if input_tokens is None or (output_tokens is None and _has(usage, "completion_tokens", "output_tokens")):
        return None  # a count is never invented
    input_details = _object(usage, "prompt_tokens_details", "input_tokens_details")
    output_details = _object(usage, "completion_tokens_details", "output_tokens_details")
    return Usage(
        calls=1,
        input_tokens=input_tokens,
        output_tokens=output_tokens or 0,
        cached_tokens=_count(input_details, "cached_tokens") or 0,
        reasoning_tokens=_count(output_details, "reasoning_tokens") or 0,
    )


def call_of_answer(body: Any, request_id: str | None) -> Call:
    """Return the call that a response's JSON describes: its `usage`, its `model`, the images in its `data`."""
    members = body if isinstance(body, dict) else {}
    model, data = members.get("model"), members.get("data")
    items = data if isinstance(data, list) else []
    return Call(
        read_usage(members.get("usage")),
        model if isinstance(model, str) and model else None,
        request_id,
        images=sum(isinstance(item, dict) and any(item.get(name) for name in _IMAGE_MEMBERS) for item in items),
    )


def lost_call(body: bytes, request_id: str | None) -> Call:
    """Return the call whose response was `body`, which could not be kept."""
    return replace(call_of_answer(json_object(body), request_id), outcome="lost")


def as_lost(calls: Sequence[Call]) -> list[Call]:
    """Return the calls as ones whose responses could not be kept."""
    return [replace(call, outcome="lost") for call in calls]


def total(calls: Sequence[Call]) -> Usage:
    """Return the sum over `calls`; a call whose provider reported nothing counts as a call without tokens."""
    return sum((call.consumed() for call in calls), Usage())


def _object(usage: dict[str, Any], *names: str) -> dict[str, Any]:
    return next((value for name in names if isinstance(value := usage.get(name), dict)), {})


def _has(usage: dict[str, Any], *names: str) -> bool:
    return any(usage.get(name) is not None for name in names)


def _count(usage: dict[str, Any], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        # Some gateways write 7.0.
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT:
            return int(value) if value == int(value) else None
    return None
