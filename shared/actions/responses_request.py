"""
A chat as the Responses API takes it. Pure.

What only tunes an answer and doesn't exist there is left out, and reported. What would change the answer's meaning or
shape is refused. So is every parameter that neither API's chats have: some of the API's own reach what others have
stored at the provider, such as `previous_response_id`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.actions.neutral_parameters import NEUTRAL
from shared.actions.responses_items import read_items
from shared.actions.responses_tools import read_tool_choice, read_tools
from shared.contract.chat import LIMITS, answer_limit
from shared.errors import InvalidJob

MIN_LIMIT = 16
"""Tokens. OpenAI: "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16 …"."""
MAX_COUNT = 128
"""Answers of a chat, as with chat completions."""
_REFUSED = {
    "modalities": "must be text alone: the model takes this chat on the Responses API alone, which answers in text",
    "audio": "can't be set: the model takes this chat on the Responses API alone, which answers in text",
    "functions": "can't be set on the Responses API, which the model needs: use `tools`",
    "function_call": "can't be set on the Responses API, which the model needs: use `tool_choice`",
    "web_search_options": "can't be set on the Responses API, which the model needs: the action respond has tools "
    "that search",
}
_LEFT_OUT = (
    *("presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "seed", "store", "prediction"),
    "stream_options",
)
"""They tune an answer or its storage, or are refused by the reasoning models that this API is for."""
_SAME = (
    *("temperature", "top_p", "metadata", "user", "safety_identifier", "service_tier", "parallel_tool_calls"),
    *("prompt_cache_key", "prompt_cache_retention", "moderation"),
    *("include", "truncation", "max_tool_calls"),  # the API's own
)
_OBJECTS = ("reasoning", "text")
"""The API's own, of which chat completions have single members."""
_CACHE_OPTIONS = ("mode", "ttl")


@dataclass(slots=True)
class ResponsesRequest:
    """The body of a request without its model, and how it differs from what the job says."""

    body: dict[str, Any]
    adapted: list[str] = field(default_factory=list)
    count: int = 1
    """How many answers, each of a call."""
    stops: tuple[str, ...] = ()
    """Texts that end the answer: they are looked for in it, since the API doesn't."""

    def leave_out(self, name: str) -> None:
        """Note that a parameter is not sent."""
        self.adapted.append(f"{name} was left out")


def responses_request(
    messages: Sequence[Mapping[str, Any]], parameters: Mapping[str, Any], *, raise_limit: bool = True
) -> ResponsesRequest:
    """
    Return the request for a chat. Raises InvalidJob for what the API can't do, and names it.

    `raise_limit`: whether a limit that is too low for the API may be raised, which costs up to 15 tokens more.
    """
    wanted = {name: value for name, value in parameters.items() if value is not None}
    wanted = {name: value for name, value in wanted.items() if value not in NEUTRAL.get(name, ())}
    for name, reason in _REFUSED.items():
        if name in wanted:
            raise InvalidJob(f"`parameters.{name}` {reason}.")
    for name in sorted(wanted.keys() - _TAKEN):
        raise InvalidJob(
            f"`parameters.{name[:60]}` can't be set: the model takes this chat on the Responses API alone, and a chat "
            "can't set that there."
        )
    items, changes = read_items(messages)
    own = {name: wanted[name] for name in (*_SAME, *_OBJECTS) if name in wanted}
    request = ResponsesRequest({"input": items, **own, "store": False}, changes)
    for name in _OBJECTS:
        if not isinstance(own.get(name, {}), Mapping):
            raise InvalidJob(f"`parameters.{name}` must be an object.")
    _limit(wanted, request, raise_limit=raise_limit)
    for name, convert in _CONVERTERS.items():
        if name in wanted:
            convert(wanted[name], request)
    for name in _LEFT_OUT:
        if name in wanted:
            request.leave_out(name)
    return request


def _limit(wanted: Mapping[str, Any], request: ResponsesRequest, *, raise_limit: bool) -> None:
    names = [name for name in LIMITS if name in wanted]
    for name in names:
        limit = answer_limit({name: wanted[name]})
        if limit is None:
            request.leave_out(name)
        elif "max_output_tokens" not in request.body:
            raised = max(limit, MIN_LIMIT) if raise_limit else limit
            request.body["max_output_tokens"] = raised
            if raised != limit:
                request.adapted.append(f"{name} became {raised}")


def _count(value: Any, request: ResponsesRequest) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_COUNT:
        raise InvalidJob(f"`parameters.n` must be a whole number from 1 to {MAX_COUNT}.")
    request.count = value
    if value > 1:
        request.adapted.append(f"n became 1, in {value} calls")


def _stop(value: Any, request: ResponsesRequest) -> None:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise InvalidJob("`parameters.stop` must be a text, or a list of texts.")
    request.stops = tuple(stops)
    if stops:
        request.adapted.append("stop was looked for in the whole answer")


def _response_format(value: Any, request: ResponsesRequest) -> None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    if kind in ("text", "json_object"):
        _add(request, "text", format={"type": kind})
        return
    schema = value.get("json_schema") if isinstance(value, Mapping) else None
    if kind != "json_schema" or not isinstance(schema, Mapping):
        raise InvalidJob(
            "`parameters.response_format` must have the type text, json_object, or json_schema with a `json_schema`."
        )
    _add(request, "text", format={**schema, "type": kind})


def _effort(value: Any, request: ResponsesRequest) -> None:
    _add(request, "reasoning", effort=value)


def _verbosity(value: Any, request: ResponsesRequest) -> None:
    _add(request, "text", verbosity=value)


def _add(request: ResponsesRequest, name: str, **members: Any) -> None:
    """Add members to an object, unless the job has set them under the API's own name."""
    request.body[name] = {**members, **request.body.get(name, {})}


def _tools(value: Any, request: ResponsesRequest) -> None:
    request.body["tools"] = read_tools(value)


def _tool_choice(value: Any, request: ResponsesRequest) -> None:
    request.body["tool_choice"] = read_tool_choice(value)


def _cache_options(value: Any, request: ResponsesRequest) -> None:
    options = value if isinstance(value, Mapping) else {}
    request.body["prompt_cache_options"] = {name: options[name] for name in _CACHE_OPTIONS if name in options}


_CONVERTERS: dict[str, Callable[[Any, ResponsesRequest], None]] = {
    "n": _count,
    "stop": _stop,
    "response_format": _response_format,
    "reasoning_effort": _effort,
    "verbosity": _verbosity,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "prompt_cache_options": _cache_options,
}
_TAKEN = frozenset({*LIMITS, *_SAME, *_OBJECTS, *_CONVERTERS, *_LEFT_OUT, *NEUTRAL})
