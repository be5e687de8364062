"""The JSON of transcriptions: read, joined across cuts, and written as subtitles. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shared.actions.answer import answered_error
from shared.billing.usage import Call, call_of_answer
from shared.contract.decoding import json_object
from shared.contract.usage import Usage
from shared.errors import ProviderUnavailable, UpstreamError, UpstreamFacts
from shared.upstream.messages import Response

TIMED = {"verbose_json": ("segments", "words"), "srt": ("segments",), "vtt": ("segments",)}
"""Formats with times, which models report as `verbose_json`, and the lists of which each needs one."""
_TEXTS = {"segments": "text", "words": "word"}
"""The member of a list's items that has the text."""
_LISTS = (*_TEXTS, "logprobs")
_TIMES = ("start", "end")
_SEEK_PER_S = 100
_MAX_S = 10_000_000
"""A hundred days."""
_SHORTEST_S = 0.001
"""Of a subtitle, which has to end after it begins."""


@dataclass(frozen=True, slots=True)
class Transcription:
    """One answer: its members and its call, or the error that came in its place."""

    members: dict[str, Any]
    call: Call
    error: UpstreamError | None


def read_transcription(response: Response, *, kind: str) -> Transcription:
    """
    Read a 2xx response, which needs times if the format of this `kind` has any.

    A duration that is not reported as usage is `derived`.
    """
    body = json_object(response.body)
    call = call_of_answer(body, response.request_id, response.processing, response.metered_as)
    seconds: Any = body.get("duration")
    if call.usage is None and _is_time(seconds):
        usage = Usage(calls=1, seconds=round(float(seconds), 3), derived=("seconds",))
        call = replace(call, usage=usage)
    members = {name: value for name, value in body.items() if name != "usage"}
    facts = UpstreamFacts(status=response.status, request_id=response.request_id)
    error = answered_error([body], response)
    if error is None and not isinstance(body.get("text"), str):
        error = ProviderUnavailable("The endpoint's response is not a transcription: it has no `text`.", facts)
    elif error is None and kind in TIMED and not any(_are_timed(body.get(name), name) for name in TIMED[kind]):
        needed = " and no ".join(f"`{name}`" for name in TIMED[kind])
        error = ProviderUnavailable(
            f"The endpoint's response has no {needed} with times: use another model, or `response_format` json.", facts
        )
    return Transcription(members, call, error)


def join_transcriptions(parts: Sequence[Mapping[str, Any]], starts_s: Sequence[float]) -> dict[str, Any]:
    """
    Return the members of the transcription of pieces that begin at these times; the first one's, if not known.

    A model may hear a piece go on for longer than it does: what it says of that is at the piece's end.
    """
    if len(parts) == 1:
        return dict(parts[0])
    joined = dict(parts[0])
    joined["text"] = " ".join(filter(None, (part["text"].strip() for part in parts)))
    spans = list(zip(starts_s, [*starts_s[1:], math.inf], strict=True))
    for name in _LISTS:
        lists = [(part.get(name), span) for part, span in zip(parts, spans, strict=True)]
        if any(isinstance(each, list) for each, _ in lists):
            items = [_shifted(item, *span) for each, span in lists if isinstance(each, list) for item in each]
            joined[name] = [{**item, "id": at} if "id" in item else item for at, item in enumerate(items)]
    joined.pop("duration", None)
    if all(_is_time(part.get("duration")) for part in parts):
        joined["duration"] = round(sum(float(part["duration"]) for part in parts), 3)
    return joined


def subtitles(segments: Sequence[Mapping[str, Any]], kind: str) -> str:
    """Return segments as SubRip (`srt`) or WebVTT (`vtt`)."""
    cues = [
        (start_s := segment["start"], max(segment["end"], start_s + _SHORTEST_S), _lines(segment["text"], kind))
        for segment in segments
    ]
    shown = [cue for cue in cues if cue[2]]
    if kind == "vtt":
        return "WEBVTT\n\n" + "".join(f"{_clock(a, '.')} --> {_clock(b, '.')}\n{text}\n\n" for a, b, text in shown)
    return "".join(
        f"{at}\n{_clock(a, ',')} --> {_clock(b, ',')}\n{text}\n\n" for at, (a, b, text) in enumerate(shown, 1)
    )


def _shifted(item: Any, start_s: float, end_s: float) -> Any:
    if not isinstance(item, dict):
        return {}
    times = {name: round(min(item[name] + start_s, end_s), 3) for name in _TIMES if _is_time(item.get(name))}
    seek = {"seek": item["seek"] + round(start_s * _SEEK_PER_S)} if isinstance(item.get("seek"), int) else {}
    return {**item, **times, **seek}


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MAX_S


def _are_timed(value: Any, name: str) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict)
        and isinstance(item.get(_TEXTS[name]), str)
        and all(_is_time(item.get(name)) for name in _TIMES)
        for item in value
    )


def _lines(text: str, kind: str) -> str:
    """Return a cue's text: a blank line would end it, an arrow would be read as times, and WebVTT has markup."""
    lines = "\n".join(filter(None, (line.strip() for line in text.splitlines()))).replace("-->", "->")
    if kind == "vtt":
        return lines.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return lines


def _clock(seconds: float, point: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"
