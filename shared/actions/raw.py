"""`raw`: one request to the customer's endpoint as the job words it, and what came back. Knows little JSON."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from msgspec import Raw
from msgspec.structs import replace

from shared.actions.base import Bench, Completed, Step
from shared.actions.raw_response import RawReply, extension, read_reply
from shared.billing.usage import Call, call_of_answer
from shared.connections.endpoint import Endpoint
from shared.contract.raw import RawRequest, decode_raw
from shared.contract.result import OutputBlob
from shared.errors import InvalidJob, ProviderUnavailable, UpstreamFacts
from shared.upstream.messages import FilePart, Reply, UpstreamRequest

NEEDS_MODEL = False
"""See Action: most paths name what they are about themselves."""

_TOLD = {
    *("content-type", "location", "operation-location", "retry-after", "retry-after-ms", "x-ms-retry-after-ms"),
    *("x-request-id", "apim-request-id", "x-ms-request-id"),
}
_TOLD_FROM = "x-ratelimit-"
_KEEP_NOTHING = {
    *("chat/completions", "completions", "embeddings", "images/generations", "images/edits", "moderations"),
    *("audio/speech", "audio/transcriptions", "audio/translations"),
}
_LONGEST_URL = 16_384
"""No server takes more, and the HTTP client refuses it beyond 65,536."""


def decode(data: Raw | bytes) -> RawRequest:
    """See Action."""
    return decode_raw(data)


def keeps_blobs(asked: RawRequest) -> bool:
    """See Action."""
    return asked.response_type == "binary"


async def run(asked: RawRequest, bench: Bench) -> Completed:
    """See Action."""
    connection = bench.connection
    asked = replace(asked, path=path_below(asked.path, connection.endpoint))
    if connection.source == "static" and (asked.method != "POST" or asked.path not in _KEEP_NOTHING):
        raise InvalidJob(
            "`input.path` must be an operation that keeps nothing, such as a POST to chat/completions: this customer "
            "runs on the static connection, which others share, with what their jobs have left there."
        )
    model = bench.model if connection.endpoint.has_model_in_url(asked.path) else ""
    request = UpstreamRequest(
        method=asked.method,
        url=raw_url(asked, connection.endpoint, model),
        content=asked.content,
        headers={**asked.headers, **connection.headers()},
        form=asked.form,
        files={name: FilePart(file.filename, file.content, file.content_type) for name, file in asked.files.items()},
    )
    if asked.response_type != "binary":
        return await _answer(asked, request, bench)
    step = await bench.step("whole", partial(_kept, asked, request, bench))  # its blob is written before it counts
    return Completed(step.value)


async def _answer(asked: RawRequest, request: UpstreamRequest, bench: Bench) -> Completed:
    reply = await bench.send(request)
    read = read_reply(reply, asked.response_type)
    blob = None
    if read.binary:
        blob = await bench.save(f"output.{extension(read.media_type)}", reply.body, read.media_type)
    return raw_answer(asked, reply, read, blob)


async def _kept(asked: RawRequest, request: UpstreamRequest, bench: Bench) -> Step:
    answer = await _answer(asked, request, bench)
    return Step(answer.output, answer.calls)


def path_below(path: str, endpoint: Endpoint) -> str:
    """`path` without the endpoint's own, which people who know the whole address put before it."""
    own = "/".join(endpoint.base.split("/")[3:])
    return path.removeprefix(f"{own}/") if own else path


def raw_url(asked: RawRequest, endpoint: Endpoint, model: str) -> str:
    """
    The address under the endpoint, with its API version unless the job gives one.

    Raises InvalidJob for a path into another deployment than the endpoint's own, and for a URL that is too long.
    """
    first, _, rest = asked.path.partition("/")
    named = unquote(rest.partition("/")[0])
    own = endpoint.deployment
    # As servers may read it, which decode a segment, drop what follows a `;`, and need not mind upper case.
    into_deployment = endpoint.style == "deployments" and unquote(first).lower().startswith("deployments")
    if into_deployment and own and named != own:
        raise InvalidJob(f"`input.path` must stay within {own}: the connection's endpoint names that deployment.")
    address, _, usual = endpoint.url(asked.path, model).partition("?")
    given = {name.lower() for name, _ in asked.query}
    pairs = [(name, value) for name, value in parse_qsl(usual) if name.lower() not in given] + asked.query
    url = f"{address}?{urlencode(pairs, quote_via=quote)}" if pairs else address
    if len(url) > _LONGEST_URL:
        raise InvalidJob(f"`input.path` and `input.query` make a URL of more than {_LONGEST_URL:,} characters.")
    return url


def raw_answer(asked: RawRequest, reply: Reply, read: RawReply, blob: OutputBlob | None) -> Completed:
    """
    What came back. A POST is a call that was paid for; any other method is none.

    What was to be JSON and is not fails the job, and its text is given all the same.
    """
    output: dict[str, Any] = {
        "status": reply.status,
        "headers": {name: text for name, text in reply.headers.items() if name in _TOLD or name.startswith(_TOLD_FROM)},
        "content_type": read.media_type,
        **read.output,
    }
    if blob is not None:
        output["blob"] = {name: getattr(blob, name) for name in OutputBlob.__struct_fields__}
    calls = [call_of(read.said, reply.request_id)] if asked.method == "POST" else []
    if not read.broken:
        return Completed(output, calls)
    error = ProviderUnavailable(
        f"The endpoint answered {reply.status} with something that is not the JSON it should be.",
        UpstreamFacts(status=reply.status, request_id=reply.request_id),
    )
    return Completed(output, calls, "failed", error)


def call_of(said: Iterable[Any], request_id: str | None) -> Call:
    """
    The call that these objects tell of: the last `usage` and `model` among them, and all their pictures.

    An event of the Responses API has both in its `response`.
    """
    call = Call(None, None, request_id)
    for one in said:
        for told in (one, one.get("response")) if isinstance(one, dict) else ():
            last = call_of_answer(told, request_id)
            call = Call(last.tokens or call.tokens, last.model or call.model, request_id, call.images + last.images)
    return call
