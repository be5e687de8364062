"""`raw`: one request to the customer's endpoint exactly as the job gives it, and its response. Knows little JSON."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from shared.actions.answer import answered_error
from shared.actions.base import Completed, Context, Step
from shared.actions.raw_response import extension, read_response, usual_type
from shared.actions.sse import read_error_events
from shared.billing.usage import Call, as_fetched, call_of_values
from shared.connections.endpoint import Endpoint
from shared.contract.decoding import condensed, json_object
from shared.contract.error_codec import error_body, error_from_body
from shared.contract.raw import RawRequest, decode_raw
from shared.contract.refusals import printable
from shared.errors import InvalidJob, JobError, ProviderUnavailable, UpstreamFacts
from shared.upstream.messages import FilePart, Operation, Response, UpstreamRequest

NEEDS_MODEL = False
"""See Action: most paths need none."""


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What one response is to a job."""

    output: dict[str, Any]
    call: Call
    error: JobError | None
    media_type: str
    binary: bool
    """The body is to be saved as bytes, which `output` lacks."""


_SHOWN_HEADERS = {
    *("content-type", "location", "operation-location", "retry-after", "retry-after-ms", "x-ms-retry-after-ms"),
    *("x-request-id", "apim-request-id", "x-ms-request-id", "request-id"),
}
_SHOWN_HEADER_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")
_STREAMED_OPERATIONS = {"chat/completions", "completions"}
_METERED_OPERATIONS = {
    *_STREAMED_OPERATIONS,
    *("embeddings", "images/generations", "images/edits", "audio/transcriptions", "messages"),
}
"""Operations that store nothing at the provider, and whose responses report what they consumed."""
_METERED_FORMATS = {"", "json", "verbose_json"}
"""Of a transcription: the others are text alone."""
_READ_FIELDS = {"model", "response_format", "stream"}
"""Fields that decide what a request costs: a file of the same name could take the place of the one that is checked."""
_MAX_URL = 16_384
"""Characters. No server takes more, and the HTTP client refuses it beyond 65,536."""


def decode(data: Raw | bytes) -> RawRequest:
    """See Action."""
    return decode_raw(data)


def keeps_blobs(request: RawRequest) -> bool:
    """See Action."""
    return request.response_type == "binary"


async def run(request: RawRequest, ctx: Context) -> Completed:
    """See Action."""
    connection = ctx.connection
    request = replace(request, path=path_below(request.path, connection.endpoint))
    if connection.source == "static":
        request = metered_request(request)
    model = ctx.model if connection.endpoint.has_model_in_url(request.path) else ""
    if not model and (named := request.model):
        connection.check_model(named)
        ctx.name_model(named)
    elif not model and connection.allowed_models:
        raise InvalidJob("The body of `input` needs a `model`: this customer uses the operator's connection.")
    operation = Operation(
        UpstreamRequest(
            method=request.method,
            url=raw_url(request, connection.endpoint, model),
            content=request.content,
            headers={**connection.headers(), **request.headers},  # none of them is one that the connection alone sets
            form=request.form,
            files={
                name: [FilePart(file.filename, file.content, file.content_type) for file in files]
                for name, files in request.files.items()
            },
        )
    )
    if request.response_type != "binary":
        return await _call(request, operation, ctx)
    # The step's blob is written before the step is stored.
    step = await ctx.step("whole", partial(_call_as_step, request, operation, ctx))
    error = step.value.get("error")
    return Completed(step.value["output"], (), step.value["status"], error and error_from_body(error))


async def _call(request: RawRequest, operation: Operation, ctx: Context) -> Completed:
    response = await ctx.call(operation)
    answer = await ctx.compute(read_answer, response, request.response_type, large=response.is_large)
    calls = await _calls(request, answer.call, ctx)
    output = answer.output
    if answer.binary:
        blob = await ctx.save_blob(f"output.{extension(answer.media_type)}", response.body, answer.media_type)
        output["blob"] = msgspec.to_builtins(blob)
    return Completed(output, calls, "succeeded" if answer.error is None else "failed", answer.error)


async def _calls(request: RawRequest, call: Call, ctx: Context) -> list[Call]:
    """
    The billed call that the request was, or whose response it has fetched.

    A POST is a call. What another method returns is one if it is a response or batch that is stored at the provider,
    has its usage, and was not recorded before.
    """
    if request.method != "POST":
        if not call.metered_as:
            return []
        call = as_fetched(call)
    creates = request.path.strip("/") == "responses"  # a new response, so it is not on record
    if call.metered_as and not creates and await ctx.is_metered(call.metered_as):
        return []
    return [call]


async def _call_as_step(request: RawRequest, operation: Operation, ctx: Context) -> Step:
    outcome = await _call(request, operation, ctx)
    error = None if outcome.error is None else msgspec.to_builtins(error_body(outcome.error))
    return Step({"output": outcome.output, "status": outcome.status, "error": error}, outcome.calls)


def metered_request(request: RawRequest) -> RawRequest:
    """
    Return a request on the operator's account so that its response reports what it consumed.

    Raises InvalidJob if no response would.
    """
    if request.method != "POST" or request.path not in _METERED_OPERATIONS:
        raise InvalidJob(
            f"`input.path` must be one of {', '.join(sorted(_METERED_OPERATIONS))}, with POST: this customer uses the "
            "operator's connection, where an operation must store nothing and report what it consumes."
        )
    if not request.files.keys().isdisjoint(_READ_FIELDS):
        raise InvalidJob(
            "`input.files` can't have a model, a response_format or a stream: they are fields of the form."
        )
    for name in sorted(_READ_FIELDS & request.form.keys()):
        if len(request.form[name]) > 1:  # servers differ in which of them they read
            raise InvalidJob(
                f"`input.form.{name}` must be one value, not a list: this customer uses the operator's connection."
            )
    if not _METERED_FORMATS.issuperset(request.form.get("response_format", ())):
        raise InvalidJob(
            "`input.form.response_format` must be json or verbose_json: this customer uses the operator's connection, "
            "and the other formats don't report what they consume."
        )
    if not request.content:
        return request
    body = json_object(request.content)
    if not body:
        raise InvalidJob("`input.json` must be an object: this customer uses the operator's connection.")
    if body.get("stream") and request.path in _STREAMED_OPERATIONS:
        options = body.get("stream_options")
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    # Encoded anew: of members with the same name, some servers read another than we do.
    return replace(request, content=msgspec.json.encode(body))


def path_below(path: str, endpoint: Endpoint) -> str:
    """Return `path` relative to the endpoint's base, also if it repeats the base's own path."""
    base_path = "/".join(endpoint.base.split("/")[3:])
    return path.removeprefix(f"{base_path}/") if base_path else path


def deployment_in(path: str) -> str | None:
    """Return the deployment that a path below the endpoint's base names; None if it names none."""
    first, _, rest = path.removeprefix("openai/").partition("/")
    # Some servers decode a segment, drop what follows a `;`, and ignore case.
    return unquote(rest.partition("/")[0]) if unquote(first).lower().startswith("deployments") else None


def raw_url(request: RawRequest, endpoint: Endpoint, model: str) -> str:
    """
    Return the URL under the endpoint, with its API version unless the job has one.

    Raises InvalidJob if the path leads into another deployment than the endpoint's, or if the URL is too long.
    """
    deployment, allowed = deployment_in(request.path), endpoint.deployment
    if endpoint.style == "deployments" and allowed and deployment not in (None, allowed):
        raise InvalidJob(f"`input.path` must stay within {allowed}: the connection's endpoint names that deployment.")
    address, _, default_query = endpoint.url(request.path, model).partition("?")
    names = {name.lower() for name, _ in request.query}
    defaults = [(name, value) for name, value in parse_qsl(default_query) if name.lower() not in names]
    pairs = defaults + request.query
    url = f"{address}?{urlencode(pairs, quote_via=quote)}" if pairs else address
    if len(url) > _MAX_URL:
        raise InvalidJob(f"`input.path` and `input.query` make a URL of more than {_MAX_URL:,} characters.")
    return url


def read_answer(response: Response, response_type: str | None) -> RawAnswer:
    """
    Return what a job's output, usage and error are made of.

    An error that comes as an answer, and a response that should be JSON and isn't, fail the job; the output has them
    nevertheless. In a large response's output, lists and objects are JSON text.
    """
    read = read_response(response, response_type)
    output: dict[str, Any] = {
        "status": response.status,
        "headers": {
            name: text
            for name, text in response.headers.items()
            if name in _SHOWN_HEADERS or name.startswith(_SHOWN_HEADER_PREFIXES)
        },
        "content_type": read.media_type,
        **(condensed(read.output) if response.is_large else read.output),
    }
    named_errors = read_error_events(response.body) if read.json_values else []
    error = answered_error([*read.json_values, *named_errors], response)
    if read.malformed:
        error = ProviderUnavailable(
            f"The endpoint answered {response.status} with {printable(read.media_type)}, and its body is not JSON. To "
            f"get it as it is, set `input.response_type` to {usual_type(read.media_type)}.",
            UpstreamFacts(status=response.status, request_id=response.request_id),
        )
    # A response that is not JSON, and need not be, was answered without usage.
    values = read.json_values if read.malformed else read.json_values or [{}]
    call = call_of_values(values, response.request_id, response.processing, response.metered_as)
    return RawAnswer(output, call, error, read.media_type, binary=read.binary)
