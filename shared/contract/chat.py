"""The input of `chat`: messages as OpenAI defines them, or a prompt with what belongs around it."""

from __future__ import annotations

import re
from typing import Any

from msgspec import Raw, Struct

from shared.contract.decoding import decode
from shared.errors import InvalidJob

_DEFAULT_TEMPLATE = "@@context\n\n@@userPrompt"
_PLACE = re.compile(r"@@(context|userPrompt)")
_OURS = {
    "messages": "give them as `input.messages`",
    "model": "give it as the job's own `model`",
}


class ChatInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`messages`, or `prompt` with what belongs around it."""

    messages: list[Any] | None = None
    prompt: str | None = None
    system: str | None = None
    history: list[Any] | None = None
    context: str | None = None
    template: str | None = None
    parameters: dict[str, Any] = {}


class Chat(Struct, frozen=True):
    """A chat as any model takes it: messages, and parameters that pass through untouched."""

    messages: list[Any]
    parameters: dict[str, Any]


def decode_chat(data: Raw | bytes) -> Chat:
    """What `data`, a job's input, asks for. Raises InvalidJob with the path of the member at fault."""
    given = decode(data, ChatInput, at="input")
    check_parameters(given.parameters)
    if given.messages is not None:
        _refuse_beside_messages(given)
        check_messages(given.messages, at="input.messages")
        return Chat(given.messages, given.parameters)
    if given.prompt is None:
        raise InvalidJob("`input` needs `messages` or `prompt`.")
    if not given.prompt.strip():
        raise InvalidJob("`input.prompt` is empty.")
    if given.history is not None:
        check_messages(given.history, at="input.history", may_be_empty=True)
    system = [] if given.system is None else [{"role": "system", "content": given.system}]
    user = {"role": "user", "content": _fill(given)}
    return Chat([*system, *(given.history or []), user], given.parameters)


def check_messages(messages: list[Any], *, at: str, may_be_empty: bool = False) -> None:
    """Raises InvalidJob unless each is an OpenAI message; members beyond role and content are the model's."""
    if not messages and not may_be_empty:
        raise InvalidJob(f"`{at}` is empty.")
    for index, message in enumerate(messages):
        here = f"{at}[{index}]"
        if not isinstance(message, dict):
            raise InvalidJob(f"`{here}` must be an object with `role` and `content`.")
        if not isinstance(message.get("role"), str):
            raise InvalidJob(f"`{here}.role` must be a string such as system, user or assistant.")
        _check_content(message, here)


def check_parameters(parameters: dict[str, Any]) -> None:
    """Raises InvalidJob for the few parameters that are not the caller's to set there."""
    for name, instead in _OURS.items():
        if name in parameters:
            raise InvalidJob(f"`input.parameters.{name}` does not belong there: {instead}.")
    if parameters.get("stream"):
        raise InvalidJob("`input.parameters.stream` can't be true: a job's answer is delivered whole.")


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


def _refuse_beside_messages(given: ChatInput) -> None:
    for name in ("prompt", "system", "history", "context", "template"):
        if getattr(given, name) is not None:
            raise InvalidJob(f"`input.{name}` belongs to `prompt` and can't stand beside `messages`.")


def _fill(given: ChatInput) -> str:
    prompt = given.prompt or ""
    if given.template is None and given.context is None:
        return prompt
    template = _DEFAULT_TEMPLATE if given.template is None else given.template
    places = set(_PLACE.findall(template))
    if "userPrompt" not in places:
        raise InvalidJob("`input.template` must contain @@userPrompt, or the prompt would be lost.")
    if given.context is not None and "context" not in places:
        raise InvalidJob("`input.template` must contain @@context, or the context would be lost.")
    values = {"context": given.context or "", "userPrompt": prompt}
    # One pass: a context that itself contains @@userPrompt is text, not a template.
    return _PLACE.sub(lambda place: values[place[1]], template)
