"""
Answers of the model: an echo of the prompt, with token counts that follow from the texts. Pure.

A token is counted for every four characters, of what goes in and of what comes out.
"""

import base64
import hashlib
import itertools
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from local.provider.errors import ApiError

MAX_ECHO = 1000
"""Most characters of a prompt that its answer repeats."""
DIMENSIONS = 8

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer, without its id, and what it consumed."""

    body: dict[str, Any]
    input_tokens: int
    output_tokens: int


def count_tokens(text: str) -> int:
    """Return the tokens of a text."""
    return -(-len(text) // 4)


def hash_prompt(operation: str, model: str, prompt: str) -> str:
    """Return what tells a prompt to a model from others."""
    return hashlib.sha256(f"{operation}\0{model}\0{prompt}".encode()).hexdigest()[:16]


def prompt_of(operation: str, body: Body) -> str:
    """Return the text that goes into the model. Raises ApiError if the request has none."""
    name = {"chat/completions": "messages", "completions": "prompt", "messages": "messages"}.get(operation, "input")
    value = body.get(name)
    if not value:
        raise ApiError(400, "missing_required_parameter", f"Missing required parameter: '{name}'.", name)
    if operation == "messages" and not body.get("max_tokens"):
        raise ApiError(400, "missing_required_parameter", "max_tokens: Field required", "max_tokens")
    return "\n".join(filter(None, [_text(body.get("instructions") or body.get("system")), _text(value)]))


def answer(operation: str, body: Body, prompt: str, *, at: float, service_tier: str, filtered: bool = False) -> Answer:
    """Return the answer to a request with this prompt. `filtered`: the content filter cuts it short."""
    return _ANSWERS[operation](body, prompt, {"created": int(at), "service_tier": service_tier}, filtered)


def response(body: Body, *, status: str, text: str | None = None) -> dict[str, Any]:
    """Return a response of the Responses API, without its id and times; without text it has no output yet."""
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": []}]
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content}
    return {
        "object": "response",
        "status": status,
        "model": body.get("model"),
        "background": bool(body.get("background")),
        "store": body.get("store", True),
        "instructions": body.get("instructions"),
        "previous_response_id": body.get("previous_response_id"),
        "metadata": body.get("metadata") or {},
        "tools": body.get("tools") or [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "error": None,
        "incomplete_details": None,
        "output": [] if text is None else [message],
        "usage": None,
    }


def _chat(body: Body, prompt: str, common: dict[str, Any], filtered: bool) -> Answer:
    users = [each for each in body["messages"] if each.get("role") == "user"] or body["messages"]
    text, reason = _echo(_text(users[-1]), body, filtered)
    message = {"role": "assistant", "content": text, "refusal": None}
    choices = [
        {"index": index, "finish_reason": reason, "logprobs": None, "message": message} for index in range(_count(body))
    ]
    output_tokens = count_tokens(text) * len(choices)
    usage = _usage(count_tokens(prompt), output_tokens)
    content = {"object": "chat.completion", "model": body.get("model"), "choices": choices, "usage": usage}
    return Answer(common | content, usage["prompt_tokens"], output_tokens)


def _completion(body: Body, prompt: str, common: dict[str, Any], filtered: bool) -> Answer:
    prompts = body.get("prompt")
    texts = [
        _echo(_text(each), body, filtered)
        for each in (prompts if isinstance(prompts, list) else [prompts])
        for _ in range(_count(body))
    ]
    choices = [
        {"index": index, "finish_reason": reason, "logprobs": None, "text": text}
        for index, (text, reason) in enumerate(texts)
    ]
    output_tokens = sum(count_tokens(text) for text, _ in texts)
    usage = _usage(count_tokens(prompt), output_tokens)
    content = {"object": "text_completion", "model": body.get("model"), "choices": choices, "usage": usage}
    return Answer(common | content, usage["prompt_tokens"], output_tokens)


def _embeddings(body: Body, _: str, common: dict[str, Any], __: bool) -> Answer:
    texts = inputs_of(body)
    size = body.get("dimensions") or DIMENSIONS
    vectors = [_vector(text, size) for text in texts]
    if body.get("encoding_format") == "base64":
        encoded: list[Any] = [base64.b64encode(struct.pack(f"<{size}f", *each)).decode() for each in vectors]
    else:
        encoded = vectors
    tokens = sum(map(count_tokens, texts))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    data = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(encoded)]
    del common["created"], common["service_tier"]
    return Answer(common | {"object": "list", "model": body.get("model"), "data": data, "usage": usage}, tokens, 0)


def _response(body: Body, prompt: str, common: dict[str, Any], filtered: bool) -> Answer:
    value = body.get("input")
    last = value[-1] if isinstance(value, list) else value
    text, reason = _echo(_text(last), body, filtered)
    input_tokens, output_tokens = count_tokens(prompt), count_tokens(text)
    content = response(body, status="completed" if reason == "stop" else "incomplete", text=text)
    if reason != "stop":
        content["incomplete_details"] = {"reason": "max_output_tokens" if reason == "length" else reason}
    content["created_at"], content["service_tier"] = common["created"], common["service_tier"]
    content["usage"] = {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input_tokens + output_tokens,
    }
    return Answer(content, input_tokens, output_tokens)


def _message(body: Body, prompt: str, common: dict[str, Any], filtered: bool) -> Answer:
    text, reason = _echo(_text(body["messages"][-1]), body, filtered)
    input_tokens, output_tokens = count_tokens(prompt), count_tokens(text)
    content = {
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": [{"type": "text", "text": text}],
        "stop_reason": {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}[reason],
        "stop_sequence": None,
        "usage": {
            "input_tokens": input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": output_tokens,
            "service_tier": common["service_tier"],
        },
    }
    return Answer(content, input_tokens, output_tokens)


_ANSWERS: dict[str, Callable[[Body, str, dict[str, Any], bool], Answer]] = {
    "chat/completions": _chat,
    "completions": _completion,
    "embeddings": _embeddings,
    "responses": _response,
    "messages": _message,
}
OPERATIONS = frozenset(_ANSWERS)


def inputs_of(body: Body) -> list[str]:
    """Return the texts of an embedding request."""
    value = body.get("input")
    values = value if isinstance(value, list) and not isinstance(next(iter(value), None), int) else [value]
    return [_text(each) for each in values]


def _echo(text: str, body: Body, filtered: bool) -> tuple[str, str]:
    """Return the answer's text and why it ends."""
    echoed = f"Echo: {text[:MAX_ECHO]}"
    if body.get("response_format", {"type": "text"}).get("type") != "text":
        echoed = json.dumps({"answer": echoed})
    names = ("max_completion_tokens", "max_output_tokens", "max_tokens")
    limit = next((body[name] for name in names if body.get(name)), None)
    if filtered:
        return echoed[: len(echoed) // 2], "content_filter"
    if limit is not None and count_tokens(echoed) > limit:
        return echoed[: limit * 4], "length"
    return echoed, "stop"


def _text(value: Any) -> str:
    """Return the text of a prompt: of a string, of tokens, of messages, or of content parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(map(_text, value))
    if isinstance(value, dict):
        content = value.get("content", value.get("text"))
        return content if isinstance(content, str) else _text(content)
    return "" if value is None else str(value)


def _count(body: Body) -> int:
    return int(body.get("n") or 1)


def _usage(input_tokens: int, output_tokens: int) -> dict[str, Any]:
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _vector(text: str, size: int) -> list[float]:
    """Return numbers that only this text has."""
    digest = hashlib.sha256(text.encode()).digest()
    return [byte / 128 - 1 for byte in itertools.islice(itertools.cycle(digest), size)]
