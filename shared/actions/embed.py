"""
`embed`: texts to vectors, in as many calls as providers and the size of an answer ask for.

Texts go in halves of halves: which texts stand in a call follows from their number alone, and not from
what a provider has refused before, so a later run of the job finds the steps of an earlier one again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import Raw

from shared.actions.base import Bench, Completed, Step
from shared.actions.embedding_codec import npy, parse_vectors, unpack
from shared.actions.fan_out import Outcome, reason_of, settle, side_by_side
from shared.billing.usage import Call, call_of_answer
from shared.contract.decoding import json_object
from shared.contract.embed import Embed, Format, decode_embed
from shared.contract.error_codec import error_body, known_error
from shared.errors import ProviderUnavailable, RequestRejected, UpstreamFacts

NEEDS_MODEL = True

MOST_TEXTS = 512
"""
Texts a call. Providers take 2,048, but answer with JSON of some 22 bytes a number, one on a line: of 3,072
dimensions that would be more than `transport.REPLY_LIMIT` holds.
"""
MOST_TOKENS = 300_000
"""Tokens a call, over all its texts (platform.openai.com/docs/api-reference/embeddings/create)."""
_BYTES_A_TOKEN = 2
"""English has four, Chinese some three: taken for less, since a text is not counted here. A refusal halves too."""

_OPERATION = "embeddings"
# It says how the numbers travel, not which they are.
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
# OpenAI: "Requested 313102 tokens, max 300000 tokens per request". How many texts that is, differs each time.
_TOO_LONG = re.compile(r"tokens per request|too large", re.IGNORECASE)


def decode(data: Raw | bytes) -> Embed:
    """See Action."""
    return decode_embed(data)


def keeps_blobs(asked: Embed) -> bool:
    """See Action."""
    return asked.format == "npy"


async def run(asked: Embed, bench: Bench) -> Completed:
    """See Action."""
    whole, learned = range(len(asked.texts)), False
    if await bench.recall("whole") or fits(asked.texts, bench.most(_OPERATION)):
        try:
            if asked.format == "npy":  # its blob is written once the answer is stored
                step = await bench.step("whole", partial(_ask, asked, whole, bench))
                return await _answer(asked.format, [step], bench)
            step = await _ask(asked, whole, bench)
        except RequestRejected as error:
            learned = _learn(error, whole, bench)
            if not learned:
                raise
        else:  # one call, recorded with the job: no step
            return await _answer(asked.format, [step], bench, step.calls)
    outcomes = await _halves(asked, whole, bench, learned=learned)
    failed = settle(outcomes, partial(join_failures, outcomes))
    return failed if failed.error else await _answer(asked.format, outcomes, bench)


def fits(texts: Sequence[str], most: int | None) -> bool:
    """Whether texts may go in one call, `most` being how many the provider is known to take."""
    tokens = sum(len(text.encode(errors="replace")) // _BYTES_A_TOKEN + 1 for text in texts)
    return len(texts) == 1 or (len(texts) <= min(MOST_TEXTS, most or MOST_TEXTS) and tokens <= MOST_TOKENS)


def halves(texts: range) -> tuple[range, range]:
    """The places of texts in two halves, of which the first is the larger."""
    middle = (len(texts) + 1) // 2
    return texts[:middle], texts[middle:]


def is_too_much(error: RequestRejected) -> bool:
    """Whether a refusal is of the size of a request, so that a smaller one may do."""
    said = str(error)
    return error.facts.status in _REFUSED and (
        error.facts.status == _TOO_LARGE or bool(_TOO_MANY.search(said) or _TOO_LONG.search(said))
    )


def join_failures(outcomes: Sequence[Outcome]) -> Completed:
    """Failed, as the first part is that failed; an answer without anything where all went well."""
    error = next((reason_of(outcome) for outcome in outcomes if isinstance(outcome, Exception)), None)
    return Completed(None, (), "failed" if error else "succeeded", error)


async def _part(asked: Embed, texts: range, bench: Bench) -> list[Outcome]:
    key = f"{texts.start:04}x{len(texts):04}"
    if not (await bench.recall(key) or fits(_texts(asked, texts), bench.most(_OPERATION))):
        return await _halves(asked, texts, bench)
    try:
        return [await bench.step(key, partial(_ask, asked, texts, bench))]
    except RequestRejected as error:
        if not _learn(error, texts, bench):
            place = f"Of the texts {texts.start} to {texts.stop - 1}"
            raise RequestRejected(f"{place}: {error}", error.facts) from error
    return await _halves(asked, texts, bench, learned=True)


async def _halves(asked: Embed, texts: range, bench: Bench, *, learned: bool = False) -> list[Outcome]:
    first, second = halves(texts)
    if learned:  # first one, then the other, so that this is not refused for what that still finds out
        return [*await _part(asked, first, bench), *await _part(asked, second, bench)]
    found = await side_by_side((_part(asked, first, bench), _part(asked, second, bench)))
    return [outcome for one in found for outcome in (one if isinstance(one, list) else [one])]


def _learn(error: RequestRejected, texts: range, bench: Bench) -> bool:
    """Whether halving helps; remembers it where it is for the number of texts."""
    if not _is_halved(texts, error):
        return False
    if _TOO_MANY.search(str(error)):
        bench.learn_most(_OPERATION, len(halves(texts)[0]))
    return True


def _is_halved(texts: range, error: RequestRejected) -> bool:
    return len(texts) > 1 and is_too_much(error)


def _texts(asked: Embed, texts: range) -> list[str]:
    return asked.texts[texts.start : texts.stop]


async def _ask(asked: Embed, texts: range, bench: Bench) -> Step:
    body = {"input": _texts(asked, texts), **asked.parameters}
    final = partial(_is_halved, texts)
    reply, adapted = await bench.ask(_OPERATION, body, droppable=_DROPPABLE, final=final)
    said = json_object(reply.body)
    call = call_of_answer(said, reply.request_id)
    rows = parse_vectors(said, len(texts))
    if rows is None:
        facts = UpstreamFacts(status=reply.status, request_id=reply.request_id)
        error = ProviderUnavailable("The endpoint answered with something that is not one vector a text.", facts)
        return Step({"error": msgspec.to_builtins(error_body(error))}, [call])
    return Step({"rows": rows, "adapted": adapted}, [call])


async def _answer(kind: Format, steps: Sequence[Any], bench: Bench, calls: Sequence[Call] = ()) -> Completed:
    fault = next((step.value["error"] for step in steps if "error" in step.value), None)
    if fault is not None:
        return Completed(None, calls, "failed", known_error(fault))
    rows = [row for step in steps for row in step.value["rows"]]
    if len({len(row) for row in rows}) > 1:
        error = ProviderUnavailable("The endpoint answered several calls with vectors of different lengths.")
        return Completed(None, calls, "failed", error)
    output: dict[str, Any] = {"vectors": len(rows), "dimensions": len(unpack(rows[0]))}
    if kind == "npy":
        blob = await bench.save("embeddings.npy", npy(rows), "application/octet-stream")
        output["blob"] = msgspec.to_builtins(blob)
    else:
        output["embeddings"] = [unpack(row).tolist() for row in rows]
    if adapted := list(dict.fromkeys(one for step in steps for one in step.value["adapted"])):
        output["adapted"] = adapted
    return Completed(output, calls)
