"""The result as JSON: which members it has, and how times are written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from shared.clock import rfc3339
from shared.contract.result import (
    ConnectionLabel,
    ErrorBody,
    OutputBlob,
    Result,
    Usage,
    encode_result,
)

NO_USAGE = {
    "calls": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "cached_tokens": 0,
    "reasoning_tokens": 0,
    "images": 0,
}
COMPLETE = Result(
    job_id="job-1",
    status="partial",
    customer="acme",
    action="chat",
    model="gpt-4.1",
    metadata={"order": "7 é"},
    output={"text": "Grüße 😀", "choices": [{"index": 0, "message": None}]},
    output_blob=OutputBlob(
        container="results", name="acme/job-1/result.json", size=7, sha256="0" * 64, content_type="a/b"
    ),
    usage=Usage(calls=2, input_tokens=5, output_tokens=4, cached_tokens=3, reasoning_tokens=2, images=1),
    error=ErrorBody(code="content_filtered", message="No.", status=400, request_id="req-1", detail={"code": "x"}),
    connection=ConnectionLabel(name="default", source="static", provider="azure_openai", billed_to="operator"),
    attempts=2,
    submitted_at="2026-11-20T13:12:00.000Z",
    started_at="2026-11-20T13:12:01.000Z",
    finished_at="2026-11-20T13:12:02.000Z",
)


def test_complete_result_has_the_contracts_members():
    """A result with every member has the contract's names, and no others."""
    assert {
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
            "output_tokens": 4,
            "cached_tokens": 3,
            "reasoning_tokens": 2,
            "images": 1,
        },
        "error": {
            "code": "content_filtered",
            "message": "No.",
            "status": 400,
            "request_id": "req-1",
            "detail": {"code": "x"},
        },
        "connection": {
            "name": "default",
            "source": "static",
            "provider": "azure_openai",
            "billed_to": "operator",
        },
        "attempts": 2,
        "submitted_at": "2026-11-20T13:12:00.000Z",
        "started_at": "2026-11-20T13:12:01.000Z",
        "finished_at": "2026-11-20T13:12:02.000Z",
    } == json.loads(encode_result(COMPLETE))


def test_smallest_result_still_has_usage_metadata_and_attempts():
    """What is not known is left out; usage, metadata and attempts are always present."""
    assert {
        "job_id": "m-1",
        "status": "failed",
        "metadata": {},
        "usage": NO_USAGE,
        "attempts": 0,
    } == json.loads(encode_result(Result(job_id="m-1", status="failed")))


def test_error_without_an_upstream_is_a_code_and_a_message():
    """An error that did not come from an endpoint has neither status nor request id."""
    result = Result(job_id="m", status="failed", error=ErrorBody(code="invalid_job", message="No."))

    assert {"code": "invalid_job", "message": "No."} == json.loads(encode_result(result))["error"]


def test_empty_output_is_an_output():
    """An output without members is written, because it is not the same as no output."""
    result = Result(job_id="m", status="succeeded", output={})

    assert {} == json.loads(encode_result(result))["output"]


def test_result_is_utf_8():
    """Text is written as it is, not escaped."""
    assert "Grüße 😀".encode() in encode_result(COMPLETE)


def test_usage_adds_member_by_member():
    """Two usages are added member by member."""
    assert COMPLETE.usage == COMPLETE.usage + Usage()
    assert Usage(calls=3, input_tokens=6, output_tokens=4, cached_tokens=3, reasoning_tokens=2, images=3) == (
        COMPLETE.usage + Usage(calls=1, input_tokens=1, images=2)
    )


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
