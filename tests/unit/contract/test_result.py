"""The result as JSON: which members it has, and how times are written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from shared.clock import rfc3339
from shared.contract.result import ErrorBody, Result, encode_result

NO_USAGE = {"calls": 0} | dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"))
COMPLETE: dict[str, Any] = {
    "job_id": "job-1",
    "status": "partial",
    "customer": "acme",
    "action": "chat",
    "model": "gpt-4.1",
    "metadata": {"order": "7 é"},
    "output": {"text": "Grüße 😀", "choices": [{"index": 0, "message": None}]},
    "output_blob": {
        "container": "results",
        "name": "acme/job-1/result.json",
        "size": 7,
        "sha256": "0" * 64,
        "content_type": "a/b",
    },
    "usage": {
        "calls": 2,
        "input_tokens": 5,
        "cached_tokens": 3,
        "cache_write_tokens": 1,
        "cache_write_long_tokens": 1,
        "output_tokens": 4,
        "reasoning_tokens": 0,
        "total_tokens": 9,
        "audio_input_tokens": 0,
        "audio_output_tokens": 0,
        "image_input_tokens": 0,
        "image_output_tokens": 0,
        "images": 1,
        "seconds": 1.5,
        "characters": 7,
        "service_tier": "flex",
        "processing": "standard",
        "deployment_scope": "global",
        "derived": ["output_tokens"],
        "consistent": False,
    },
    "error": {
        "code": "content_filtered",
        "message": "No.",
        "status": 400,
        "request_id": "req-1",
        "detail": {"code": "x"},
    },
    "connection": {"name": "default", "source": "static", "provider": "azure_openai", "billed_to": "operator"},
    "attempts": 2,
    "submitted_at": "2026-11-20T13:12:00.000Z",
    "started_at": "2026-11-20T13:12:01.000Z",
    "finished_at": "2026-11-20T13:12:02.000Z",
}


def test_complete_result_has_the_contracts_members():
    """A result with every member has the contract's names, and no others; its text is UTF-8 and not escaped."""
    encoded = encode_result(msgspec.convert(COMPLETE, Result))

    assert COMPLETE == json.loads(encoded)
    assert "Grüße 😀".encode() in encoded


@pytest.mark.parametrize(
    "members",
    [{}, {"error": ErrorBody(code="invalid_job", message="No.")}, {"output": {}}],
    ids=["failed", "error without an upstream", "empty output"],
)
def test_what_is_not_known_is_left_out(members: dict[str, Any]):
    """Usage, metadata and attempts are always present; other members, such as an empty output, only if known."""
    result = Result(job_id="m-1", status="failed", **members)

    assert {"job_id": "m-1", "status": "failed", "metadata": {}, "usage": NO_USAGE, "attempts": 0} | (
        {"error": {"code": "invalid_job", "message": "No."}} if "error" in members else members
    ) == json.loads(encode_result(result))


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (datetime(2026, 11, 20, 13, 12, tzinfo=UTC), "2026-11-20T13:12:00.000Z"),
        (datetime(2026, 11, 20, 13, 12, 1, 234_999, tzinfo=UTC), "2026-11-20T13:12:01.234Z"),
        (datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))), "2025-12-31T23:30:00.000Z"),
    ],
)
def test_times_are_utc_to_the_millisecond(time: datetime, text: str):
    """A time is RFC 3339 in UTC with milliseconds, whatever its time zone."""
    assert text == rfc3339(time)
