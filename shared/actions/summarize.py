"""`summarize`: one call for a text that fits one; of a longer one its parts, whose summaries are then combined."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from msgspec import Raw

from shared.actions.base import Bench, Completed
from shared.actions.fan_out import Outcome, reason_of, settle
from shared.actions.map_reduce import Summaries
from shared.actions.text_splitter import estimate_tokens
from shared.contract.error_codec import known_error
from shared.contract.summarize import Summarize, decode_summarize
from shared.errors import CredentialRejected, InvalidJob, ProviderUnavailable, UpstreamRetryLater

NEEDS_MODEL = True

_SHRUNK = 0.75
"""Summaries that don't come to less than this of what they sum up would be combined forever."""


def decode(data: Raw | bytes) -> Summarize:
    """See Action."""
    return decode_summarize(data)


def keeps_blobs(_: Summarize) -> bool:
    """See Action."""
    return False


async def run(asked: Summarize, bench: Bench) -> Completed:
    """See Action."""
    text, summaries = await _read(asked, bench), Summaries(asked, bench)
    said: list[dict[str, Any]] = []
    level = parts = 0
    while True:
        outcomes = await summaries.of(text, f"c{level}n" if level else "p", combining=level > 0, whole=True)
        faults = [fault for fault in map(_fault, outcomes) if fault is not None]
        if faults:
            # What fails for good does not wait for what may still come.
            final = [fault for fault in faults if not isinstance(fault, UpstreamRetryLater | CredentialRejected)]
            return settle(final or faults, partial(_failed, outcomes, final or faults))
        answers = [one for one in outcomes if isinstance(one, dict)]
        said += answers
        parts = parts or len(answers)
        if answers[0]["whole"]:
            return Completed(_output(said, parts, level))
        before, text = text, "\n\n".join(one["text"].strip() for one in answers)
        if estimate_tokens(text) > max(summaries.size, _SHRUNK * estimate_tokens(before)):
            return Completed(None, (), "failed", _not_shorter(len(answers)))
        level += 1


async def _read(asked: Summarize, bench: Bench) -> str:
    if isinstance(asked.source, str):
        return asked.source
    data = await bench.read(asked.source, at="input.blob")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise InvalidJob(f"`input.blob` is not valid UTF-8 (byte {exc.start}).") from exc
    if not text.strip():
        raise InvalidJob("`input.blob` holds no text.")
    return text


def _fault(outcome: Outcome) -> Exception | None:
    if isinstance(outcome, Exception):
        return outcome
    return known_error(outcome["error"]) if "error" in outcome else None


def _failed(outcomes: Sequence[Outcome], faults: Sequence[Exception]) -> Completed:
    # As with a chat, what the content filter left of the one answer is shown.
    only: Any = outcomes[0]
    shown = isinstance(only, dict) and only["whole"] and only["finish_reason"]
    output = {name: only[name] for name in ("text", "finish_reason")} if shown else None
    return Completed(output, (), "failed", reason_of(faults[0]))


def _output(said: Sequence[dict[str, Any]], parts: int, levels: int) -> dict[str, Any]:
    reasons = [one["finish_reason"] for one in said]
    output = {
        "text": said[-1]["text"],
        "parts": parts,
        "levels": levels,
        "finish_reason": "length" if "length" in reasons else reasons[-1],
    }
    adapted = list(dict.fromkeys(how for one in said for how in one["adapted"]))
    return output | ({"adapted": adapted} if adapted else {})


def _not_shorter(parts: int) -> ProviderUnavailable:
    return ProviderUnavailable(
        f"The model's summaries of {parts} parts are hardly shorter than the parts, and can't be combined; "
        "the calls were paid for."
    )
