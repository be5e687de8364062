"""
One conversation, by the operation that the model takes: chat completions, or what `chat_routes` knows beside them; for
Claude, `claude`.

A model's name doesn't say which (see capabilities): chat completions are called first, and another operation if the
provider answers that the model needs it. That is kept for a while. `chat.parse_chat` reads the responses of all.
"""

from __future__ import annotations

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
CHAT_WITH_TOOLS = "chat/completions with tools"
"""What is learned of chats with tools alone: some models take these elsewhere, and all others here."""
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

    `is_final` as for `Context.operation`; raises as `Context.call`, and InvalidJob, which names what the model's
    operation does not have. A strict job's chat never becomes another operation: the refusal of chat completions
    stands. If a budget needs a limit of the answer and the parameters have none, it is sent.
    """
    if ctx.connection.endpoint.provider == "anthropic":
        from shared.actions.claude import complete_claude  # noqa: PLC0415  # few customers have Claude

        return await complete_claude(ctx, messages, parameters, is_final)
    if ctx.output_limit is not None and answer_limit(parameters) is None:
        from shared.actions.output_limit import complete_limited  # noqa: PLC0415  # most customers have no budget

        return await complete_limited(partial(complete_chat, ctx, messages), parameters, is_final, ctx)
    learned = CHAT if ctx.strict else ctx.capabilities.replacement_for(CHAT)
    if learned == CHAT and not ctx.strict and (parameters.get("tools") or parameters.get("n", 1) != 1):
        learned = await _learned_of(ctx, parameters)
    if learned not in {CHAT, CHAT_WITH_TOOLS}:
        from shared.actions.chat_routes import Routes  # noqa: PLC0415  # few models need them

        return await Routes(ctx, messages, parameters, is_final).complete(learned)
    operation = ctx.operation(
        CHAT,
        {"messages": messages, **parameters},
        droppable=SAMPLING,
        is_final=lambda error: (not ctx.strict and _names_another(error)) or is_final(error),
    )
    try:
        return await ctx.call(operation), operation.adapted
    except RequestRejected as error:
        if ctx.strict or not _names_another(error):
            raise
        from shared.actions.chat_routes import Routes  # noqa: PLC0415

        return await Routes(ctx, messages, parameters, is_final).complete_refused(error)


async def _learned_of(ctx: Context, parameters: Mapping[str, Any]) -> str:
    """Return the operation that a chat with tools or several answers needs, or that some of its answers came from."""
    if parameters.get("n", 1) != 1:
        from shared.actions.chat_routes import RESPONSES, has_answers  # noqa: PLC0415  # few chats have several

        if await has_answers(ctx):
            return RESPONSES
    return ctx.capabilities.replacement_for(CHAT_WITH_TOOLS) if parameters.get("tools") else CHAT


def _names_another(error: RequestRejected) -> bool:
    from shared.actions.chat_routes import names_another  # noqa: PLC0415

    return names_another(error, CHAT)


def content_text(content: Any) -> str | None:
    """Return the text of a message's content: that itself, or its text parts joined; None if it has none."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    # Neither what the model thinks nor what it calls.
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type", "text") in _TEXTS]
    pieces = [text for text in texts if isinstance(text, str)]
    return "".join(pieces) if pieces else None
