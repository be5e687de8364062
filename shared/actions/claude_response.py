"""An answer of Claude's as a chat completion. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from shared.actions.claude_tools import as_tool_call
from shared.contract.decoding import json_object
from shared.upstream.messages import Response

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""By `stop_reason`. Others stay as they are: after `pause_turn`, the conversation is sent again to go on."""
_THINKING = frozenset({"thinking", "redacted_thinking"})
_ORDER = {**dict.fromkeys(_THINKING, 0), "text": 1, "tool_use": 2}
"""The blocks for which a chat completion has a place, and the order in which they are sent back from there."""


def as_completion(response: Response) -> Response:
    """
    Return a response whose body is a chat completion with the same text, calls, usage and model.

    What is no answer, such as an error, stays as it is.
    """
    body = json_object(response.body)
    blocks = body.get("content")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        return response
    return replace(response, body=msgspec.json.encode(_completion(body, blocks)))


def _completion(body: Mapping[str, Any], blocks: list[dict[str, Any]]) -> dict[str, Any]:
    reason = body.get("stop_reason")
    choice: dict[str, Any] = {
        "index": 0,
        "message": _message(blocks),
        "finish_reason": _FINISH_REASONS.get(reason, reason) if isinstance(reason, str) else None,
        **{name: body[name] for name in ("stop_reason", "stop_sequence") if body.get(name)},
    }
    if isinstance(details := body.get("stop_details"), dict):
        choice["content_filter_results"] = details
    kept = {name: body[name] for name in ("id", "model", "usage", "error") if body.get(name) is not None}
    return {**kept, "object": "chat.completion", "choices": [choice]}


def _message(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = [kind if isinstance(kind := block.get("type"), str) else "" for block in blocks]
    texts = [block.get("text") for block in blocks if block.get("type") == "text"]
    text = "".join(piece for piece in texts if isinstance(piece, str))
    message: dict[str, Any] = {"role": "assistant", "content": text if texts else None}
    calls = [as_tool_call(block) for block in blocks if block.get("type") == "tool_use"]
    if calls:
        message["tool_calls"] = calls
    # Apart from the text, under the names that other gateways give them.
    thinking = [block for block, kind in zip(blocks, kinds, strict=True) if kind in _THINKING]
    thoughts = [block.get("thinking") for block in thinking]
    if reasoning := "".join(thought for thought in thoughts if isinstance(thought, str)):
        message["reasoning_content"] = reasoning
    if thinking:
        message["thinking_blocks"] = thinking
    order = [_ORDER.get(kind, -1) for kind in kinds]
    if -1 in order or order != sorted(order) or any(block.get("citations") for block in blocks):
        # Of server tools, sources, and thinking between other blocks: a chat completion has no place for them.
        message["content_blocks"] = blocks
    return message
