"""
A chat as Claude's Messages API takes it. Pure.

Parameters that the API has under its own names, such as `thinking`, `top_k` or `output_config`, and those that this
module does not know, are passed on. What only tunes an answer and doesn't exist there is left out, and reported. What
would change the answer's meaning or shape is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.actions.claude_messages import Conversation, read_conversation
from shared.actions.claude_tools import read_tool_choice, read_tools
from shared.actions.neutral_parameters import NEUTRAL
from shared.contract.chat import LIMITS, answer_limit
from shared.errors import InvalidJob

_MAX_TEMPERATURE = 1
_NEUTRAL = {"n": (1,), **NEUTRAL}
_REFUSED = {
    "n": "must be 1 or left out: Claude gives one answer a call",
    "logprobs": "can't be set: Claude has no log probabilities",
    "top_logprobs": "can't be set: Claude has no log probabilities",
    "modalities": "must be text alone: Claude answers in text",
    "audio": "can't be set: Claude answers in text",
    "functions": "can't be set for Claude: use `tools`",
    "function_call": "can't be set for Claude: use `tool_choice`",
    "web_search_options": "can't be set for Claude: use a tool of the type web_search_20250305",
}
_LEFT_OUT = (
    *("presence_penalty", "frequency_penalty", "logit_bias", "seed", "store", "prediction", "verbosity"),
    *("prompt_cache_key", "prompt_cache_retention", "stream_options"),
)
"""They tune an answer, its price or its storage."""
_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
_USERS = ("safety_identifier", "user")


@dataclass(slots=True)
class ClaudeRequest:
    """The body of a request without model and limit, and how it differs from what the job says."""

    body: dict[str, Any]
    adapted: list[str] = field(default_factory=list)

    def set(self, name: str, value: Any) -> None:
        """Set a member, unless the job has set it under Claude's own name."""
        self.body.setdefault(name, value)

    def leave_out(self, name: str) -> None:
        """Note that a parameter is not sent."""
        self.adapted.append(f"{name} was left out")


def claude_request(messages: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any]) -> ClaudeRequest:
    """Return the request for a chat. Raises InvalidJob for what Claude can't do, and names it."""
    wanted = {name: value for name, value in parameters.items() if value is not None}
    wanted = {name: value for name, value in wanted.items() if value not in _NEUTRAL.get(name, ())}
    for name, reason in _REFUSED.items():
        if name in wanted:
            raise InvalidJob(f"`parameters.{name}` {reason}.")
    conversation = read_conversation(messages)
    if "system" in wanted and conversation.system:
        raise InvalidJob("`parameters.system` can't be combined with a system message.")
    own = {name: value for name, value in wanted.items() if name not in _OURS and name not in LIMITS}
    request = ClaudeRequest({**_body_of(conversation), **own}, list(conversation.adapted))
    for name in LIMITS:
        if name in wanted and answer_limit({name: wanted[name]}) is None:
            request.leave_out(name)
    for name, convert in _CONVERTERS.items():
        if name in wanted:
            convert(wanted[name], request)
    for name in _LEFT_OUT:
        if name in wanted:
            request.leave_out(name)
    _add_user(wanted, request)
    read_tool_choice(wanted, request.body)
    return request


def _body_of(conversation: Conversation) -> dict[str, Any]:
    system = {"system": conversation.system} if conversation.system else {}
    return {**system, "messages": conversation.messages}


def _temperature(value: Any, request: ClaudeRequest) -> None:
    """OpenAI's goes up to 2."""
    is_above = isinstance(value, int | float) and value > _MAX_TEMPERATURE
    request.set("temperature", _MAX_TEMPERATURE if is_above else value)
    if is_above:
        request.adapted.append(f"temperature became {_MAX_TEMPERATURE}")


def _stop(value: Any, request: ClaudeRequest) -> None:
    stops = [value] if isinstance(value, str) else value
    if isinstance(stops, list) and any(isinstance(stop, str) and not stop.strip() for stop in stops):
        raise InvalidJob("`parameters.stop` can't have a text of white space alone: Claude takes none.")
    request.set("stop_sequences", stops)


def _response_format(value: Any, request: ClaudeRequest) -> None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind == "text":
        return
    schema = value.get("json_schema") if isinstance(value, Mapping) else None
    if kind != "json_schema" or not isinstance(schema, Mapping) or not isinstance(schema.get("schema"), Mapping):
        raise InvalidJob(
            "`parameters.response_format` must have the type text, or json_schema with a `schema`: Claude has no other."
        )
    _add_output(request, format={"type": "json_schema", "schema": schema["schema"]})


def _effort(value: Any, request: ClaudeRequest) -> None:
    if value == "none":
        request.set("thinking", {"type": "disabled"})
        return
    effort = _EFFORTS.get(value) if isinstance(value, str) else None
    if effort is None:
        raise InvalidJob(f"`parameters.reasoning_effort` must be none, {', '.join(_EFFORTS)} for Claude.")
    _add_output(request, effort=effort)
    if effort != value:
        request.adapted.append(f"reasoning_effort became {effort}")


def _add_output(request: ClaudeRequest, **members: Any) -> None:
    config = request.body.get("output_config")
    request.body["output_config"] = {**members, **(config if isinstance(config, Mapping) else {})}


def _service_tier(value: Any, request: ClaudeRequest) -> None:
    tier = _TIERS.get(value) if isinstance(value, str) else None
    if tier is None:
        raise InvalidJob("`parameters.service_tier` must be auto, default or standard_only for Claude.")
    request.set("service_tier", tier)


def _tools(value: Any, request: ClaudeRequest) -> None:
    request.set("tools", read_tools(value))


def _metadata(value: Any, request: ClaudeRequest) -> None:
    """Claude's has the user alone; what OpenAI's has goes with completions that are stored."""
    members = value if isinstance(value, Mapping) else {}
    if "user_id" in members:
        request.set("metadata", {"user_id": members["user_id"]})
    if not members.keys() <= {"user_id"}:
        request.leave_out("metadata")


def _add_user(wanted: Mapping[str, Any], request: ClaudeRequest) -> None:
    user = next((wanted[name] for name in _USERS if name in wanted), None)
    if user is not None:
        request.set("metadata", {"user_id": user})


_CONVERTERS: dict[str, Callable[[Any, ClaudeRequest], None]] = {
    "temperature": _temperature,
    "stop": _stop,
    "response_format": _response_format,
    "reasoning_effort": _effort,
    "service_tier": _service_tier,
    "tools": _tools,
    "metadata": _metadata,
}
_OURS = frozenset({*_CONVERTERS, *_REFUSED, *_LEFT_OUT, *_USERS, "tool_choice", "parallel_tool_calls"})
"""Parameters that are not passed on as they are."""
