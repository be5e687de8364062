"""
Summarize a text of any length: whole if it fits one call, else in parts. Each call is billed once.

The texts form a tree, and each has a step. The step holds the text's summary or, if the text is too long or was refused
as too long, the size of its parts, which are its children: `p`, `p0001`, `p00010002`. So a later attempt of the job
splits the text in the same way, whatever sizes it has learned.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from shared.actions.base import Context, Step
from shared.actions.chat import parse_chat
from shared.actions.completion import complete_chat
from shared.actions.fan_out import Part, side_by_side
from shared.actions.summary_prompts import refuses_system, summary_messages, without_system
from shared.actions.text_splitter import estimate_tokens, split
from shared.contract.error_codec import error_body, error_from_body
from shared.contract.summarize import Summarize
from shared.documents.pictures import ANCHORS
from shared.errors import (
    ContentFiltered,
    InvalidJob,
    JobError,
    ProviderUnavailable,
    RequestRejected,
    UpstreamError,
    UpstreamFacts,
)
from shared.upstream.error_body import shorten
from shared.upstream.messages import Response

PART_TOKENS = 12_000
"""
Estimated tokens of a part, before any refusal. The smallest context windows in wide use have 16,385 tokens, so that a
quarter is left for the instructions and the answer. Larger windows would take more, but models summarize long inputs
less evenly, and parts that run side by side are done sooner.
"""
MIN_SPLIT_TOKENS = 600
"""A smaller text is not split again: if it is refused as too long, the text is not the reason."""

MAX_SUMMARY = 1_000_000
"""Characters. No summary is longer, and each is kept in memory and split again."""
_LONG_TEXT = 500_000
"""Characters of a text whose splitting would stop the worker for a moment."""
_TOKENS_PER_WORD = 15
"""Estimated tokens of a part for each word of its summary, which so has about an eighth of the part's words."""
_MIN_WORDS = 50
_SYSTEM, _USER = "system message", "user message"
# OpenAI and Azure: 400 `context_length_exceeded`, "This model's maximum context length is 8192 tokens. …".
# Gateways and other models keep the message and drop the code. Anthropic: "prompt is too long: 212345 tokens > 200000
# maximum", "input length and `max_tokens` exceed context limit: …".
_TOO_LONG = re.compile(r"maximum context length|context window|prompt is too long|exceed context limit", re.IGNORECASE)


def is_too_long(error: JobError) -> bool:
    """Return whether a provider refused a request because it exceeds the model's context window."""
    return isinstance(error, RequestRejected) and (
        error.facts.detail.get("code") == "context_length_exceeded" or _TOO_LONG.search(str(error)) is not None
    )


@dataclass(slots=True)
class Summaries:
    """The summaries of one attempt, and the state that they share."""

    request: Summarize
    ctx: Context
    size: int = PART_TOKENS
    """Estimated tokens of a part. Each refusal as too long reduces it."""
    at_headings: bool = False
    """The text has headings of a document's sections and pages."""
    pictures: Sequence[str] = ()
    """What stands in `documents.pictures.ANCHORS` of the text, as PNG in base64."""
    _failure: JobError | None = None
    """The error that fails the job. No call is made after it."""
    _slots: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        # Only as many as can be in flight: the others wait here, and then know the refusals that these have met.
        self._slots = asyncio.Semaphore(self.ctx.connection.concurrency)

    async def summarize(self, text: str, key: str, *, combining: bool, whole: bool = False) -> list[Part]:
        """
        Return the summary of `text` or, if it had to be split, those of its parts, in order.

        A summary is an object with `text`, `finish_reason`, `adapted`, `whole` (false for a part) and, if it failed
        although it was billed, `error`; or it is the exception. `key`: the text's step. `combining`: `text` holds
        summaries.
        """
        (step,) = await side_by_side(
            [self.ctx.step(key, partial(self._call, text, key, combining=combining, whole=whole))]
        )
        if isinstance(step, Exception):
            return [step]
        value: dict[str, Any] = step.value
        if "size" not in value:
            return [value]
        if value["checksum"] != _checksum(text):
            return [InvalidJob("A blob of the job's input was changed while the job ran.")]
        self.size = min(self.size, value["size"])
        divide = partial(split, at_headings=value.get("at_headings", False), anchors=self._anchors(combining))
        pieces = await self.ctx.compute(divide, text, value["size"], large=len(text) > _LONG_TEXT)
        parts = [part for part in pieces if part.strip()]
        results: list[list[Part]] = await asyncio.gather(
            *(self.summarize(part, f"{key}{number:04}", combining=combining) for number, part in enumerate(parts, 1))
        )
        return [part for result in results for part in result]

    async def _call(self, text: str, key: str, *, combining: bool, whole: bool) -> Step:
        async with self._slots:
            if self._failure is not None:
                raise self._failure
            tokens = estimate_tokens(text, self._anchors(combining))
            is_one = len(text.strip()) == 1  # picture
            if tokens > self.size and not is_one and key not in await self.ctx.step_keys():  # else it is bought
                return self._split(text)
            words = None if whole else max(_MIN_WORDS, tokens // _TOKENS_PER_WORD)
            pictures = () if combining else self.pictures
            messages = summary_messages(text, self.request, combining=combining, part_words=words, pictures=pictures)

            def can_split(error: JobError) -> bool:
                return tokens >= MIN_SPLIT_TOKENS and not is_one and is_too_long(error)

            try:
                response, adapted = await self._complete(messages, can_split)
            except JobError as error:
                if can_split(error):
                    # For two parts, not three: each may be a little more than half, since parts end at boundaries.
                    self.size = min(self.size, tokens * 5 // 8)
                    return self._split(text)
                self._failure = error
                raise
            step = await self.ctx.compute(read_summary, response, adapted, whole, large=response.is_large)
            if "error" in step.value:
                self._failure = error_from_body(step.value["error"])
            return step

    def _anchors(self, combining: bool) -> re.Pattern[str] | None:
        return ANCHORS if self.pictures and not combining else None

    def _split(self, text: str) -> Step:
        # Steps of earlier versions, which did not split at headings, have no such member.
        split_at = {"at_headings": True} if self.at_headings else {}
        return Step({"size": self.size, "checksum": _checksum(text), **split_at})

    async def _complete(
        self, messages: list[dict[str, Any]], is_final: Callable[[RequestRejected], bool]
    ) -> tuple[Response, list[str]]:
        """Call the model. Our own system message goes into the user's if the model refuses its role."""
        complete = partial(complete_chat, self.ctx, parameters=self.request.parameters)
        capabilities = self.ctx.capabilities
        if capabilities.replacement_for(_SYSTEM) == _SYSTEM:
            try:
                return await complete(messages, is_final=lambda error: refuses_system(error) or is_final(error))
            except RequestRejected as error:
                if not refuses_system(error):
                    raise
        response, adapted = await complete(without_system(messages), is_final=is_final)
        capabilities.learn_replacement(_SYSTEM, _USER)
        return response, ["the system message became a part of the user message", *adapted]


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode())


def read_summary(response: Response, adapted: list[str], whole: bool) -> Step:
    """Return a response as the step of a text, or of a part if it is not the `whole` one."""
    completed = parse_chat(response, adapted)
    output = completed.output or {}
    text, reason = output.get("text"), output.get("finish_reason")
    has_too_much = len(text or "") > MAX_SUMMARY
    if has_too_much:
        text = None
    value = {"text": text, "finish_reason": reason, "adapted": output.get("adapted", []), "whole": whole}
    error: JobError | None = completed.error
    facts = UpstreamFacts(request_id=completed.calls[0].request_id)
    if error is None and has_too_much:
        error = ProviderUnavailable(f"The model's summary has more than {MAX_SUMMARY:,} characters.", facts)
    elif error is None and not (text or "").strip():
        error = _no_text(output, facts)
    if error is not None:
        value["error"] = msgspec.to_builtins(error_body(error))
    return Step(value, completed.calls)


def _no_text(output: dict[str, Any], facts: UpstreamFacts) -> UpstreamError:
    message, reason = output["choices"][0].get("message"), output["finish_reason"]
    refusal = message.get("refusal") if isinstance(message, dict) else None
    if isinstance(refusal, str) and refusal.strip():
        return ContentFiltered(f"The model refused to summarize the text: {shorten(refusal)}", facts)
    advice = ""
    if reason == "length":
        advice = " It used up its token limit first, for instance by reasoning: raise `max_completion_tokens`."
    return ProviderUnavailable(f"The model returned no text (finish_reason {shorten(str(reason))}).{advice}", facts)
