"""The input of `chat`: messages as OpenAI defines them, or a prompt from which they are made."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from msgspec import Meta, Raw, Struct

from shared.contract.decoding import decode
from shared.contract.names import Text
from shared.errors import InvalidJob

Messages = Annotated[list[Any], Meta(min_length=1, description="a list of at least one message")]
"""OpenAI messages; `check_messages` checks each."""

_DEFAULT_TEMPLATE = "@@context\n\n@@userPrompt"
_PLACEHOLDER = re.compile(r"@@(context|userPrompt)")
LIMITS = ("max_completion_tokens", "max_tokens")
"""The parameters that limit an answer's tokens."""
_MAX_COUNT = 10_000_000
"""More than any model's answer has tokens."""
_INSTEAD = {
    "messages": "set `input.messages`",
    "model": "set the job's own `model`",
}


class ChatInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`messages`, or `prompt` with the members that belong to it."""

    messages: Messages | None = None
    """The conversation, in place of `prompt` and the members that belong to it."""
    prompt: Text | None = None
    """The user's message."""
    system: str | None = None
    """The system message, which comes first."""
    history: list[Any] | None = None
    """Messages between the system message and the prompt."""
    context: str | None = None
    """A text that the prompt refers to."""
    template: Annotated[str, Meta(pattern="@@userPrompt", description="text that contains @@userPrompt")] | None = None
    """How context and prompt are joined: `@@context` and `@@userPrompt` are replaced."""
    parameters: dict[str, Any] = {}
    """Any other parameter of the model, passed on unchanged."""


class Chat(Struct, frozen=True):
    """A chat as any model takes it: messages, and parameters that are passed on unchanged."""

    messages: list[Any]
    parameters: dict[str, Any]


def decode_chat(data: Raw | bytes) -> Chat:
    """The chat in `data`, a job's input. Raises InvalidJob with the path of the member at fault."""
    chat = decode(data, ChatInput, at="input")
    check_parameters(chat.parameters)
    if chat.messages is not None:
        _refuse_beside_messages(chat)
        check_messages(chat.messages, at="input.messages")
        return Chat(chat.messages, chat.parameters)
    if chat.prompt is None:
        raise InvalidJob("`input` needs `messages` or `prompt`.")
    history = chat.history or []
    check_messages(history, at="input.history")
    system = [] if chat.system is None else [{"role": "system", "content": chat.system}]
    user = {"role": "user", "content": _fill_template(chat.prompt, chat.context, chat.template)}
    return Chat([*system, *history, user], chat.parameters)


def check_messages(messages: list[Any], *, at: str) -> None:
    """Raises InvalidJob unless each is an OpenAI message; members beyond role and content are the model's."""
    for index, message in enumerate(messages):
        here = f"{at}[{index}]"
        if not isinstance(message, dict):
            raise InvalidJob(f"`{here}` must be an object with `role` and `content`.")
        if not isinstance(message.get("role"), str):
            raise InvalidJob(f"`{here}.role` must be a string such as system, user or assistant.")
        _check_content(message, here)


def check_parameters(parameters: dict[str, Any]) -> None:
    """Raises InvalidJob for the few parameters that a job sets elsewhere, and for a streamed response."""
    for name, instead in _INSTEAD.items():
        if name in parameters:
            raise InvalidJob(f"`input.parameters.{name}` is not allowed: {instead} instead.")
    if parameters.get("stream"):
        raise InvalidJob("`input.parameters.stream` can't be true: a job doesn't stream its result.")


def answer_limit(parameters: Mapping[str, Any], names: Iterable[str] = LIMITS) -> int | None:
    """
    Return how many tokens these parameters allow an answer; None if they set no limit.

    Some servers take -1 for no limit, and a whole number as a float or a string.
    """
    values = [parameters[name] for name in names if parameters.get(name) is not None]
    limits = list(filter(None, map(whole_number, values)))
    return max(limits) if limits and len(limits) == len(values) else None


def thinking_budget(parameters: Mapping[str, Any]) -> int:
    """Return how many tokens of an answer Claude may think with, which count toward the answer's limit."""
    thinking = parameters.get("thinking")
    return (whole_number(thinking.get("budget_tokens")) or 0) if isinstance(thinking, Mapping) else 0


def whole_number(value: Any) -> int | None:
    """Return the number of 1 or more that a server can read from a parameter's value; None if there is none."""
    try:
        number = float(value) if isinstance(value, int | float | str) else 0.0
    except (ValueError, OverflowError):
        return None
    return math.ceil(min(number, _MAX_COUNT)) if number > 0 else None


def _check_content(message: dict[str, Any], here: str) -> None:
    content = message.get("content")
    if content is None:
        # An assistant's message may hold tool calls or a refusal in place of content.
        if message["role"] not in {"assistant", "function"}:
            raise InvalidJob(f"`{here}.content` is missing.")
    elif isinstance(content, list):
        for index, part in enumerate(content):
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise InvalidJob(f"`{here}.content[{index}]` must be a content part: an object with a `type`.")
    elif not isinstance(content, str):
        raise InvalidJob(f"`{here}.content` must be a string or a list of content parts.")


def _refuse_beside_messages(chat: ChatInput) -> None:
    for name in ("prompt", "system", "history", "context", "template"):
        if getattr(chat, name) is not None:
            raise InvalidJob(f"`input.{name}` belongs to `prompt` and can't be combined with `messages`.")


def _fill_template(prompt: str, context: str | None, template: str | None) -> str:
    if template is None and context is None:
        return prompt
    template = _DEFAULT_TEMPLATE if template is None else template
    if context is not None and "@@context" not in template:
        raise InvalidJob("`input.template` must contain @@context, because `input.context` is set.")
    values = {"context": context or "", "userPrompt": prompt}
    # One pass: a context that itself contains @@userPrompt is text, not a template.
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)
