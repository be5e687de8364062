"""
`embed`: texts to vectors, in as many calls as providers and the size of a response require.

If the texts don't fit one call, they are halved, and the halves again. So which texts a call can have depends only on
their number, not on earlier refusals, and a later attempt of the job uses the steps of an earlier one: texts of which
some have a step are halved, even if this connection would take all of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from shared.actions.answer import answered_error
from shared.actions.base import Completed, Context, Outcome, Step
from shared.actions.embedding_codec import dimensions, npy, parse_vectors, unpack
from shared.actions.fan_out import Part, join, reason_of, side_by_side
from shared.billing.usage import Call, call_of_answer
from shared.contract.decoding import condensed, json_object
from shared.contract.embed import Embed, Format, decode_embed
from shared.contract.error_codec import error_body, error_from_body
from shared.errors import InvalidJob, ProviderUnavailable, RequestRejected, UpstreamFacts
from shared.upstream.error_body import read_refusal
from shared.upstream.messages import LARGE_BYTES, Response

NEEDS_MODEL = True

MAX_TEXTS = 512
"""
Texts a call. Providers take 2,048, but return about 22 bytes of JSON for each number: with 3,072 dimensions, that would
exceed `response_body.MAX_RESPONSE_BYTES`.
"""
MAX_TOKENS = 300_000
"""Tokens a call, over all its texts (platform.openai.com/docs/api-reference/embeddings/create)."""
_BYTES_PER_TOKEN = 2
"""English has four, Chinese about three. This is lower, since it is no count; a refusal halves the texts too."""

_LARGE_ROWS = LARGE_BYTES // 4
"""Characters of rows. Their numbers take longer to be written than most bodies to be read."""
_OPERATION = "embeddings"
# It changes how the numbers are encoded, not the numbers.
_DROPPABLE = frozenset({"encoding_format"})
_REFUSED = frozenset({400, 413, 422})
_TOO_LARGE = 413
# Azure OpenAI: "Too many inputs. The max number of inputs is 16"; Cohere: "total number of texts must be at most
# 96"; OpenAI: "Invalid 'input': array too long. Expected an array with maximum length 2048".
_TOO_MANY = re.compile(
    r"too many (?:inputs|texts|items)|number of (?:inputs|texts|items)|batch.?size|array too long"
    r"|(?:at most|maximum(?: of)?|up to) [0-9]+ (?:inputs|texts|items)",
    re.IGNORECASE,
)
# OpenAI: "Requested 313102 tokens, max 300000 tokens per request". How many texts fit differs from job to job.
_TOO_LONG = re.compile(r"tokens per request|too large", re.IGNORECASE)


def decode(data: Raw | bytes) -> Embed:
    """See Action."""
    return decode_embed(data)


def keeps_blobs(request: Embed) -> bool:
    """See Action."""
    return request.format == "npy"


async def run(request: Embed, ctx: Context) -> Outcome:
    """See Action."""
    whole, learned = range(len(request.texts)), False
    done = await _steps_of_model(ctx)
    if "whole" in done or (not done and fits(request.texts, ctx.capabilities.batch_limit(_OPERATION))):
        try:
            if request.format == "npy":  # its blob is written once the vectors are stored
                step = await ctx.step("whole", partial(_call, request, whole, ctx))
                return await _output(request.format, [step], ctx)
            step = await _call(request, whole, ctx)
        except RequestRejected as error:
            learned = _learn(error, whole, ctx)
            if not learned:
                raise
        else:  # one call, recorded with the job: no step
            return await _output(request.format, [step], ctx, step.calls)
    parts = await _halves(request, whole, ctx, _Begun.of(done), learned=learned)
    if any(isinstance(part, Exception) for part in parts):
        return join(parts, partial(first_failure, parts))
    return await _output(request.format, parts, ctx)


def fits(texts: Sequence[str], limit: int | None) -> bool:
    """Return whether one call can take the texts. `limit`: the most texts that the provider takes, if it is known."""
    tokens = sum(len(text.encode(errors="replace")) // _BYTES_PER_TOKEN + 1 for text in texts)
    return len(texts) == 1 or (len(texts) <= min(MAX_TEXTS, limit or MAX_TEXTS) and tokens <= MAX_TOKENS)


def halves(texts: range) -> tuple[range, range]:
    """Return two halves of a range of indexes. The first is the longer if their number is odd."""
    middle = (len(texts) + 1) // 2
    return texts[:middle], texts[middle:]


def is_too_much(error: RequestRejected) -> bool:
    """Return whether a provider refused a request for its size, so that a smaller one may succeed."""
    message = str(error)
    return error.facts.status in _REFUSED and (
        error.facts.status == _TOO_LARGE or bool(_TOO_MANY.search(message) or _TOO_LONG.search(message))
    )


def first_failure(parts: Sequence[Part]) -> Completed:
    """Return the outcome that the first failed part has. Raises StopIteration if none failed."""
    error = next(part for part in parts if isinstance(part, Exception))
    return Completed(None, (), "failed", reason_of(error))


async def _steps_of_model(ctx: Context) -> Collection[str]:
    """Return the keys of the job's steps. Raises InvalidJob if they have the vectors of another model."""
    done = await ctx.step_keys()
    steps = [step for key in done if (step := await ctx.get_step(key)) is not None]
    model = steps[0].value.get("model", ctx.model) if steps else ctx.model
    if model != ctx.model:
        raise InvalidJob(
            f"Some texts have vectors of {model} already, which can't be compared with those of {ctx.model}, the model "
            f"of the connection {ctx.connection.name}: name one `model` for all connections."
        )
    return done


class _Begun(NamedTuple):
    """What earlier attempts have begun: the steps' keys, and the first text of each."""

    keys: Collection[str]
    starts: frozenset[int]

    @classmethod
    def of(cls, keys: Collection[str]) -> _Begun:
        return cls(keys, frozenset(int(key[:4]) for key in keys if key[:4].isdecimal()))


async def _part(request: Embed, texts: range, ctx: Context, begun: _Begun) -> list[Part]:
    key, limit = f"{texts.start:04}x{len(texts):04}", ctx.capabilities.batch_limit(_OPERATION)
    is_new = begun.starts.isdisjoint(texts)
    if key not in begun.keys and not (is_new and fits(_texts(request, texts), limit)):
        return await _halves(request, texts, ctx, begun)
    try:
        return [await ctx.step(key, partial(_call, request, texts, ctx))]
    except RequestRejected as error:
        if not _learn(error, texts, ctx):
            message = f"Texts {texts.start} to {texts.stop - 1}: {error}"
            raise RequestRejected(message, error.facts) from error
    return await _halves(request, texts, ctx, begun, learned=True)


async def _halves(request: Embed, texts: range, ctx: Context, begun: _Begun, *, learned: bool = False) -> list[Part]:
    first, second = halves(texts)
    if learned:  # one after the other: a refusal of the first may lower the limit for the second
        return [*await _part(request, first, ctx, begun), *await _part(request, second, ctx, begun)]
    results = await side_by_side((_part(request, first, ctx, begun), _part(request, second, ctx, begun)))
    return [part for parts in results for part in (parts if isinstance(parts, list) else [parts])]


def _learn(error: RequestRejected, texts: range, ctx: Context) -> bool:
    """Return whether halving can help. Learn the limit if the provider refused the number of texts."""
    if not _can_halve(texts, error):
        return False
    if _TOO_MANY.search(str(error)):
        ctx.capabilities.learn_batch_limit(_OPERATION, len(halves(texts)[0]))
    return True


def _can_halve(texts: range, error: RequestRejected) -> bool:
    return len(texts) > 1 and is_too_much(error)


def _texts(request: Embed, texts: range) -> list[str]:
    return request.texts[texts.start : texts.stop]


async def _call(request: Embed, texts: range, ctx: Context) -> Step:
    body = {"input": _texts(request, texts), **request.parameters}
    operation = ctx.operation(_OPERATION, body, droppable=_DROPPABLE, is_final=partial(_can_halve, texts))
    response = await ctx.call(operation)
    step = await ctx.compute(read_embeddings, response, len(texts), operation.adapted, large=response.is_large)
    return replace(step, value={**step.value, "model": ctx.model})


def read_embeddings(response: Response, count: int, adapted: Sequence[str]) -> Step:
    """Return a response as the step of `count` texts: their `rows`, or an `error`."""
    response_body = json_object(response.body)
    call = call_of_answer(response_body, response.request_id, response.processing, response.metered_as)
    rows = parse_vectors(response_body, count)
    if rows is None:
        facts = UpstreamFacts(status=response.status, request_id=response.request_id)
        error = answered_error([response_body], response) or ProviderUnavailable(
            f"The endpoint did not return one vector for each text{read_refusal(response.body).quote}", facts
        )
        return Step({"error": msgspec.to_builtins(error_body(error))}, [call])
    return Step({"rows": rows, "adapted": adapted}, [call])


def vectors_of(rows: Sequence[str]) -> dict[str, Any]:
    """Return the rows as `embeddings`: lists of numbers, as JSON text if they are many."""
    embeddings = {"embeddings": [unpack(row).tolist() for row in rows]}
    return condensed(embeddings) if _are_large(rows) else embeddings


def _are_large(rows: Sequence[str]) -> bool:
    return sum(map(len, rows)) >= _LARGE_ROWS


async def _output(kind: Format, steps: Sequence[Any], ctx: Context, calls: Sequence[Call] = ()) -> Completed:
    error_in_step = next((step.value["error"] for step in steps if "error" in step.value), None)
    if error_in_step is not None:
        return Completed(None, calls, "failed", error_from_body(error_in_step))
    rows = [row for step in steps for row in step.value["rows"]]
    if len({len(row) for row in rows}) > 1:
        error = ProviderUnavailable("The endpoint returned vectors of different lengths for several calls.")
        return Completed(None, calls, "failed", error)
    output: dict[str, Any] = {"vectors": len(rows), "dimensions": dimensions(rows[0])}
    if kind == "npy":
        data = await ctx.compute(npy, rows, large=_are_large(rows))
        blob = await ctx.save_blob("embeddings.npy", data, "application/octet-stream")
        output["blob"] = msgspec.to_builtins(blob)
    else:
        output |= await ctx.compute(vectors_of, rows, large=_are_large(rows))
    if adapted := list(dict.fromkeys(change for step in steps for change in step.value["adapted"])):
        output["adapted"] = adapted
    return Completed(output, calls)
