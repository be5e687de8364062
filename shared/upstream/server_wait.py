"""How long a server asks to wait, in whichever way it says so. Pure, except that a date counts from now."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from shared.clock import now

_EPOCH_S = 1e9
"""A number of seconds from here on is a point in time."""
_RESET = "x-ratelimit-reset-"
_REMAINING = "x-ratelimit-remaining-"
# Anthropic: `anthropic-ratelimit-input-tokens-reset: 2026-11-30T12:00:30Z`, and the same with `-remaining`.
_CLAUDE_LIMIT, _CLAUDE_RESET = "anthropic-ratelimit-", "-reset"
_GO_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_GO_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(h|ms|m|s|us|µs|μs|ns)")
_GO_DURATION = re.compile(rf"(?:{_GO_PART.pattern})+")
# "Please try again in 1m30s", "Try again in 24 seconds", "Quota will be replenished in 00:00:50" (5.00:00:50 has days).
_IN_TEXT = re.compile(
    r"(?i:try again|retry|replenished) (?:in|after) "
    r"(?:(?:([0-9]{1,3})\.)?([0-9]{1,4}):([0-9]{2}):([0-9]{2})|([0-9]+(?:\.[0-9]+)?(?: seconds?\b|[a-z][0-9a-z.]*)))"
)


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait, or None; a header in milliseconds precedes `retry-after`."""
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = _number(headers.get(name))
        if milliseconds is not None:
            return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = None if text is None else read_duration(text)  # some gateways write `30s`
    if seconds is not None or text is None:
        return seconds
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now()).total_seconds())


def read_rate_limit_reset(headers: Mapping[str, str]) -> float | None:
    """
    Return the seconds until the limit that was reached is lifted, by `x-ratelimit-reset-*` or Anthropic's, or None.

    The limit that was reached is one with nothing remaining; if the headers don't say which, the longest wait counts.
    """
    waits = {
        _REMAINING + name.removeprefix(_RESET): read_duration(text)
        for name, text in headers.items()
        if name.startswith(_RESET)
    }
    for name, text in headers.items():
        if name.startswith(_CLAUDE_LIMIT) and name.endswith(_CLAUDE_RESET):
            waits[f"{name.removesuffix(_CLAUDE_RESET)}-remaining"] = _seconds_until(text)
    readable = {remaining: wait_s for remaining, wait_s in waits.items() if wait_s is not None}
    reached = [wait_s for remaining, wait_s in readable.items() if _number(headers.get(remaining)) == 0]
    return max(reached or readable.values(), default=None)


def read_wait_in_text(message: str) -> float | None:
    """Return the seconds that a refusal's sentence asks to wait, or None."""
    match = _IN_TEXT.search(message)
    if match is None:
        return None
    days, hours, minutes, seconds, duration = match.groups()
    if duration is None:
        return int(days or 0) * 86_400.0 + int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    return read_duration(duration.partition(" ")[0].rstrip("."))


def read_duration(text: str) -> float | None:
    """Return a duration as Go writes it (`1m30s`, `250ms`), or seconds, as seconds; None for anything else."""
    seconds = _number(text)
    if seconds is not None:
        return seconds if seconds < _EPOCH_S else None
    text = text.strip()
    if _GO_DURATION.fullmatch(text) is None:
        return None
    seconds = sum(float(number) * _GO_UNITS_S[unit] for number, unit in _GO_PART.findall(text))
    return seconds if seconds < _EPOCH_S else None


def _seconds_until(text: str) -> float | None:
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if date.tzinfo is None else max(0.0, (date - now()).total_seconds())


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None
