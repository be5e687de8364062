"""The wait that a server asks for: in headers of three kinds, and in the sentence of its refusal."""

from __future__ import annotations

import json
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.clock import now
from shared.upstream.error_mapping import map_error
from shared.upstream.server_wait import read_duration, read_rate_limit_reset, read_retry_after, read_wait_in_text
from tests.support.rows import every_row


@every_row(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"retry-after": "30"}, 30),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "30s"}, 30),
        ({"retry-after": "1764424800"}, None),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after-ms": "1", "x-ms-retry-after-ms": "2000", "retry-after": "3"}, 0.001),
        ({"x-ms-retry-after-ms": "2000", "retry-after": "3"}, 2),
        ({"retry-after-ms": "soon", "retry-after": "3"}, 3),
        ({"retry-after-ms": "-5", "retry-after": "3"}, 3),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:00 +99999999999999999999"}, None),
    ],
)
def test_headers_are_read_in_order(headers: dict[str, str], seconds: float | None):
    """Milliseconds precede seconds, a past date is now, and nonsense is ignored."""
    assert seconds == read_retry_after(headers)


@pytest.mark.parametrize("zone", ["GMT", "-0000"])
def test_a_future_date_is_the_time_until_then(zone: str):
    """A date in `retry-after` becomes seconds from now; a date without a zone is UTC."""
    date = now() + timedelta(seconds=90)
    text = format_datetime(date, usegmt=True).replace("GMT", zone)

    assert 85 <= (read_retry_after({"retry-after": text}) or 0) <= 91


@every_row(
    ("text", "seconds"),
    [
        *(("40s", 40), ("1m30s", 90), ("250ms", 0.25), ("1h2m3.5s", 3723.5), ("0s", 0), ("6m0s", 360), ("1d", None)),
        *(("7", 7), ("0.5", 0.5), ("100us", 0.0001), ("100µs", 0.0001), ("5ns", 5e-9), ("-1s", None), ("", None)),
        *(
            ("s", None),
            ("1m 30s", None),
            ("soon", None),
            ("9" * 400 + "s", None),
            ("1764424800", None),
            ("1764424800000", None),
            (" 2s ", 2),
        ),
    ],
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float | None):
    """Hours to nanoseconds; a bare number is seconds, unless it is a point in time."""
    assert pytest.approx(seconds) == read_duration(text)


def limit(name: str, reset: str, remaining: str | None = None) -> dict[str, str]:
    """Return the headers of one limit."""
    headers = {f"x-ratelimit-reset-{name}": reset}
    return headers if remaining is None else headers | {f"x-ratelimit-remaining-{name}": remaining}


@every_row(
    ("headers", "seconds"),
    [
        ({}, None),
        (limit("requests", "40s"), 40),
        (limit("requests", "40s", "0") | limit("tokens", "1m30s", "1200"), 40),
        (limit("requests", "40s", "10") | limit("tokens", "250ms", "0"), 0.25),
        (limit("requests", "40s", "0") | limit("tokens", "1m30s", "0"), 90),
        (limit("requests", "40s", "10") | limit("tokens", "1m30s", "20"), 90),
        (limit("requests", "40s") | limit("tokens", "1m30s"), 90),
        (limit("requests", "soon", "0") | limit("tokens", "1m30s", "20"), 90),
        (limit("requests", "soon"), None),
        (limit("project-tokens", "2m", "0") | limit("requests", "1s"), 120),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-limit-requests": "60"}, None),
    ],
)
def test_the_limit_that_was_reached_says_how_long_to_wait(headers: dict[str, str], seconds: float | None):
    """The limit with nothing remaining counts; if none says so, the longest wait."""
    assert seconds == read_rate_limit_reset(headers)


def claude_limit(name: str, wait_s: float | str, remaining: str | None = None) -> dict[str, str]:
    """Return Anthropic's headers of one limit, which is lifted in so many seconds."""
    date = wait_s if isinstance(wait_s, str) else (now() + timedelta(seconds=wait_s)).isoformat()
    headers = {f"anthropic-ratelimit-{name}-reset": date.replace("+00:00", "Z")}
    return headers if remaining is None else headers | {f"anthropic-ratelimit-{name}-remaining": remaining}


@every_row(
    ("limits", "seconds"),
    [
        ([("requests", 40)], 40),
        ([("requests", 40, "0"), ("input-tokens", 90, "1200")], 40),
        ([("requests", 40, "10"), ("input-tokens", 25, "0"), ("output-tokens", 90, "7")], 25),
        ([("requests", 40, "10"), ("tokens", 90, "20")], 90),
        ([("requests", -40, "0")], 0),
        ([("requests", "soon", "0"), ("tokens", 90, "20")], 90),
        ([("requests", "2026-11-30T12:00:00", "0")], None),
        ([("requests", "40", "0")], None),
    ],
)
def test_anthropics_limits_are_lifted_at_a_date(limits: list[tuple[Any, ...]], seconds: float | None):
    """They are read as the others; a date without a zone, or no date, says nothing."""
    headers: dict[str, str] = {}
    for each in limits:
        headers |= claude_limit(*each)

    assert (seconds if seconds is None else pytest.approx(seconds, abs=5)) == read_rate_limit_reset(headers)


@every_row(
    ("message", "seconds"),
    [
        ("Please try again in 1m30s. Visit the page.", 90),
        ("Please try again in 20.5s.", 20.5),
        ("Rate limit is exceeded. Try again in 24 seconds.", 24),
        ("Please retry after 6 seconds.", 6),
        ("Quota will be replenished in 01:00:50.", 3650),
        ("Quota will be replenished in 5.03:00:50.", 442_850),
        ("Try again later.", None),
        ("Try again in 5 days.", None),
        ("Please try again in a moment.", None),
        ("", None),
    ],
)
def test_a_sentence_says_how_long_to_wait(message: str, seconds: float | None):
    """OpenAI's, Azure's and API Management's sentences name a duration."""
    assert seconds == read_wait_in_text(message)


@every_row(
    ("status", "headers", "seconds"),
    [
        (429, {"retry-after": "3"} | limit("requests", "40s", "0"), 3),
        (429, limit("requests", "40s", "0"), 40),
        (429, {}, 7),
        (403, {}, 7),
        (503, limit("requests", "40s", "0"), None),
    ],
)
def test_the_servers_own_wait_comes_first(status: int, headers: dict[str, str], seconds: float | None):
    """A header that names a wait precedes the limits, and these the sentence. Other failures have no limit to lift."""
    body = {"error": {"message": "Quota exceeded. Try again in 7s."}}

    assert seconds == map_error(status, headers, json.dumps(body).encode()).facts.retry_after_s


@given(st.text(max_size=60), st.sampled_from(["", "try again in ", "replenished in "]))
def test_any_text_is_a_wait_or_none(text: str, before: str):
    """Nothing that a server writes raises an error."""
    for wait_s in (
        read_duration(text),
        read_wait_in_text(before + text),
        read_rate_limit_reset(limit("x", text, text)),
    ):
        assert wait_s is None or wait_s >= 0
