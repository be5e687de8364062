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

import msgspec
from msgspec import Raw

from shared.actions.base import Context, Step
from shared.actions.chat import parse_chat
from shared.actions.fan_out import side_by_side
from shared.actions.responses_completion import as_completion, join_choices
from shared.actions.responses_request import ResponsesRequest, responses_request
from shared.contract.decoding import json_object
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
    chat; what the others have answered is kept, and a later attempt makes only the calls that are missing.
    """
    request = responses_request(messages, parameters, raise_limit=ctx.output_limit is None)
    calls = _Calls(ctx, request, is_final)
    if request.count == 1:
        response, adapted = await calls.call()
        completion = await ctx.compute(as_completion, response, request.stops, large=response.is_large)
        completion = replace(completion, memory=response.memory)
    else:
        steps = _answered(await side_by_side(map(calls.step, range(1, 1 + request.count))))
        completions = [completion_of(step) for step in steps]
        is_large = any(completion.is_large for completion in completions)
        completion = await ctx.compute(join_choices, completions, large=is_large)
        parts = [part for part, step in zip(completions, steps, strict=True) if step.calls]
        completion = replace(completion, memory=calls.memory, parts=parts)
        adapted = [change for step in steps for change in step.value["adapted"]]
    return completion, list(dict.fromkeys([*request.adapted, *adapted]))


class _Calls:
    """Equal calls: what they send is in memory once, and later ones know what earlier ones have learned."""

    def __init__(self, ctx: Context, request: ResponsesRequest, is_final: Callable[[RequestRejected], bool]) -> None:
        self._ctx, self._request, self._is_final = ctx, request, is_final
        self._gate = asyncio.Semaphore(ctx.connection.concurrency)
        self._content = b""
        self.memory: list[object] = []
        """What large answers have taken of it."""

    async def step(self, number: int) -> Step:
        """Return the call of this number, which is made unless an earlier attempt has. Raises as `Context.step`."""
        async with self._gate:
            return await self._ctx.step_part(number, self._step)

    async def call(self) -> tuple[Response, list[str]]:
        """Call the operation once; return also how it was adapted. Raises as `Context.call`."""
        body = self._request.body
        operation = self._ctx.operation(OPERATION, body, droppable=SAMPLING, is_final=self._is_final)
        if operation.request.content == self._content:
            operation.request = replace(operation.request, content=self._content)
        self._content = operation.request.content
        return await self._ctx.call(operation), operation.adapted

    async def _step(self) -> Step:
        response, adapted = await self.call()
        self.memory.append(response.memory)
        return await self._ctx.compute(read_step, response, self._request.stops, adapted, large=response.is_large)


def read_step(response: Response, stops: Sequence[str], adapted: Sequence[str]) -> Step:
    """Return a response as a step: as a chat completion, or unchanged if it is not an answer, and its call."""
    completion = as_completion(response, stops)
    calls = parse_chat(completion).calls
    body = json_object(completion.body) if completion is response else None
    kept = Raw(completion.body if body is None else msgspec.json.encode(body or response.body.decode(errors="replace")))
    value = {"status": response.status, "request_id": response.request_id, "adapted": list(adapted), "json": kept}
    return Step(value, calls)


def completion_of(step: Step) -> Response:
    """Return the completion of a step of `read_step`."""
    value, kept = step.value, step.value["json"]
    body = kept.encode() if isinstance(kept, str) else msgspec.json.encode(kept)
    call = next(iter(step.calls), None)
    origin = (call.processing, call.metered_as) if call is not None else ()
    return Response(value["status"], {}, body, value["request_id"], None, *origin)


def _answered(parts: Sequence[Step | Exception]) -> list[Step]:
    """Return the steps of all calls. Raises what a call has raised: what ends the job before what lets it wait."""
    errors = [part for part in parts if isinstance(part, Exception)]
    if errors:
        raise min(errors, key=_rank)
    return [part for part in parts if isinstance(part, Step)]


def _rank(error: Exception) -> tuple[int, float]:
    if isinstance(error, RetryLater):
        return 2, -error.delay_s
    return int(isinstance(error, JobError)), 0
