"""
The summaries of a text of any length, each paid for once.

Every call is a step. A text is a node: it is answered, or, where it is or proves to be too long, what is
stored under its key is the size of its parts, and these are nodes below it: `p`, `p0001`, `p00010002`.
So a job that is taken up again comes to the same parts, whatever it has learned or forgotten.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from shared.actions.base import Bench, Completed, Step
from shared.actions.chat import parse_chat
from shared.actions.completion import complete
from shared.actions.fan_out import Outcome, side_by_side
from shared.actions.summary_prompts import summary_messages
from shared.actions.text_splitter import estimate_tokens, split
from shared.contract.error_codec import error_body, known_error
from shared.contract.summarize import Summarize
from shared.errors import (
    ContentFiltered,
    InvalidJob,
    JobError,
    ProviderUnavailable,
    RequestRejected,
    UpstreamError,
    UpstreamFacts,
)
from shared.upstream.error_mapping import shorten

PART_TOKENS = 12_000
"""
Estimated tokens that are sent in one call at first. The smallest windows in wide use hold 16,385 tokens:
that leaves a quarter for what is said around the text and for the answer. Larger windows would take
more, but long inputs are summarized less evenly, and parts side by side are done sooner.
"""
SMALLEST_TOKENS = 600
"""A part of fewer is not cut again: what is too long for the model then is not the text."""

_WORDS_SHARE = 15
"""Estimated tokens for each word of a part's summary: about an eighth of its words."""
_FEWEST_WORDS = 50
# OpenAI and Azure: 400 `context_length_exceeded`, "This model's maximum context length is 8192 tokens. …".
# Gateways and other models keep those words and lose the code.
_TOO_LONG = re.compile(r"maximum context length|context window", re.IGNORECASE)


def is_too_long(error: JobError) -> bool:
    """Whether the provider says that its model's window does not hold the request."""
    return isinstance(error, RequestRejected) and (
        error.facts.detail.get("code") == "context_length_exceeded" or _TOO_LONG.search(str(error)) is not None
    )


@dataclass(slots=True)
class Summaries:
    """The summaries of one run, and what all of them have to know."""

    asked: Summarize
    bench: Bench
    size: int = PART_TOKENS
    """Estimated tokens that one call takes, as far as is known."""
    _lost: JobError | None = None
    """Why the job has failed already: nothing more is bought."""
    _gate: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        # As many as can be in flight, and no more: those behind them know what these have met.
        self._gate = asyncio.Semaphore(self.bench.connection.concurrency)

    async def of(self, text: str, key: str, *, combining: bool, whole: bool = False) -> list[Outcome]:
        """
        What `text` came to: its summary, or in order those of the parts that it had to be cut into.

        Each is an object with `text`, `finish_reason`, `adapted`, `error` where it failed though it was
        paid for, and `whole`, false for a part; or what was raised. `combining`: `text` holds summaries.
        """
        (outcome,) = await side_by_side(
            [self.bench.step(key, partial(self._summarize, text, combining=combining, whole=whole))]
        )
        if isinstance(outcome, Exception):
            return [outcome]
        value: dict[str, Any] = outcome.value
        if "size" not in value:
            return [value]
        if value["of"] != _checksum(text):
            return [InvalidJob("`input.blob` was changed while the job ran.")]
        self.size = min(self.size, value["size"])
        parts = [part for part in split(text, value["size"]) if part.strip()]
        found: list[list[Outcome]] = await asyncio.gather(
            *(self.of(part, f"{key}{number:04}", combining=combining) for number, part in enumerate(parts, 1))
        )
        return [one for outcomes in found for one in outcomes]

    async def _summarize(self, text: str, *, combining: bool, whole: bool) -> Step:
        async with self._gate:
            if self._lost is not None:
                raise self._lost
            tokens = estimate_tokens(text)
            if tokens > self.size:
                return _cut(text, self.size)
            words = None if whole else max(_FEWEST_WORDS, tokens // _WORDS_SHARE)
            messages = summary_messages(text, self.asked, combining=combining, part_words=words)

            def is_cut(error: JobError) -> bool:
                return tokens >= SMALLEST_TOKENS and is_too_long(error)

            try:
                reply, adapted = await complete(self.bench, messages, self.asked.parameters, final=is_cut)
            except JobError as error:
                if is_cut(error):
                    # Two parts: a little more than half each, as a part ends before it is full.
                    self.size = min(self.size, tokens * 5 // 8)
                    return _cut(text, self.size)
                self._lost = error
                raise
            step = _read_summary(parse_chat(reply, adapted), whole=whole)
            if "error" in step.value:
                self._lost = known_error(step.value["error"])
            return step


def _cut(text: str, size: int) -> Step:
    return Step({"size": size, "of": _checksum(text)})


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode())


def _read_summary(answer: Completed, *, whole: bool) -> Step:
    output = answer.output or {}
    text, reason = output.get("text"), output.get("finish_reason")
    value = {"text": text, "finish_reason": reason, "adapted": output.get("adapted", []), "whole": whole}
    error: JobError | None = answer.error
    if error is None and not (text or "").strip():
        error = _no_text(output, UpstreamFacts(request_id=answer.calls[0].request_id))
    if error is not None:
        value["error"] = msgspec.to_builtins(error_body(error))
    return Step(value, answer.calls)


def _no_text(output: dict[str, Any], facts: UpstreamFacts) -> UpstreamError:
    message, reason = output["choices"][0].get("message"), output["finish_reason"]
    refusal = message.get("refusal") if isinstance(message, dict) else None
    if isinstance(refusal, str) and refusal.strip():
        return ContentFiltered(f"The model refused to summarize the text: {shorten(refusal)}", facts)
    advice = ""
    if reason == "length":
        advice = " Its limit was used up before that, by reasoning for instance: raise `max_completion_tokens`."
    return ProviderUnavailable(f"The model answered without a text (finish_reason {reason}).{advice}", facts)
