"""
The summaries of a text of any length, each billed once.

Every call is a step. A text is a node: its step holds its summary or, if the text is or proves to be too long, the size
of its parts, which are the nodes below it: `p`, `p0001`, `p00010002`. So a later attempt of the job comes to the same
parts, whatever was learned or forgotten since.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from shared.actions.base import Completed, Context, Step
from shared.actions.chat import parse_chat
from shared.actions.completion import complete_chat
from shared.actions.fan_out import Part, side_by_side
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
Estimated tokens that one call takes at first. The smallest windows in wide use hold 16,385 tokens: that leaves a
quarter for the instructions and the answer. Larger windows would take more, but long inputs are summarized less
evenly, and parts side by side are done sooner.
"""
SMALLEST_TOKENS = 600
"""A smaller part is not cut again: then it is not the text that is too long for the model."""

_WORDS_SHARE = 15
"""Estimated tokens for each word of a part's summary: about an eighth of its words."""
_FEWEST_WORDS = 50
# OpenAI and Azure: 400 `context_length_exceeded`, "This model's maximum context length is 8192 tokens. …".
# Gateways and other models keep those words and lose the code.
_TOO_LONG = re.compile(r"maximum context length|context window", re.IGNORECASE)


def is_too_long(error: JobError) -> bool:
    """Return whether the provider says that the request does not fit its model's window."""
    return isinstance(error, RequestRejected) and (
        error.facts.detail.get("code") == "context_length_exceeded" or _TOO_LONG.search(str(error)) is not None
    )


@dataclass(slots=True)
class Summaries:
    """The summaries of one attempt, and what they share."""

    request: Summarize
    ctx: Context
    size: int = PART_TOKENS
    """Estimated tokens that one call takes, as far as refusals have shown."""
    _failure: JobError | None = None
    """Why the job has failed already: no further call is made."""
    _gate: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        # As many as can be in flight, and no more: those that wait then know what these have met.
        self._gate = asyncio.Semaphore(self.ctx.connection.concurrency)

    async def of(self, text: str, key: str, *, combining: bool, whole: bool = False) -> list[Part]:
        """
        Return the summary of `text`, or those of the parts that it had to be cut into, in order.

        Each is an object with `text`, `finish_reason`, `adapted`, `error` if it failed although it was billed, and
        `whole`, false for a part; or the exception. `combining`: `text` holds summaries.
        """
        (step,) = await side_by_side(
            [self.ctx.step(key, partial(self._summarize, text, combining=combining, whole=whole))]
        )
        if isinstance(step, Exception):
            return [step]
        value: dict[str, Any] = step.value
        if "size" not in value:
            return [value]
        if value["of"] != _checksum(text):
            return [InvalidJob("`input.blob` was changed while the job ran.")]
        self.size = min(self.size, value["size"])
        parts = [part for part in split(text, value["size"]) if part.strip()]
        results: list[list[Part]] = await asyncio.gather(
            *(self.of(part, f"{key}{number:04}", combining=combining) for number, part in enumerate(parts, 1))
        )
        return [part for result in results for part in result]

    async def _summarize(self, text: str, *, combining: bool, whole: bool) -> Step:
        async with self._gate:
            if self._failure is not None:
                raise self._failure
            tokens = estimate_tokens(text)
            if tokens > self.size:
                return _cut(text, self.size)
            words = None if whole else max(_FEWEST_WORDS, tokens // _WORDS_SHARE)
            messages = summary_messages(text, self.request, combining=combining, part_words=words)

            def can_cut(error: JobError) -> bool:
                return tokens >= SMALLEST_TOKENS and is_too_long(error)

            try:
                response, adapted = await complete_chat(self.ctx, messages, self.request.parameters, is_final=can_cut)
            except JobError as error:
                if can_cut(error):
                    # Two parts: a little more than half each, as a part ends before it is full.
                    self.size = min(self.size, tokens * 5 // 8)
                    return _cut(text, self.size)
                self._failure = error
                raise
            step = _read_summary(parse_chat(response, adapted), whole=whole)
            if "error" in step.value:
                self._failure = known_error(step.value["error"])
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
        advice = " Its token limit was used up before, for instance by reasoning: raise `max_completion_tokens`."
    return ProviderUnavailable(f"The model returned no text (finish_reason {reason}).{advice}", facts)
