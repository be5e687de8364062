"""`summarize`: one call if the text fits; else one call a part, and further calls that combine the summaries."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec import Raw

from shared.actions.base import Completed, Context, Outcome
from shared.actions.fan_out import Part, join, reason_of
from shared.actions.map_reduce import Summaries
from shared.actions.summary_source import read_source
from shared.actions.text_splitter import estimate_tokens
from shared.contract.error_codec import error_from_body
from shared.contract.summarize import Summarize, decode_summarize
from shared.documents.pictures import ANCHORS
from shared.errors import CredentialRejected, ProviderUnavailable, UpstreamRetryLater

NEEDS_MODEL = True

_MAX_LENGTH_RATIO = 0.75
"""Share of their source's tokens that summaries may have: longer ones could be combined forever."""


def decode(data: Raw | bytes) -> Summarize:
    """See Action."""
    return decode_summarize(data)


def keeps_blobs(_: Summarize) -> bool:
    """See Action."""
    return False


async def run(request: Summarize, ctx: Context) -> Outcome:
    """See Action."""
    source = await read_source(request, ctx)
    text = source.text
    summaries = Summaries(request, ctx, at_headings=source.documents is not None, pictures=source.pictures)
    answers: list[dict[str, Any]] = []
    level = first_parts = 0
    while True:
        parts = await summaries.summarize(text, f"c{level}n" if level else "p", combining=level > 0, whole=True)
        errors = [error for error in map(_error_of, parts) if error is not None]
        if errors:
            # A permanent failure ends the job at once, though other parts could still succeed.
            permanent = [error for error in errors if not isinstance(error, UpstreamRetryLater | CredentialRejected)]
            return join(permanent or errors, partial(_failed, parts, permanent or errors))
        level_answers = [part for part in parts if isinstance(part, dict)]
        answers += level_answers
        first_parts = first_parts or len(level_answers)
        if level_answers[0]["whole"]:
            output = _output(answers, first_parts, level)
            return Completed(output if source.documents is None else output | {"documents": source.documents})
        before, text = text, "\n\n".join(answer["text"].strip() for answer in level_answers)
        tokens_before = estimate_tokens(before, ANCHORS if source.pictures and not level else None)
        if estimate_tokens(text) > max(summaries.size, _MAX_LENGTH_RATIO * tokens_before):
            return Completed(None, (), "failed", _not_shorter(len(level_answers)))
        level += 1


def _error_of(part: Part) -> Exception | None:
    if isinstance(part, Exception):
        return part
    return error_from_body(part["error"]) if "error" in part else None


def _failed(parts: Sequence[Part], errors: Sequence[Exception]) -> Completed:
    # As for a chat, the output has what the content filter left of a single answer.
    first: Any = parts[0]
    is_shown = isinstance(first, dict) and first["whole"] and first["finish_reason"]
    output = {name: first[name] for name in ("text", "finish_reason")} if is_shown else None
    return Completed(output, (), "failed", reason_of(errors[0]))


def _output(answers: Sequence[dict[str, Any]], parts: int, levels: int) -> dict[str, Any]:
    reasons = [answer["finish_reason"] for answer in answers]
    output = {
        "text": answers[-1]["text"],
        "parts": parts,
        "levels": levels,
        "finish_reason": "length" if "length" in reasons else reasons[-1],
    }
    adapted = list(dict.fromkeys(change for answer in answers for change in answer["adapted"]))
    return output | ({"adapted": adapted} if adapted else {})


def _not_shorter(parts: int) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"The model's summaries of {parts} parts are hardly shorter than the parts, so they can't be combined. "
        "The calls were billed."
    )
