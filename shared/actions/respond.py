"""
`respond`: a response of the Responses API, which the provider makes in the background wherever it can. Knows its JSON.

No worker waits for it: see `jobs.response_context` and `jobs.response_executor`.
"""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol, cast

from msgspec import Raw

from shared.actions.answer import answered_error
from shared.actions.base import Completed, Context
from shared.actions.openai_api import WITH_RESPONSES, has_responses
from shared.actions.operation import JsonOperation
from shared.billing.usage import call_of_values
from shared.connections.connection import Connection
from shared.contract.decoding import condensed, json_object
from shared.contract.respond import Respond, decode_respond, part_lists
from shared.errors import ContentFiltered, InvalidJob, JobCancelled, JobError, ProviderUnavailable, UpstreamFacts
from shared.upstream.capabilities import SAMPLING
from shared.upstream.error_body import filter_detail, filter_verdicts, read_refusal
from shared.upstream.messages import Response

NEEDS_MODEL = True
OPERATION = "responses"
ENDED = frozenset({"completed", "failed", "cancelled", "incomplete"})
UNFINISHED = frozenset({"queued", "in_progress"})
MAX_FILE_BYTES = 32 * 1024 * 1024
"""Of all blobs that a job inlines."""
_PDF = b"%PDF-"
_SHOWN = ("model", "created_at", "previous_response_id", "incomplete_details")


class ResponseCreator(Context, Protocol):
    """The context of this action. `jobs.response_context.ResponseContext` implements it."""

    async def create(self, make: Callable[[], Awaitable[JsonOperation]]) -> tuple[Response, Sequence[str]]:
        """
        Create a response once; return it, ended, with how its parameters were adapted. `make`: returns the operation.

        Raises BatchWait if it was created in the background, so that another attempt gets it, and as `Context.call`.
        """


def decode(data: Raw | bytes) -> Respond:
    """See Action."""
    return decode_respond(data)


def keeps_blobs(_: Respond) -> bool:
    """See Action."""
    return False


async def run(request: Respond, ctx: Context) -> Completed:
    """See Action."""
    check_connection(ctx.connection, "The action respond")
    creator = cast(ResponseCreator, ctx)
    memory: list[object] = []  # of the blobs, as long as the request
    response, adapted = await creator.create(partial(_operation, request, creator, memory))
    return await ctx.compute(read_response, response, adapted, large=response.is_large)


def check_connection(connection: Connection, what: str) -> None:
    """Raise InvalidJob if the connection's API has no responses, or may not store any. `what`: that needs them."""
    endpoint, name = connection.endpoint, connection.name
    if connection.source == "static":
        raise InvalidJob(
            f"{what} needs a connection of the customer's own: the provider stores its responses, and this customer "
            "uses the operator's connection."
        )
    if endpoint.provider not in WITH_RESPONSES:
        raise InvalidJob(f"The provider of the connection {name} has no Responses API; OpenAI and Azure OpenAI have.")
    if not has_responses(endpoint):
        raise InvalidJob(
            f"{what} needs a connection whose `endpoint` ends in /openai/v1; the connection {name} leads to an API "
            "without responses."
        )


async def _operation(request: Respond, ctx: Context, memory: list[object]) -> JsonOperation:
    body: dict[str, Any] = {**request.parameters, "input": await _with_files(request, ctx, memory)}
    if request.in_background:
        body |= {"background": True, "store": True}
    if request.instructions is not None:
        body["instructions"] = request.instructions
    if request.previous_response_id is not None:
        body["previous_response_id"] = request.previous_response_id
    if ctx.output_limit is not None and body.get("max_output_tokens") is None:
        body["max_output_tokens"] = ctx.output_limit
    return ctx.operation(OPERATION, body, droppable=SAMPLING)


async def _with_files(request: Respond, ctx: Context, memory: list[object]) -> str | list[Any]:
    """Return the input, each blob that it names as a data URL, and add its memory."""
    parts = list(request.blob_parts())
    if not parts or isinstance(request.input, str):
        return request.input
    blobs = await ctx.read_blobs([each.named for each in parts], max_bytes=MAX_FILE_BYTES)
    memory.append(blobs.memory)
    urls = {
        id(each.part): inlined(each.part, each.named.blob.name, data, at=each.named.at)
        for each, data in zip(parts, blobs.data, strict=True)
    }
    return [
        {**item, **{name: [urls.get(id(part), part) for part in parts] for name, parts in part_lists(item).items()}}
        for item in request.input
    ]


def inlined(part: dict[str, Any], name: str, data: bytes, *, at: str) -> dict[str, Any]:
    """Return a content part with a blob's data in place of its name. Raises InvalidJob."""
    rest = {member: value for member, value in part.items() if member != "blob"}
    filename = name.rpartition("/")[2]
    if part["type"] == "input_image":
        from shared.actions.image_format import inspect_image  # noqa: PLC0415  # only for images

        media_type = inspect_image(data).content_type
        if not media_type.startswith("image/"):
            raise InvalidJob(f"`{at}` names a blob that is no PNG, JPEG, GIF or WebP image.")
        return {**rest, "image_url": data_url(media_type, data)}
    guessed = mimetypes.guess_type(filename)[0] or "application/octet-stream"
    media_type = "application/pdf" if data.startswith(_PDF) else guessed
    return {"filename": filename, **rest, "file_data": data_url(media_type, data)}


def data_url(media_type: str, data: bytes) -> str:
    """Return data as a URL."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def read_response(response: Response, adapted: Sequence[str] = ()) -> Completed:
    """As `parse_response`, with the output as JSON text if the response is large."""
    outcome = parse_response(response, adapted)
    if outcome.output is None or not response.is_large:
        return outcome
    return Completed(condensed(outcome.output), outcome.calls, outcome.status, outcome.error)


def parse_response(response: Response, adapted: Sequence[str] = ()) -> Completed:
    """
    Return a response that has ended as an outcome: `id`, `status`, `text` and `output` as the provider sent them.

    One that has failed, was cancelled or was stopped by the content filter is an error. Its call is among `calls` if it
    was billed for certain.
    """
    body = json_object(response.body)
    status, items = body.get("status"), body.get("output")
    call = call_of_values([body] if body else [], response.request_id, response.processing, response.metered_as)
    error = answered_error([body], response) if body.get("error") or status == "failed" else None
    if not isinstance(items, list) or not isinstance(body.get("id"), str) or status in UNFINISHED:
        return Completed(None, [call], "failed", error or _no_response(response))
    is_answer = status not in {"failed", "cancelled"}
    calls = [call] if call.usage is not None or is_answer or not body.get("background") else []
    text = response_text(items)
    output = {"id": body["id"], "status": status, "text": text, "output": items}
    output |= {name: body[name] for name in _SHOWN if body.get(name) is not None}
    if adapted:
        output["adapted"] = list(adapted)
    reason = _object(body.get("incomplete_details")).get("reason")
    if status == "cancelled":
        return Completed(output, calls, "failed", JobCancelled("The response was cancelled at its provider."))
    if status == "incomplete" and reason == "content_filter":
        filtered: JobError = ContentFiltered(
            "The provider's content policy stopped the response. It was billed.",
            UpstreamFacts(
                response.status, response.request_id, detail=filter_detail(filter_verdicts(body.get("content_filters")))
            ),
        )
        return Completed(output, calls, "partial" if text else "failed", filtered)
    return Completed(output, calls, "succeeded" if error is None else "failed", error)


def response_text(items: Sequence[Any]) -> str:
    """Return the text of all messages among a response's output items."""
    contents = (item.get("content") for item in items if isinstance(item, dict) and item.get("type") == "message")
    parts = (part for content in contents if isinstance(content, list) for part in content if isinstance(part, dict))
    texts = (part.get("text") for part in parts if part.get("type") == "output_text")
    return "".join(text for text in texts if isinstance(text, str))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _no_response(response: Response) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"The endpoint answered {response.status} with something that is not an answer of the Responses API"
        f"{read_refusal(response.body).quote}",
        UpstreamFacts(status=response.status, request_id=response.request_id),
    )
