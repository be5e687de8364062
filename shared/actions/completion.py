"""
One conversation, asked of whatever a model takes: chat completions, or the completions of older models.

A name does not tell which (see adaptations): chat completions are asked, and where the provider answers
that its model wants the other operation, that one. What was learned is remembered for a while. Answers
of both are read by `chat.parse_chat`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shared.actions.base import Bench
from shared.errors import RequestRejected
from shared.upstream.capabilities import SAMPLING
from shared.upstream.messages import Reply, never

CHAT = "chat/completions"
COMPLETIONS = "completions"

# OpenAI: 404 "This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did you
# mean to use v1/completions?", and the same the other way round. Azure: 400 OperationNotSupported "The
# chatCompletion operation does not work with the specified model, …", or "The completion operation …".
_STATUSES = frozenset({400, 404})
_WANTED = {
    CHAT: re.compile(r"not a chat model|use v1/completions|chatCompletion operation does not work"),
    COMPLETIONS: re.compile(r"is a chat model|use v1/chat/completions|\bcompletion operation does not work"),
}
_OTHER = {CHAT: COMPLETIONS, COMPLETIONS: CHAT}
_UNLABELLED = frozenset({"system", "developer"})


async def complete(
    bench: Bench,
    messages: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
    *,
    final: Callable[[RequestRejected], bool] = never,
) -> tuple[Reply, list[str]]:
    """
    The model's answer to `messages`, and how the request was adapted. `final` as `Bench.ask`; raises as that does.

    Messages that hold more than text, such as pictures, can't be a prompt, and a strict job's are not made
    one: chat's refusal of them stands.
    """
    bodies: dict[str, dict[str, Any]] = {CHAT: {"messages": messages, **parameters}}
    prompt = as_prompt(messages)
    if prompt is not None and not bench.strict:
        bodies[COMPLETIONS] = {"prompt": prompt, **_renamed(parameters)}
    known = bench.stands_for(CHAT)
    operation = known if known in bodies else CHAT
    other = _OTHER[operation]

    def goes_on(error: RequestRejected) -> bool:
        return other in bodies and wants_other(error, operation)

    try:
        return await _ask(bench, operation, bodies[operation], lambda error: goes_on(error) or final(error))
    except RequestRejected as error:
        if not goes_on(error):
            raise
    answered = await _ask(bench, other, bodies[other], final)
    bench.learn_stands_for(CHAT, other)
    return answered


def wants_other(error: RequestRejected, operation: str) -> bool:
    """Whether the provider says that its model is one for the other of the two operations."""
    return error.facts.status in _STATUSES and _WANTED[operation].search(str(error)) is not None


def as_prompt(messages: Sequence[Mapping[str, Any]]) -> str | None:
    """
    Messages as one prompt: a single message of the user's as it is; others with empty lines between them,
    `User: …`, `Assistant: …`, a system message without a label, and `Assistant:` at the end.

    None where one holds more than text.
    """
    texts = [_text(message.get("content")) for message in messages]
    known = [text for text in texts if text is not None]
    if len(known) < len(texts):
        return None
    roles = [message["role"] for message in messages]
    if roles == ["user"]:
        return known[0]
    lines = [
        text if role in _UNLABELLED else f"{role.capitalize()}: {text}" for role, text in zip(roles, known, strict=True)
    ]
    return "\n\n".join([*lines, "Assistant:"])


async def _ask(
    bench: Bench, operation: str, body: dict[str, Any], final: Callable[[RequestRejected], bool]
) -> tuple[Reply, list[str]]:
    reply, adapted = await bench.ask(operation, body, droppable=SAMPLING, final=final)
    return reply, adapted if operation == CHAT else [f"{CHAT} became {operation}", *adapted]


def _renamed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    # The newer name is chat's only; the older operation knows the older one.
    renamed = {name: value for name, value in parameters.items() if name != "max_completion_tokens"}
    if "max_completion_tokens" in parameters:
        renamed.setdefault("max_tokens", parameters["max_completion_tokens"])
    return renamed


def _text(content: Any) -> str | None:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or any(part.get("type") != "text" for part in content):
        return None
    return "\n".join(str(part.get("text", "")) for part in content)
