"""
One conversation by the Responses API, for models that take no chat completions.

A chat is the same job whatever its model takes. So the request is made from the messages and parameters of chat
completions (`responses_request`), and the response becomes a chat completion (`responses_completion`), which the
actions read as any other. Nothing is stored at the provider.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from shared.actions.base import Context
from shared.actions.fan_out import side_by_side
from shared.actions.responses_completion import as_completion, join_choices
from shared.actions.responses_request import responses_request
from shared.errors import JobError, RequestRejected, RetryLater
from shared.upstream.capabilities import SAMPLING
from shared.upstream.messages import Response

OPERATION = "responses"


async def complete_by_responses(
    ctx: Context,
    messages: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
    is_final: Callable[[RequestRejected], bool],
) -> tuple[Response, list[str]]:
    """
    Return the model's response as a chat completion, and how the request was adapted. As `completion.complete_chat`.

    The API gives one answer a call, so `n` of them are as many calls, side by side. If one of them fails, so does the
    chat; what the others have answered is on record as lost.
    """
    request = responses_request(messages, parameters, raise_limit=ctx.output_limit is None)
    calls = _Calls(ctx, request.body, is_final)
    if request.count == 1:
        response = await calls.call()
        completion = await ctx.compute(as_completion, response, request.stops, large=response.is_large)
        completion = replace(completion, memory=response.memory)
    else:
        responses = _answered(await side_by_side(calls.call() for _ in range(request.count)))
        is_large = any(response.is_large for response in responses)
        completion = await ctx.compute(join_choices, responses, request.stops, large=is_large)
        completion = replace(completion, memory=[response.memory for response in responses])
    return completion, list(dict.fromkeys([*request.adapted, *calls.adapted]))


class _Calls:
    """Equal calls: what they send is in memory once, and later ones know what earlier ones have learned."""

    def __init__(self, ctx: Context, body: dict[str, Any], is_final: Callable[[RequestRejected], bool]) -> None:
        self._ctx, self._body, self._is_final = ctx, body, is_final
        self._gate = asyncio.Semaphore(ctx.connection.concurrency)
        self._content = b""
        self.adapted: list[str] = []
        """How those that were answered had been adapted."""

    async def call(self) -> Response:
        """Call the operation once. Raises as `Context.call`."""
        async with self._gate:
            operation = self._ctx.operation(OPERATION, self._body, droppable=SAMPLING, is_final=self._is_final)
            if operation.request.content == self._content:
                operation.request = replace(operation.request, content=self._content)
            self._content = operation.request.content
            response = await self._ctx.call(operation)
            self.adapted += operation.adapted
            return response


def _answered(parts: Sequence[Response | Exception]) -> list[Response]:
    """Return the responses to all calls. Raises what a call has raised: what ends the job before what lets it wait."""
    errors = [part for part in parts if isinstance(part, Exception)]
    if errors:
        raise min(errors, key=_rank)
    return [part for part in parts if isinstance(part, Response)]


def _rank(error: Exception) -> tuple[int, float]:
    if isinstance(error, RetryLater):
        return 2, -error.delay_s
    return int(isinstance(error, JobError)), 0
