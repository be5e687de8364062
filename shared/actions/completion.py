"""
One conversation, by the operation that the model takes: chat completions, or the completions of older models; for
Claude, `claude`.

A model's name doesn't say which (see capabilities): chat completions are called first, and the other operation if the
provider answers that the model needs it. That is kept for a while. `chat.parse_chat` reads the responses of both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from shared.actions.base import Context
from shared.actions.operation import not_final
from shared.contract.chat import answer_limit
from shared.errors import RequestRejected
from shared.upstream.capabilities import SAMPLING
from shared.upstream.messages import Response

CHAT = "chat/completions"
COMPLETIONS = "completions"

# OpenAI: 404 "This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did you
# mean to use v1/completions?", and the same the other way round. Azure: 400 OperationNotSupported "The
# chatCompletion operation does not work with the specified model, …", or "The completion operation …".
_STATUSES = frozenset({400, 404})
_OTHER_WANTED = {
    CHAT: re.compile(r"not a chat model|use v1/completions|chatCompletion operation does not work"),
    COMPLETIONS: re.compile(r"is a chat model|use v1/chat/completions|\bcompletion operation does not work"),
}
_OTHER = {CHAT: COMPLETIONS, COMPLETIONS: CHAT}
_WITHOUT_LABEL = frozenset({"system", "developer"})
_TEXTS = ("text", "output_text")


async def complete_chat(
    ctx: Context,
    messages: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
    *,
    is_final: Callable[[RequestRejected], bool] = not_final,
) -> tuple[Response, list[str]]:
    """
    Return the model's response to `messages`, and how the request was adapted.

    `is_final` as for `Context.operation`; raises as `Context.call`. Messages that hold more than text, such as images,
    can't become a prompt, and a strict job's never do: the refusal of chat completions stands. If a budget needs a
    limit of the answer and the parameters have none, it is sent.
    """
    if ctx.connection.endpoint.provider == "anthropic":
        from shared.actions.claude import complete_claude  # noqa: PLC0415  # few customers have Claude

        return await complete_claude(ctx, messages, parameters, is_final)
    if ctx.output_limit is not None and answer_limit(parameters) is None:
        from shared.actions.output_limit import complete_limited  # noqa: PLC0415  # most customers have no budget

        return await complete_limited(partial(complete_chat, ctx, messages), parameters, is_final, ctx)
    bodies: dict[str, dict[str, Any]] = {CHAT: {"messages": messages, **parameters}}
    prompt = as_prompt(messages)
    if prompt is not None and not ctx.strict:
        bodies[COMPLETIONS] = {"prompt": prompt, **_for_completions(parameters)}
    name = learned if (learned := ctx.capabilities.replacement_for(CHAT)) in bodies else CHAT
    other = _OTHER[name]

    def wants_switch(error: RequestRejected) -> bool:
        return other in bodies and wants_other(error, name)

    operation = ctx.operation(
        name, bodies[name], droppable=SAMPLING, is_final=lambda error: wants_switch(error) or is_final(error)
    )
    try:
        return await ctx.call(operation), _adapted(name, operation.adapted)
    except RequestRejected as error:
        if not wants_switch(error):
            raise
    operation = ctx.operation(other, bodies[other], droppable=SAMPLING, is_final=is_final)
    response = await ctx.call(operation)
    ctx.capabilities.learn_replacement(CHAT, other)
    return response, _adapted(other, operation.adapted)


def wants_other(error: RequestRejected, operation: str) -> bool:
    """Return whether the provider says that its model takes the other of the two operations."""
    return error.facts.status in _STATUSES and _OTHER_WANTED[operation].search(str(error)) is not None


def as_prompt(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """
    Return messages as one prompt, or None if a message holds more than text.

    A single user message is the prompt as it is. Others are joined by empty lines: `User: …`, `Assistant: …`, a system
    message without a label, and `Assistant:` at the end.
    """
    contents = [_text(message.get("content")) for message in messages]
    texts = [text for text in contents if text is not None]
    if len(texts) < len(contents):
        return None
    roles = [message["role"] for message in messages]
    if roles == ["user"]:
        return texts[0]
    lines = [
        text if role in _WITHOUT_LABEL else f"{role.capitalize()}: {text}"
        for role, text in zip(roles, texts, strict=True)
    ]
    return "\n\n".join([*lines, "Assistant:"])


def content_text(content: Any) -> str | None:
    """Return the text of a message's content: that itself, or its text parts joined; None if it has none."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    # Neither what the model thinks nor what it calls.
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type", "text") in _TEXTS]
    pieces = [text for text in texts if isinstance(text, str)]
    return "".join(pieces) if pieces else None


def _adapted(operation: str, parameters: Sequence[str]) -> list[str]:
    return [*parameters] if operation == CHAT else [f"{CHAT} became {operation}", *parameters]


def _for_completions(parameters: Mapping[str, Any]) -> dict[str, Any]:
    # The newer name exists in chat completions only; the older operation takes the older one.
    renamed = {name: value for name, value in parameters.items() if name != "max_completion_tokens"}
    if renamed.get("max_tokens") is None and "max_completion_tokens" in parameters:
        renamed["max_tokens"] = parameters["max_completion_tokens"]
    return renamed


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or any(part.get("type") != "text" for part in content):
        return None
    return "\n".join(str(part.get("text", "")) for part in content)
