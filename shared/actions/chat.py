"""`chat`: one conversation with one model. Knows the JSON of chat completions, and of the responses of completions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from msgspec import Raw

from shared.actions.answer import answered_error
from shared.actions.base import Completed, Context
from shared.actions.completion import complete_chat, content_text
from shared.actions.sse import values_of
from shared.billing.usage import call_of_values
from shared.contract.chat import Chat, decode_chat
from shared.contract.decoding import condensed, json_object
from shared.errors import ContentFiltered, ProviderUnavailable, UpstreamFacts
from shared.upstream.error_body import filter_detail, read_refusal
from shared.upstream.messages import Response

NEEDS_MODEL = True


def decode(data: Raw | bytes) -> Chat:
    """See Action."""
    return decode_chat(data)


def keeps_blobs(_: Chat) -> bool:
    """See Action."""
    return False


async def run(request: Chat, ctx: Context) -> Completed:
    """See Action."""
    response, adapted = await complete_chat(ctx, request.messages, request.parameters)
    return await ctx.compute(read_chat, response, adapted, large=response.is_large)


def read_chat(response: Response, adapted: Sequence[str]) -> Completed:
    """As `parse_chat`, with the choices as JSON text if the response is large."""
    outcome = parse_chat(response, adapted)
    if outcome.output is None or not response.is_large:
        return outcome
    return replace(outcome, output=condensed(outcome.output))


def parse_chat(response: Response, adapted: Sequence[str] = ()) -> Completed:
    """
    Return a 2xx response as an outcome: `text` (of the first choice), `finish_reason`, the `choices` as they came, and
    how parameters were `adapted`.

    An answer that the content filter stopped is an error that was billed, and keeps its details; so is an error that
    comes as an answer.
    """
    body = json_object(response.body)
    # Some gateways stream whether or not that was requested.
    values = [body] if body else values_of(response.body)
    choices = _choices(body)
    calls = [call_of_values(values, response.request_id, response.processing, response.metered_as)]
    if response.parts is not None:
        calls = [call for part in response.parts for call in parse_chat(part).calls]
    has_error = not choices or body.get("error") or any(choice.get("error") for choice in choices)
    answered = answered_error([body], response) if has_error else None
    if not choices:
        return Completed(None, calls, "failed", answered or _no_completion(response))
    output = {
        "text": _text(choices[0]),
        "finish_reason": choices[0].get("finish_reason"),
        "choices": choices,
        **{name: body[name] for name in ("id", "model", "created", "system_fingerprint") if body.get(name)},
    }
    if verdicts := body.get("prompt_filter_results"):
        output["prompt_filter_results"] = verdicts
    if adapted:
        output["adapted"] = list(adapted)
    if answered is not None:
        return Completed(output, calls, "failed", answered)
    filtered = sum(choice.get("finish_reason") == "content_filter" for choice in choices)
    if not filtered:
        return Completed(output, calls)
    error = ContentFiltered(
        f"The provider's content policy stopped {filtered} of {len(choices)} answers. The call was billed.",
        UpstreamFacts(status=response.status, request_id=response.request_id, detail=_verdicts(choices)),
    )
    return Completed(output, calls, "failed" if filtered == len(choices) else "partial", error)


def _choices(body: dict[str, Any]) -> list[dict[str, Any]]:
    choices = body.get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        return []
    return choices


def _text(choice: dict[str, Any]) -> str | None:
    message = choice.get("message")
    # Completions, the older operation, have the text in the choice itself.
    return content_text(message.get("content") if isinstance(message, dict) else choice.get("text"))


def _verdicts(choices: list[dict[str, Any]]) -> dict[str, Any]:
    stopped = [choice for choice in choices if choice.get("finish_reason") == "content_filter"]
    results = (choice.get("content_filter_results") for choice in stopped)
    return filter_detail(next((result for result in results if result), None))


def _no_completion(response: Response) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"The endpoint answered {response.status} with something that is not a chat completion"
        f"{read_refusal(response.body).quote}",
        UpstreamFacts(status=response.status, request_id=response.request_id),
    )
