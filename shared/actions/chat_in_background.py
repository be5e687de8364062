"""
`chat` in the windows of hours in which providers make responses for less (`options.processing: background`).

The chat is carried to the Responses API (see `chat_by_responses`), and created there as a response of `respond` is:
once, and no worker waits for it. Its output has a chat's shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from shared.actions.base import Completed, Context
from shared.actions.chat import NEEDS_MODEL, decode, keeps_blobs, read_chat
from shared.actions.completion import CHAT
from shared.actions.operation import JsonOperation
from shared.actions.respond import OPERATION, ResponseCreator, check_connection, parse_response
from shared.actions.responses_completion import as_completion
from shared.actions.responses_request import ResponsesRequest, responses_request
from shared.contract.chat import Chat
from shared.contract.respond import check_metadata
from shared.errors import InvalidJob
from shared.upstream.capabilities import SAMPLING
from shared.upstream.messages import Response

__all__ = ["NEEDS_MODEL", "decode", "keeps_blobs", "read_chat_response", "run"]
_NO_ANSWER = ("failed", "cancelled")


async def run(request: Chat, ctx: Context) -> Completed:
    """See Action."""
    check_connection(ctx.connection, "A chat with the processing background")
    creator = cast(ResponseCreator, ctx)
    response, adapted = await creator.create(partial(_operation, request, creator))
    return await ctx.compute(read_chat_response, response, adapted, large=response.is_large)


def request_of(chat: Chat, *, raise_limit: bool = True) -> ResponsesRequest:
    """Return what is asked for. Raises InvalidJob for what can't wait, and names it."""
    check_metadata(chat.parameters)
    request = responses_request(chat.messages, chat.parameters, raise_limit=raise_limit)
    for name, is_set in (("n", request.count > 1), ("stop", request.stops)):
        if is_set:
            raise InvalidJob(f"`input.parameters.{name}` can't be set if `options.processing` is background.")
    if chat.parameters.get("store") is False:
        raise InvalidJob(
            "`input.parameters.store` can't be false if `options.processing` is background: the provider stores what "
            "waits."
        )
    return request


async def _operation(chat: Chat, ctx: Context) -> JsonOperation:
    request = request_of(chat, raise_limit=ctx.output_limit is None)
    if ctx.strict and request.adapted:
        raise InvalidJob(
            f"`options.strict` is set, but in the background this can't be sent as it is: {request.adapted[0]}."
        )
    body: dict[str, Any] = {**request.body, "background": True, "store": True}
    if ctx.output_limit is not None and body.get("max_output_tokens") is None:
        body["max_output_tokens"] = ctx.output_limit
    operation = ctx.operation(OPERATION, body, droppable=SAMPLING)
    operation.adapted[:0] = [f"{CHAT} became {OPERATION}", *request.adapted]
    return operation


def read_chat_response(response: Response, adapted: Sequence[str] = ()) -> Completed:
    """
    Return a response that has ended as the outcome of its chat.

    One that has failed or was cancelled is an error as `respond` has it. The calls are those of the stored response.
    """
    outcome = parse_response(response, adapted)
    if outcome.output is None or outcome.output["status"] in _NO_ANSWER:
        return replace(outcome, output=None)
    return replace(read_chat(as_completion(response), adapted), calls=outcome.calls)
