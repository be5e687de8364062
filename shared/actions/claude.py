"""
One conversation with Claude: Anthropic's Messages API, in Foundry or at Anthropic's own endpoint.

A chat is the same job whoever serves it. So the request is made from OpenAI's messages and parameters
(`claude_request`), and the response becomes a chat completion (`claude_response`), which the actions read as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shared.actions.base import Context
from shared.actions.claude_request import claude_request
from shared.actions.claude_response import as_completion
from shared.actions.output_limit import lower_limit
from shared.contract.chat import answer_limit, thinking_budget
from shared.errors import InvalidJob, RequestRejected
from shared.upstream.capabilities import SAMPLING
from shared.upstream.messages import Response

MESSAGES = "messages"
DEFAULT_LIMIT = 16_384
"""
Tokens of an answer to a job that sets no limit, since Claude's API needs one. A model whose own limit is lower says so,
and gets that. From 21,333 on, the official client insists on a stream, which no job has.
"""
_LIMIT = "max_tokens"
_DROPPABLE = SAMPLING | {"top_k"}


async def complete_claude(
    ctx: Context,
    messages: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
    is_final: Callable[[RequestRejected], bool],
) -> tuple[Response, list[str]]:
    """
    Return the model's response as a chat completion, and how the request was adapted. As `completion.complete_chat`.

    Raises InvalidJob, which names what Claude's API does not have, and for a strict job what it would go without.
    """
    request = claude_request(messages, parameters)
    if ctx.strict and request.adapted:
        raise InvalidJob(f"`options.strict` is set, but Claude can't be sent this as it is: {request.adapted[0]}.")
    own_limit = answer_limit(parameters)
    limit = own_limit or _default_limit(ctx, parameters)

    def lower(error: RequestRejected) -> int | None:
        return lower_limit(error, limit) if own_limit is None else None

    async def call(limit: int, is_final: Callable[[RequestRejected], bool]) -> tuple[Response, list[str]]:
        operation = ctx.operation(MESSAGES, {_LIMIT: limit, **request.body}, droppable=_DROPPABLE, is_final=is_final)
        response = await ctx.call(operation)
        completion = await ctx.compute(as_completion, response, large=response.is_large)
        return replace(completion, memory=response.memory), [*request.adapted, *operation.adapted]

    try:
        return await call(limit, lambda error: lower(error) is not None or is_final(error))
    except RequestRejected as error:
        learned = lower(error)
        if learned is None:
            raise
    ctx.capabilities.learn_batch_limit(_LIMIT, learned)
    return await call(learned, is_final)


def _default_limit(ctx: Context, parameters: Mapping[str, Any]) -> int:
    """
    Return the limit of an answer that the job doesn't limit: beyond its thinking, and no more than a budget covers.

    What a budget covers is beyond the thinking, too (`billing.estimates`): Claude takes no limit below that.
    """
    own = DEFAULT_LIMIT if ctx.output_limit is None else min(DEFAULT_LIMIT, ctx.output_limit)
    wanted, learned = own + thinking_budget(parameters), ctx.capabilities.batch_limit(_LIMIT)
    return wanted if learned is None else min(wanted, learned)
