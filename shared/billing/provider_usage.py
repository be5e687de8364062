"""
Reads a provider's `usage` object. Pure; a count is never estimated.

The shapes are those of OpenAI (chat completions, Responses, embeddings, images, transcriptions), Azure OpenAI and
Foundry, Anthropic, and of gateways in front of them; `tests/data/usage.json` has examples with their sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shared.contract.usage import Usage

_NOTHING = Usage(calls=1, consistent=True)
_MAX_COUNT = 2**31 - 1
"""Of a table's whole number. A larger count is not a count."""
_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_CACHED = ("cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens", "cache_read_input_tokens")
_CACHE_WRITES = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")
_REASONING = ("reasoning_tokens", "thinking_tokens")


def read_usage(usage: Any) -> Usage | None:
    """
    Return what a `usage` object reports, or None if it reports nothing.

    `input_tokens` is everything that went in: Anthropic's excludes what was read from or written to a cache, which is
    added. `output_tokens` is everything that came out: reasoning that stands beside it is added if the total says so. A
    side that is missing is the total without the other side, and named in `derived`. Counts that contradict each other
    are kept, with `consistent` false.
    """
    if not isinstance(usage, Mapping):
        return None
    usage = _unwrapped(usage)
    into, out = _object(usage, *_INPUT_DETAILS), _object(usage, *_OUTPUT_DETAILS)
    total = _count(usage, "total_tokens")
    cached = _first(_count(into, *_CACHED), _count(usage, *_CACHED))
    written, written_long = _cache_writes(usage, into)
    input_tokens = _count(usage, *_INPUT)
    if _excludes_cache(usage) and input_tokens is not None:
        input_tokens += (cached or 0) + (written or 0) + (written_long or 0)
    reasoning = _first(_count(out, *_REASONING), _count(usage, *_REASONING))
    output_tokens = _count(usage, *_OUTPUT)
    if _is_beside(input_tokens, output_tokens, reasoning, total):
        output_tokens = (output_tokens or 0) + (reasoning or 0)
    # A sum of counts may be none: if the table refused the record, the model would be called again.
    if input_tokens is not None and input_tokens > _MAX_COUNT:
        input_tokens = None
    if output_tokens is not None and output_tokens > _MAX_COUNT:
        output_tokens = None
    input_tokens, output_tokens, derived = _derive(input_tokens, output_tokens, total)
    result = Usage(
        calls=1,
        input_tokens=input_tokens,
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_long_tokens=written_long,
        output_tokens=output_tokens,
        reasoning_tokens=reasoning,
        total_tokens=total,
        audio_input_tokens=_count(into, "audio_tokens"),
        audio_output_tokens=_count(out, "audio_tokens"),
        image_input_tokens=_count(into, "image_tokens"),
        image_output_tokens=_count(out, "image_tokens"),
        seconds=_seconds(usage),
        derived=derived,
        consistent=True,
    )
    if result == _NOTHING:
        return None
    return result if _is_consistent(result) else msgspec.structs.replace(result, consistent=False)


def _unwrapped(usage: Mapping[str, Any]) -> Mapping[str, Any]:
    """Cohere has the tokens of a call in a member of their own, beside those that it bills."""
    inner = usage.get("tokens")
    return {**usage, **inner} if isinstance(inner, Mapping) else usage


def _cache_writes(usage: Mapping[str, Any], into: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Tokens written to a cache for the ordinary, and for the longer, time to live."""
    by_ttl = _object(usage, "cache_creation")
    short, long = _count(by_ttl, "ephemeral_5m_input_tokens"), _count(by_ttl, "ephemeral_1h_input_tokens")
    written = _first(_count(into, *_CACHE_WRITES), _count(usage, *_CACHE_WRITES))
    if written is not None and written > (short or 0) + (long or 0):
        short = written - (long or 0)  # some gateways leave out a part, or write 0 for both
    return _first(short, written), _first(long, _count(into, "cache_write_long_tokens"))


def _excludes_cache(usage: Mapping[str, Any]) -> bool:
    """Whether it is Anthropic's: `input_tokens` beside the cache's, and no details of the input."""
    return (
        any(name in usage for name in ("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"))
        and usage.get("prompt_tokens") is None
        and not _object(usage, *_INPUT_DETAILS)
    )


def _is_beside(input_tokens: int | None, output_tokens: int | None, reasoning: int | None, total: int | None) -> bool:
    """Whether the total counts reasoning in addition to the output (Grok on Foundry)."""
    if input_tokens is None or not reasoning or total is None:
        return False
    return output_tokens is not None and input_tokens + output_tokens + reasoning == total


def _derive(
    input_tokens: int | None, output_tokens: int | None, total: int | None
) -> tuple[int | None, int | None, tuple[str, ...]]:
    if total is None or (input_tokens is None) == (output_tokens is None):
        return input_tokens, output_tokens, ()
    if output_tokens is None:
        assert input_tokens is not None  # noqa: S101
        missing = total - input_tokens
        return (input_tokens, missing, ("output_tokens",)) if missing >= 0 else (input_tokens, None, ())
    missing = total - output_tokens
    return (missing, output_tokens, ("input_tokens",)) if missing >= 0 else (None, output_tokens, ())


def _is_consistent(usage: Usage) -> bool:
    """Whether every part is within its whole, and the total is the sum."""
    return (
        _fit(usage.input_tokens, usage.cached_tokens, usage.cache_write_tokens, usage.cache_write_long_tokens)
        and _fit(usage.input_tokens, usage.audio_input_tokens, usage.image_input_tokens)
        and _fit(usage.output_tokens, usage.reasoning_tokens)
        and _fit(usage.output_tokens, usage.audio_output_tokens, usage.image_output_tokens)
        and (
            None in (usage.total_tokens, usage.input_tokens, usage.output_tokens)
            or usage.total_tokens == (usage.input_tokens or 0) + (usage.output_tokens or 0)
        )
    )


def _fit(whole: int | None, *parts: int | None) -> bool:
    return whole is None or sum([part for part in parts if part]) <= whole


def _object(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        if isinstance(value := usage.get(name), Mapping):
            return value
    return {}


def _first(first: int | None, second: int | None) -> int | None:
    """The first that is not zero, since some gateways write zeros in the members of other APIs; else 0, if one is."""
    return first or second or (second if first is None else first)


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    count = None
    for name in names if usage else ():
        if name in usage:
            count = _first(count, _whole(usage[name]))
    return count


def _whole(value: Any) -> int | None:
    """Some gateways write 7.0."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT:
        return int(value) if value == int(value) else None
    return None


def _seconds(usage: Mapping[str, Any]) -> float | None:
    """The duration of a transcription that is charged by it: `{"type": "duration", "seconds": 27}`. Not an amount."""
    value = usage.get("seconds")
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _MAX_COUNT:
        return round(float(value), 3)
    return None
