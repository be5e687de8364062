"""`embed`: which texts a call has, and what is learned from refusals."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.actions import embed
from shared.actions.base import Completed, Deferred
from shared.actions.embed import MAX_TEXTS, fits, halves, is_too_much
from shared.errors import InvalidJob, ProviderUnavailable, RequestRejected, UpstreamFacts, UpstreamRetryLater
from shared.upstream.messages import Operation, Response
from tests.support.memory_context import MemoryContext, Respond, in_turn, response, run_action
from tests.support.rows import every_row


def numbers(count: int) -> list[str]:
    """Return `count` texts, each a number."""
    return [str(number) for number in range(count)]


def model(limit: int = MAX_TEXTS, message: str = "Too many inputs.") -> Respond:
    """Return an endpoint that gives each numbered text the vector [number, 0.5] and refuses more than `limit` texts."""

    def respond(operation: Operation) -> Response:
        texts = operation.body["input"]
        if len(texts) > limit:
            raise RequestRejected(message, UpstreamFacts(400))
        data = [{"index": index, "embedding": [int(text), 0.5]} for index, text in enumerate(texts)]
        return response({"data": data[::-1], "usage": {"prompt_tokens": len(texts)}})

    return respond


def sizes(ctx: MemoryContext) -> list[int]:
    """Return how many texts each call had."""
    return [len(body["input"]) for body in ctx.bodies]


@given(st.integers(2, 5000), st.integers(1, 3000))
def test_halves_of_halves_are_all_texts_in_order(count: int, limit: int):
    """Halving until each part fits keeps all texts and their order."""
    texts = ["x"] * count

    def parts(indexes: range) -> list[range]:
        if fits(texts[indexes.start : indexes.stop], limit):
            return [indexes]
        return [part for half in halves(indexes) for part in parts(half)]

    all_parts = parts(range(count))

    assert list(range(count)) == [index for part in all_parts for index in part]
    assert all(0 < len(part) <= min(limit, MAX_TEXTS) for part in all_parts)


@every_row(
    ("texts", "expected"),
    [
        (["x" * 290_000] * 2, True),
        (["x" * 310_000] * 2, False),
        (["語" * 110_000] * 2, False),
        (["x" * 2_000_000], True),
        (["\ud800"], True),
    ],
)
def test_long_texts_need_several_calls(texts: list[str], expected: bool):
    """A call has fewer texts if they are long. A single text always fits: only the provider knows whether it does."""
    assert expected is fits(texts, None)


@every_row(
    ("status", "message", "expected"),
    [
        (400, "Too many inputs. The max number of inputs is 16.", True),
        (400, "invalid request: total number of texts must be at most 96 - received 200", True),
        (422, "batch size 200 > maximum allowed batch size 32", True),
        (400, "Invalid 'input': array too long. Expected an array with maximum length 2048.", True),
        (400, "Requested 313102 tokens, max 300000 tokens per request", True),
        (413, "Request Entity Too Large", True),
        (413, "No.", True),
        (400, "This model's maximum context length is 8192 tokens, however you requested 9000 tokens", False),
        (400, "'$.input' is invalid.", False),
        (404, "Too many inputs", False),
    ],
)
def test_refusals_of_a_requests_size(status: int, message: str, expected: bool):
    """Providers' refusals of too many texts or tokens are recognized; refusals of one text are not."""
    assert expected is is_too_much(RequestRejected(message, UpstreamFacts(status)))


@settings(max_examples=40)
@given(
    count=st.integers(1, 600),
    limit=st.integers(1, 600),
    attempts=st.lists(st.integers(1, 5), max_size=20),
    learned=st.none() | st.integers(1, 700),
)
async def test_each_text_is_embedded_once(count: int, limit: int, attempts: list[int], learned: int | None):
    """Whatever the provider's limit and whenever attempts end, each text is embedded once, and vectors are in order."""
    ctx, outcome = MemoryContext(model(limit)), None

    for calls in [*attempts, 10_000]:
        ctx.calls_left = calls
        with contextlib.suppress(UpstreamRetryLater):
            outcome = await run_action(embed, {"texts": numbers(count)}, ctx)
        if isinstance(outcome, Completed):
            break
        if isinstance(outcome, Deferred):
            assert (60, "rate_limited") == (outcome.reason.delay_s, outcome.fallback.error.code)
        if learned:  # by another job meanwhile
            ctx.capabilities.learn_batch_limit("embeddings", learned)

    assert isinstance(outcome, Completed)
    assert outcome.output is not None
    assert [[number, 0.5] for number in range(count)] == outcome.output["embeddings"]
    assert count == sum(call.consumed().input_tokens for call in [*ctx.billed, *outcome.calls])


@settings(max_examples=30)
@given(st.integers(1, 600), st.lists(st.tuples(st.integers(1, 5), st.integers(1, 700)), min_size=2, max_size=6))
async def test_each_text_is_embedded_once_whoever_does_it(count: int, attempts: list[tuple[int, int]]):
    """Also if each attempt has another connection, whose limit is another one: it does what is left."""
    ctx, outcome = MemoryContext(model()), None

    for number, (calls, limit) in enumerate([*attempts, (10_000, 700)]):
        ctx.calls_left, ctx.respond, ctx.connection_name = calls, model(limit), f"number-{number}"
        with contextlib.suppress(UpstreamRetryLater):
            outcome = await run_action(embed, {"texts": numbers(count)}, ctx)
        if isinstance(outcome, Completed):
            break

    assert isinstance(outcome, Completed)
    assert outcome.output is not None
    assert [[number, 0.5] for number in range(count)] == outcome.output["embeddings"]
    assert count == sum(call.consumed().input_tokens for call in [*ctx.billed, *outcome.calls])


async def test_vectors_of_two_models_are_not_joined():
    """Nothing more is bought then: a list of them would be of no use."""
    ctx = MemoryContext(model(limit=1), calls_left=2)
    with pytest.raises(UpstreamRetryLater):
        await run_action(embed, {"texts": numbers(2)}, ctx)
    ctx.model, ctx.connection_name, ctx.calls_left = "another", "second", 10

    with pytest.raises(InvalidJob, match="vectors of m already"):
        await run_action(embed, {"texts": numbers(2)}, ctx)

    assert [2, 1] == sizes(ctx)


async def test_one_call_is_a_step_only_for_a_file():
    """A single call is recorded with the job; with `format: npy` it is a step, so its blob costs no second call."""
    ctx = MemoryContext(model())

    outcome = await run_action(embed, {"texts": ["1", "0"]}, ctx)
    assert ({}, 1) == (ctx.steps, len(outcome.calls))

    first, second = [await run_action(embed, {"texts": ["1", "0"], "format": "npy"}, ctx) for _ in range(2)]
    assert first == second
    assert {"vectors": 2, "dimensions": 2, "blob": first.output["blob"]} == first.output
    assert ["embeddings.npy"] == list(ctx.blobs)
    assert (1, 0.5, 0, 0.5) == struct.unpack("<4f", ctx.blobs["embeddings.npy"][-16:])
    assert ([2, 2], 1, ()) == (sizes(ctx), len(ctx.billed), tuple(first.calls))


@pytest.mark.parametrize(
    ("message", "second"),
    [("Too many inputs.", [10, 10]), ("Requested 400000 tokens, max 300000 tokens per request", [20, 10, 10])],
)
async def test_refused_number_of_texts_is_learned(message: str, second: list[int]):
    """A refused number of texts limits the calls of later jobs; a refused number of tokens limits those of this job."""
    ctx = MemoryContext(model(10, message))
    await run_action(embed, {"texts": numbers(20)}, ctx)
    ctx.steps.clear()

    await run_action(embed, {"texts": numbers(20)}, ctx)

    assert [20, 10, 10, *second] == sizes(ctx)
    # No retry of the refusal comes first, whatever the job's options say.
    assert [True, False] == [
        ctx.called[0].is_final(RequestRejected(words, UpstreamFacts(400))) for words in (message, "Invalid value.")
    ]


async def test_refusal_names_the_texts_of_its_call():
    """If one of several calls is refused, the error says which texts it had."""

    def respond(operation: Operation) -> Response:
        if "600" in operation.body["input"]:
            raise RequestRejected("maximum context length is 8192", UpstreamFacts(400))
        return model()(operation)

    ctx = MemoryContext(respond)

    outcome = await run_action(embed, {"texts": numbers(1000)}, ctx)

    assert ("failed", 1) == (outcome.status, len(ctx.billed))
    assert "Texts 500 to 999: maximum context length is 8192" == str(outcome.error)


async def test_refusal_of_a_single_call_is_the_jobs():
    """A refusal of a call for all texts, or for one text, is not retried with fewer."""
    ctx = MemoryContext(model(0))

    for texts in (["0"], ["0", "1"]):
        with pytest.raises(RequestRejected, match="Too many inputs"):
            await run_action(embed, {"texts": texts}, ctx)


@every_row(
    ("responses", "count", "message"),
    [
        pytest.param([b"<html>"], 1, "one vector for each text", id="no JSON"),
        pytest.param([{"data": [{"embedding": [1]}, {"embedding": [1]}]}], 1, "one vector for each text", id="two"),
        pytest.param([{}, {}], 600, "one vector for each text", id="several calls"),
        pytest.param(
            [{"data": [{"embedding": [1] * size}] * 300} for size in (2, 3)], 600, "different lengths", id="lengths"
        ),
    ],
)
async def test_invalid_vectors_fail_the_job_and_are_billed(responses: list[Any], count: int, message: str):
    """If calls return no vector, too many, or vectors of different lengths, the job fails, and all calls are billed."""
    ctx = MemoryContext(in_turn(*map(response, responses)))

    outcome = await run_action(embed, {"texts": numbers(count)}, ctx)

    assert ("failed", None) == (outcome.status, outcome.output)
    assert isinstance(outcome.error, ProviderUnavailable)
    assert message in str(outcome.error)
    assert len(responses) == len([*ctx.billed, *outcome.calls])
