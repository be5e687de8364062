"""`summarize` on a context in memory: parts, levels, refusals and attempts."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.actions import summarize
from shared.actions.base import Completed
from shared.actions.map_reduce import MAX_SUMMARY, is_too_long
from shared.actions.text_splitter import estimate_tokens
from shared.errors import (
    CredentialRejected,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    UpstreamFacts,
    UpstreamRetryLater,
)
from shared.upstream.messages import Operation, Response
from tests.support.long_texts import TOO_LONG, long_text, summarized_text
from tests.support.memory_context import MemoryContext, Respond, completion, in_turn, response, run_action
from tests.support.rows import every_row
from tests.support.workers import Worker

REFUSAL = RequestRejected(TOO_LONG["message"], UpstreamFacts(400))


def model(answer: Callable[[str], str] = lambda _: "A fact.", *, window: int = 14_000) -> Respond:
    """Return a model that answers a text with `answer(text)`, and refuses more estimated tokens than its window."""

    def respond(operation: Operation) -> Response:
        text = summarized_text(operation.body)
        if estimate_tokens(text) > window:
            raise REFUSAL
        return completion(answer(text))

    return respond


def texts(ctx: MemoryContext) -> list[str]:
    """Return the texts of all calls, in order."""
    return [summarized_text(body) for body in ctx.bodies]


@every_row(
    ("error", "expected"),
    [
        (RequestRejected("No.", UpstreamFacts(400, detail={"code": "context_length_exceeded"})), True),
        (REFUSAL, True),
        (RequestRejected("Exceeds the Context Window.", UpstreamFacts(422)), True),
        (RequestRejected("Invalid value.", UpstreamFacts(400)), False),
        (ProviderUnavailable("maximum context length", UpstreamFacts(500)), False),
    ],
)
def test_refusals_of_a_texts_length(error: Any, expected: bool):
    """A refusal of a text's length has OpenAI's code or its words; another error not_final is one."""
    assert expected is is_too_long(error)


@settings(max_examples=40)
@given(
    paragraphs=st.lists(st.integers(1, 3000), min_size=1, max_size=6),
    window=st.integers(600, 9_000),
    max_concurrency=st.integers(1, 5),
    attempts=st.lists(st.integers(1, 9), max_size=30),
)
async def test_each_part_is_summarized_once(
    paragraphs: list[int], window: int, max_concurrency: int, attempts: list[int]
):
    """For any text, context window and ends of attempts, each part is summarized once, and the order is kept."""
    text = "\n\n".join(" ".join(f"{n}.{k}" for k in range(size)) for n, size in enumerate(paragraphs))
    answered: list[str] = []

    def answer(part: str) -> str:
        answered.append(part)
        return part[:40]

    ctx, outcome = MemoryContext(model(answer, window=window), max_concurrency=max_concurrency), None

    for calls in [*attempts, 1000]:
        ctx.calls_left = calls
        with contextlib.suppress(UpstreamRetryLater):
            outcome = await run_action(summarize, {"text": text}, ctx)
        if isinstance(outcome, Completed):
            break

    assert isinstance(outcome, Completed)
    assert (None, "succeeded") == (outcome.error, outcome.status)
    assert len(answered) == len(set(answered)) == len(ctx.billed)
    parts = answered[: outcome.output["parts"]]
    # A part of line ends alone is not sent.
    assert "".join(text.split()) == "".join("".join(sorted(parts, key=text.index)).split())
    assert text.startswith(outcome.output["text"][:20])


async def test_summaries_are_combined_over_levels():
    """Summaries that don't fit one call are summarized in parts, until they fit."""

    def respond(operation: Operation) -> Response:
        is_part = "part of a" in operation.body["messages"][0]["content"]
        return completion("fact " * (3000 if is_part else 10))

    ctx = MemoryContext(respond)

    outcome = await run_action(summarize, {"text": long_text(4)}, ctx)

    assert (4, 2) == (outcome.output["parts"], outcome.output["levels"])
    assert ["c1n", "c1n0001", "c1n0002", "c2n"] == sorted(ctx.steps)[:4]
    systems = [body["messages"][0]["content"] for body in ctx.bodies]
    assert "consecutive parts of a longer text" in systems[4]
    assert "Make them one summary" in systems[-1]


async def test_parts_are_combined_as_the_job_requests():
    """Each part of a long text is one call; their summaries, in order, are combined in the job's style and length."""
    text, ctx = long_text(3), MemoryContext(model(lambda part: f"Of {re.findall('[0-9]+', part)}"))
    options = {"style": "bullets", "max_words": 40, "language": "Dutch", "parameters": {"temperature": 0}}

    outcome = await run_action(summarize, {"text": text, **options}, ctx)

    *parts, last = texts(ctx)
    assert text == "".join(parts)
    assert "\n\n".join(f"Of {re.findall('[0-9]+', part)}" for part in parts) == last
    assert [("part", False, True)] * 3 + [("summaries", True, True)] == [
        (
            "part" if "one part of a longer text" in system else "summaries",
            "bullet points" in system and "at most 40 words" in system,
            "Write in Dutch." in system,
        )
        for system in (body["messages"][0]["content"] for body in ctx.bodies)
    ]
    assert [0] * 4 == [body["temperature"] for body in ctx.bodies]
    assert {"text": outcome.output["text"], "parts": 3, "levels": 1, "finish_reason": "stop"} == outcome.output
    assert ["c1n", "p", "p0001", "p0002", "p0003"] == sorted(ctx.steps)
    assert 4 == len(ctx.billed)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("\ufeffGrüße".encode(), None),
        (b"Gr\xfc\xdfe", "`input.blob` (inputs/{customer}/a.txt) is not valid UTF-8 (byte 2)."),
        (b"\n", "`input.blob` (inputs/{customer}/a.txt) contains no text."),
    ],
)
async def test_text_is_read_from_a_blob(worker: Worker, data: bytes, message: str | None):
    """`blob` names a text, whose byte order mark is not sent; a blob without a text fails the job without a call."""
    customer = worker.customer()
    await worker.memory.blobs.write("inputs", f"{customer.name}/a.txt", data, "text/plain")

    result = await worker.run(customer, action="summarize", input={"blob": f"inputs/{customer.name}/a.txt"})

    expected = None if message is None else message.format(customer=customer.name)
    assert expected == result.get("error", {}).get("message")
    sent = [summarized_text(received.json) for received in customer.account.received]
    assert (["Grüße"] if message is None else []) == sent


async def test_summaries_that_do_not_shrink_fail_the_job():
    """If a model repeats its input, the job fails after the first level."""
    ctx = MemoryContext(model(lambda text: text))

    outcome = await run_action(summarize, {"text": long_text(2)}, ctx)

    assert ("failed", 2) == (outcome.status, len(ctx.billed))
    assert "hardly shorter" in str(outcome.error)


async def test_refused_part_is_halved_and_later_parts_are_smaller():
    """A part that exceeds the context window is split in two, and all later parts are smaller from the start."""
    text, ctx = long_text(3), MemoryContext(model(window=9000), max_concurrency=1)

    outcome = await run_action(summarize, {"text": text}, ctx)

    refused, *parts, _ = texts(ctx)
    assert estimate_tokens(refused) > 9000
    assert all(estimate_tokens(part) <= 9000 for part in parts)
    assert text == "".join(sorted(parts, key=text.index))
    assert len(parts) == outcome.output["parts"] == len(ctx.billed) - 1 > 4


async def test_refused_whole_text_becomes_two_parts():
    """A text that seemed to fit one call, and is refused as too long, is split in two."""
    ctx = MemoryContext(in_turn(REFUSAL, *[completion()] * 3))

    outcome = await run_action(summarize, {"text": "word " * 2000}, ctx)

    assert ("succeeded", 2, 1) == (outcome.status, outcome.output["parts"], outcome.output["levels"])


@pytest.mark.parametrize("text", [long_text(2), "word " * 300])
async def test_splitting_ends(text: str):
    """If even a small part is refused as too long, the job fails with that refusal."""
    ctx = MemoryContext(model(window=0), max_concurrency=1)

    outcome = await run_action(summarize, {"text": text}, ctx)

    assert ("failed", REFUSAL) == (outcome.status, outcome.error)
    assert len(ctx.called) < 10
    assert [] == ctx.billed


REFUSED = completion(choices=[{"finish_reason": "stop", "message": {"refusal": "I can't\nhelp with that."}}])
ODD_REASON = completion("", finish_reason="x" * 5000)
INVALID = {
    "too long": (completion("x" * (MAX_SUMMARY + 1)), "provider_unavailable", "has more than 1,000,000 characters."),
    "no text for an odd reason": (ODD_REASON, "provider_unavailable", f"{'x' * 500}…)."),
    "filtered": (completion("Half a", finish_reason="content_filter"), "content_filtered", "content policy"),
    "refused": (REFUSED, "content_filtered", "The model refused to summarize the text: I can't help with that."),
    "no text": (completion(""), "provider_unavailable", "The model returned no text (finish_reason stop)."),
    "no tokens left": (completion("", finish_reason="length"), "provider_unavailable", "`max_completion_tokens`"),
    "no message": (response({"choices": [{"finish_reason": "stop"}]}), "provider_unavailable", "no text"),
    "no completion": (response(b"<html>"), "provider_unavailable", "not a chat completion"),
}


@every_row("parts", [1, 2])
@every_row("name", INVALID)
async def test_answer_without_a_summary_fails_the_job_and_is_billed(name: str, parts: int):
    """An answer that is filtered, a refusal, empty or invalid fails the job, and no further call is made."""
    answer, code, words = INVALID[name]
    ctx = MemoryContext(in_turn(answer), max_concurrency=1)

    outcome = await run_action(summarize, {"text": long_text(2) if parts > 1 else "Short."}, ctx)

    assert ("failed", code) == (outcome.status, outcome.error.code)
    assert words in str(outcome.error)
    assert 1 == len(ctx.called) == len(ctx.billed)
    # As for a chat, the output has what the filter left of a single answer.
    left = {"text": "Half a", "finish_reason": "content_filter"}
    assert (left if (name, parts) == ("filtered", 1) else None) == (outcome.output if name == "filtered" else None)


async def test_truncated_answer_is_reported():
    """`finish_reason` is `length` if any answer was cut off, even that of one part."""
    ctx = MemoryContext(in_turn(completion("Cut", finish_reason="length"), completion(), completion()))

    outcome = await run_action(summarize, {"text": long_text(2)}, ctx)

    assert ("succeeded", "length") == (outcome.status, outcome.output["finish_reason"])


async def test_failed_part_fails_the_job():
    """A refused part fails the job with its error. Parts that were answered are billed, and no other call is made."""
    ctx = MemoryContext(in_turn(completion(), RequestRejected("Not this.", UpstreamFacts(400))), max_concurrency=1)

    outcome = await run_action(summarize, {"text": long_text(4)}, ctx)

    assert ("failed", None, "Not this.") == (outcome.status, outcome.output, str(outcome.error))
    assert (2, 1) == (len(ctx.called), len(ctx.billed))


@pytest.mark.parametrize("other", [UpstreamRetryLater(RateLimited("Slow down."), 60), CredentialRejected("No.")])
async def test_permanent_failure_ends_the_job_at_once(other: Exception):
    """If one part fails for good, the job doesn't wait for another, and isn't run again with another key."""
    ctx = MemoryContext(in_turn(other, RequestRejected("Invalid value.", UpstreamFacts(400))), max_concurrency=2)

    outcome = await run_action(summarize, {"text": long_text(2)}, ctx)

    assert isinstance(outcome, Completed)
    assert ("request_rejected", None) == (outcome.error.code, outcome.rejected)


async def test_changed_text_fails_the_job():
    """If the text changes between two attempts, the parts of both are not combined."""
    ctx = MemoryContext(model(), calls_left=0)
    first = await run_action(summarize, {"text": long_text(2)}, ctx)
    ctx.calls_left = 10

    outcome = await run_action(summarize, {"text": long_text(3)}, ctx)

    assert "rate_limited" == first.fallback.error.code
    assert "A blob of the job's input was changed while the job ran." == str(outcome.error)
