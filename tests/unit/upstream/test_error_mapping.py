"""Every error body that the providers are known to send, and the status and headers beside it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import (
    ContentFiltered,
    CredentialRejected,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    UpstreamError,
    UpstreamTimeout,
)
from shared.upstream.error_mapping import map_error, read_request_id, read_retry_after

GOLDEN = sorted((Path(__file__).parents[2] / "data" / "errors").glob("*.json"))
assert len(GOLDEN) == 36


def body(code: object, message: object = "No.") -> bytes:
    return json.dumps({"error": {"code": code, "message": message}}).encode()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_errors_are_mapped(path: Path):
    """An error body that a provider sends becomes the contract's code, a sentence and its facts."""
    golden = json.loads(path.read_text(encoding="utf-8"))
    text = golden["body"] if isinstance(golden["body"], str) else json.dumps(golden["body"])

    error = map_error(golden["status"], golden["headers"], text.encode())

    facts = error.facts
    assert {"unanswered": False} | golden["expected"] == {
        "code": error.code,
        "message": str(error),
        "request_id": facts.request_id,
        "retry_after_s": facts.retry_after_s,
        "transient": facts.transient,
        "unanswered": facts.unanswered,
        "detail": facts.detail,
    }
    assert golden["status"] == facts.status
    assert "MARK" not in str(error)


@pytest.mark.parametrize("code", ["401", "content_filter", "insufficient_quota", "model_not_found", "x", None])
@pytest.mark.parametrize("status", [401, 403])
def test_text_of_a_refused_credential_is_never_quoted(status: int, code: str | None):
    """The text of a 401 is never quoted, nor that of a 403 that is about the credential."""
    error = map_error(status, {}, body(code, "Your key MARK is wrong."))

    if status == 401:
        assert isinstance(error, CredentialRejected)
    if isinstance(error, CredentialRejected):
        assert "MARK" not in str(error)
        assert error.facts.transient is False


@pytest.mark.parametrize(
    ("kind", "statuses"),
    [
        (RequestRejected, [300, 304, 400, 404, 405, 409, 413, 422, 424]),
        (UpstreamTimeout, [408]),
        (RateLimited, [429]),
        (ProviderUnavailable, [500, 503, 529, 599]),
    ],
)
def test_status_alone_is_mapped(kind: type[UpstreamError], statuses: list[int]):
    """
    A response without a body is mapped by its status. `x-should-retry` precedes the status in whether it is worth a
    retry; a value that is neither true nor false is ignored.
    """
    for status in statuses:
        error = map_error(status, {}, b"")
        transient = kind is not RequestRejected or status == 409
        by_header = {"": transient, "maybe": transient, "false": False, "true": True}

        assert (kind, transient, {}) == (type(error), error.facts.transient, error.facts.detail)
        assert str(error).endswith(".")
        assert by_header == {
            value: map_error(status, {"x-should-retry": value}, b"").facts.transient for value in by_header
        }


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "insufficient_quota", QuotaExhausted),
        (429, "billing_hard_limit_reached", QuotaExhausted),
        (500, "content_filter", ContentFiltered),
    ],
)
def test_permanent_failures_are_not_worth_a_retry(status: int, code: str, kind: type[UpstreamError]):
    """An error that waiting can't fix is not retried, whatever the status and the header say."""
    error = map_error(status, {"retry-after": "3", "x-should-retry": "true"}, body(code))

    assert (kind, False, None) == (type(error), error.facts.transient, error.facts.retry_after_s)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"retry-after": "30"}, 30),
        ({"retry-after": "0"}, 0),
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
    date = datetime.now(UTC) + timedelta(seconds=90)
    text = format_datetime(date, usegmt=True).replace("GMT", zone)

    assert 85 <= (read_retry_after({"retry-after": text}) or 0) <= 91


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-request-id": "a", "apim-request-id": "b", "x-ms-request-id": "c"}, "a"),
        ({"apim-request-id": "b", "x-ms-request-id": "c"}, "b"),
        ({"x-ms-request-id": "c"}, "c"),
        ({"x-request-id": "", "apim-request-id": "b"}, "b"),
    ],
)
def test_request_id_is_the_providers(headers: dict[str, str], expected: str | None):
    """The first header that has an id is used."""
    assert expected == read_request_id(headers)


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a\n\n b\t" + "c" * 600, f": a b {'c' * 496}…"),
        ("No \ud83d.", ": No \ufffd."),
        *((message, ".") for message in (None, "", " \n", 7, ["x"], {"x": 1})),
    ],
)
def test_the_message_of_a_provider_is_quoted(text: object, quoted: str):
    """
    It is quoted on one line, 500 characters of it, with U+FFFD in place of half a surrogate pair. Without a text there
    is only our own sentence.
    """
    assert f"The endpoint refused the request (400){quoted}" == str(map_error(400, {}, body("x", text)))


@pytest.mark.parametrize(
    "unreadable", [b"[]", b"null", b"3", b'"x"', b"\xff", b"{", b"[" * 50_000, b'{"error": null}', b'{"error": []}']
)
def test_unreadable_bodies_are_mapped_by_their_status(unreadable: bytes):
    """A body of another shape, or that is no JSON, is mapped by its status."""
    assert "The endpoint failed (500)." == str(map_error(500, {}, unreadable))


values = st.none() | st.integers() | st.text(max_size=8) | st.lists(st.integers(), max_size=2)


@settings(max_examples=100)
@given(
    st.integers(300, 599),
    st.dictionaries(
        st.sampled_from(["error", "message", "code", "type", "status", "innererror", "content_filter_result"]),
        values | st.dictionaries(st.sampled_from(["code", "message", "innererror", "type"]), values),
    ),
    st.text(max_size=40),
)
def test_any_response_maps_to_an_error(status: int, document: dict[str, object], header: str):
    """Any response maps to one error with a message of bounded length."""
    error = map_error(status, {"retry-after": header, "x-should-retry": header}, json.dumps(document).encode())

    assert isinstance(error, UpstreamError)
    assert len(str(error)) < 700
    assert (error.facts.retry_after_s or 0) >= 0
