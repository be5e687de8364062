"""
Chats on models that don't take chat completions: by the completions of older models, or by the Responses API, which
some newer ones have alone. Imported when a refusal says so.

A refusal names the operation that the model needs, and is not always right: OpenAI's says "use v1/completions" of
models that only have responses, and completions then say so; Azure's is the same for all. So each operation is called
once, until one answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.actions.base import Context
from shared.actions.completion import CHAT, CHAT_WITH_TOOLS
from shared.actions.fan_out import PART
from shared.actions.openai_api import has_responses
from shared.errors import InvalidJob, JobError, ModelNotFound, RequestRejected
from shared.upstream.capabilities import SAMPLING
from shared.upstream.messages import Response

COMPLETIONS, RESPONSES = "completions", "responses"

_STATUSES = frozenset({400, 404})
# OpenAI: 404 "This model is only supported in v1/responses and not in v1/chat/completions.", or "… not in
# v1/completions."; 400 "Function tools with reasoning_effort are not supported for gpt-5.6-sol in /v1/chat/completions.
# Please use /v1/responses instead.", or "… To use function tools, use /v1/responses or set reasoning_effort to 'none'."
# 404 "This is not a chat model and thus not supported in the v1/chat/completions endpoint. Did you mean to use
# v1/completions?", also of models that have responses alone (gpt-5.2-codex), and the same the other way round.
# Azure: 400 OperationNotSupported "The chatCompletion operation does not work with the specified model, …", of either
# kind, or "The completion operation …". Of responses, no sentence of Azure's is on record.
_ONLY_RESPONSES = re.compile(r"(?:supported in|use) /?v1/responses")
_OTHERS: dict[str, list[tuple[re.Pattern[str], tuple[str, ...]]]] = {
    CHAT: [
        (_ONLY_RESPONSES, (RESPONSES,)),
        (re.compile(r"not a chat model|use v1/completions"), (COMPLETIONS, RESPONSES)),
        (re.compile(r"chatCompletion operation does not work"), (RESPONSES, COMPLETIONS)),
    ],
    COMPLETIONS: [
        (_ONLY_RESPONSES, (RESPONSES,)),
        (
            re.compile(r"is a chat model|use v1/chat/completions|\bcompletion operation does not work"),
            (CHAT, RESPONSES),
        ),
    ],
    RESPONSES: [
        (
            re.compile(
                r"not supported (?:with|in|by) (?:the )?(?:Responses API|/?v1/responses)"
                r"|(?:supported in|use) /?v1/chat/completions|\bresponses? operation does not work",
                re.IGNORECASE,
            ),
            (CHAT, COMPLETIONS),
        )
    ],
}
_OF_TOOLS = re.compile(r"function tools", re.IGNORECASE)
_WITHOUT_LABEL = frozenset({"system", "developer"})
_CHAT_ONLY = frozenset({"tools", "tool_choice", "response_format", "reasoning_effort", "verbosity"})
"""Parameters that no completions have: a chat that has one goes on by responses, if the endpoint has these."""


def names_another(error: RequestRejected, operation: str) -> bool:
    """Return whether the provider says that its model takes another operation than this one."""
    return bool(_others(error, operation))


def _others(error: RequestRejected, operation: str) -> tuple[str, ...]:
    if error.facts.status not in _STATUSES:
        return ()
    return next((others for pattern, others in _OTHERS[operation] if pattern.search(str(error))), ())


async def has_answers(ctx: Context) -> bool:
    """
    Return whether some answers of the job's chats are kept, each by the Responses API.

    That decides, before what is learned: that is this worker's and this connection's alone, and others may have begun.
    """
    return any(PART in key for key in await ctx.step_keys())


@dataclass(slots=True)
class Routes:
    """The operations by which one chat can be called. See `completion.complete_chat`."""

    ctx: Context
    messages: Sequence[Mapping[str, Any]]
    parameters: Mapping[str, Any]
    is_final: Callable[[RequestRejected], bool]
    _called: list[str] = field(default_factory=list)
    _others: Sequence[str] = ()
    """Those that the last refusal names."""
    _reason: JobError | None = None
    """The first refusal that is about the chat itself: it stands if no operation answers."""
    _learned_as: str = CHAT

    async def complete(self, learned: str) -> tuple[Response, list[str]]:
        """Call the operation that was learned, and another if the model has changed since."""
        if self.ctx.capabilities.replacement_for(CHAT) == CHAT:
            self._learned_as = CHAT_WITH_TOOLS
        return await self._complete(learned if self._is_possible(learned) else CHAT)

    async def complete_refused(self, refusal: RequestRejected) -> tuple[Response, list[str]]:
        """Call what the refusal of chat completions names. Raises it if this chat can't be called so."""
        self._called.append(CHAT)
        if _OF_TOOLS.search(str(refusal)):
            self._learned_as = CHAT_WITH_TOOLS
        self._note(refusal, CHAT)
        following = self._following()
        if following is None:
            raise self._explained(refusal)
        return await self._complete(following)

    async def _complete(self, operation: str) -> tuple[Response, list[str]]:
        self._called.append(operation)
        try:
            response, adapted = await self._call(operation)
        except (RequestRejected, InvalidJob) as error:
            self._note(error, operation)
            following = self._following()
            if following is None:
                raise (self._reason or self._explained(error)) from error
        except ModelNotFound:
            if len(self._called) == 1:  # the deployment has another model now, or is gone
                self.ctx.capabilities.learn_replacement(self._learned_as, self._learned_as)
            raise
        else:
            if len(self._called) > 1:
                other = self._learned_as if operation == CHAT else operation
                self.ctx.capabilities.learn_replacement(self._learned_as, other)
            return response, adapted if operation == CHAT else [f"{CHAT} became {operation}", *adapted]
        return await self._complete(following)

    async def _call(self, operation: str) -> tuple[Response, list[str]]:
        def is_final(error: RequestRejected) -> bool:
            return names_another(error, operation) or self.is_final(error)

        if operation == RESPONSES:
            from shared.actions.chat_by_responses import complete_by_responses  # noqa: PLC0415

            return await complete_by_responses(self.ctx, self.messages, self.parameters, is_final)
        called = self.ctx.operation(operation, self._body(operation), droppable=SAMPLING, is_final=is_final)
        return await self.ctx.call(called), called.adapted

    def _body(self, operation: str) -> dict[str, Any]:
        if operation == CHAT:
            return {"messages": self.messages, **self.parameters}
        return {"prompt": as_prompt(self.messages), **_for_completions(self.parameters)}

    def _note(self, error: RequestRejected | InvalidJob, operation: str) -> None:
        """Note what the refusal names; one that names nothing is about the chat."""
        others = _others(error, operation) if isinstance(error, RequestRejected) else ()
        if not others:
            self._reason = self._reason or error
        else:
            self._others = others

    def _explained(self, error: RequestRejected | InvalidJob) -> JobError:
        """Return the last refusal; on an endpoint that could have responses, with what to do."""
        endpoint = self.ctx.connection.endpoint
        if not isinstance(error, RequestRejected) or endpoint.provider == "openai" or has_responses(endpoint):
            return error
        advice = "If the model has the Responses API alone, use a connection whose `endpoint` ends in /openai/v1."
        return RequestRejected(f"{error} {advice}", error.facts)

    def _following(self) -> str | None:
        others = (other for other in self._others if other not in self._called)
        return next(filter(self._is_possible, others), None)

    def _is_possible(self, operation: str) -> bool:
        responds = has_responses(self.ctx.connection.endpoint)
        if operation == COMPLETIONS:
            is_text = as_prompt(self.messages) is not None
            return is_text and not (responds and _CHAT_ONLY & self.parameters.keys())
        return operation == CHAT or responds


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
