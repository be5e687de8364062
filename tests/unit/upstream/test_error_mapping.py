"""Every error body that the providers are known to send, and the status and headers beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import (
    AccountBlocked,
    ContentFiltered,
    CredentialRejected,
    NetworkRefused,
    PermissionRefused,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    UpstreamError,
    UpstreamTimeout,
)
from shared.upstream.error_mapping import map_error, read_request_id
from tests.support.rows import every_row

GOLDEN = sorted((Path(__file__).parents[2] / "data" / "errors").glob("*.json"))
assert len(GOLDEN) == 68


def body(code: object, message: object = "No.") -> bytes:
    return json.dumps({"error": {"code": code, "message": message}}).encode()


@every_row("path", GOLDEN, ids=lambda path: path.stem)
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


@every_row("code", ["401", "content_filter", "insufficient_quota", "model_not_found", "x", None])
@every_row("status", [401, 403])
def test_text_of_a_refused_credential_is_never_quoted(status: int, code: str | None):
    """The text of a 401 is never quoted, nor that of a 403 that is about the credential."""
    error = map_error(status, {}, body(code, "Your key MARK is wrong."))

    if status == 401:
        assert isinstance(error, CredentialRejected)
    if isinstance(error, CredentialRejected):
        assert CredentialRejected is type(error)
        assert "MARK" not in str(error)
        assert error.facts.transient is False


@every_row("fragment", ["sk-proj-****MARK", "sk-MARK", "MARK****MARK", "***MARK"])
@every_row("status", [400, 401, 403, 429, 500])
def test_a_part_of_a_key_is_never_quoted(status: int, fragment: str):
    """A sentence that is quoted may repeat a part of the key, in a shape that providers use."""
    error = map_error(status, {}, body("permission_denied", f"The project of {fragment} lacks the required role."))

    assert "MARK" not in str(error)
    assert "lacks the required role." in str(error)


@every_row(
    ("status", "message", "kind"),
    [
        (403, "You do not have access to this model.", PermissionRefused),
        (403, "", PermissionRefused),
        (403, "Missing scopes: images.write", PermissionRefused),
        (401, "Missing scopes: images.write", PermissionRefused),
        (401, "You do not have access to this model.", CredentialRejected),
        (403, "The access token has expired.", CredentialRejected),
        (403, "Public network access is disabled. Please configure private endpoint.", NetworkRefused),
        (401, "Your request IP does not match the configured IP allowlist.", NetworkRefused),
        (403, "Quota exceeded for this subscription.", RateLimited),
        (403, "The prompt was flagged by our content policy.", ContentFiltered),
        (403, "You are not allowed to request logprobs from this model.", RequestRejected),
        (403, "Your resource has been temporarily blocked.", AccountBlocked),
    ],
)
def test_a_refused_access_is_mapped_by_its_meaning(status: int, message: str, kind: type[UpstreamError]):
    """A 403 or 401 can be about one operation, the network, a quota, the prompt or a parameter, not only the key."""
    error = map_error(status, {}, body(None, message))

    assert kind is type(error)
    assert (kind is RateLimited) is error.facts.transient
    if kind not in {CredentialRejected, NetworkRefused}:
        assert message in str(error)


def test_a_forbidden_request_with_a_wait_is_a_rate_limit():
    """A gateway's quota that says with a 403 when it is filled again is waited for; a missing permission is not."""
    headers = {"retry-after": "50"}

    quota, permission = (map_error(403, headers, body(code)) for code in (None, "PermissionDenied"))

    assert ("rate_limited", True, 50) == (quota.code, quota.facts.transient, quota.facts.retry_after_s)
    assert ("credential_rejected", False) == (permission.code, permission.facts.transient)


MESSAGE = "`tools` is not enabled."


@every_row(
    "shape",
    [
        {"error": {"message": MESSAGE}},
        {"error": {"error": {"message": MESSAGE}}},
        {"error": [{"message": MESSAGE}]},
        {"error": {"message": {"message": MESSAGE}}},
        {"error": MESSAGE},
        {"errors": [{"message": MESSAGE}]},
        {"errors": [MESSAGE]},
        {"type": "error", "error": {"type": "x", "message": MESSAGE}},
        {"object": "error", "message": MESSAGE},
        {"statusCode": 400, "message": MESSAGE},
        {"Message": MESSAGE},
        {"status": 400, "code": "x", "detail": {"loc": ["body", "tools"]}, "message": MESSAGE},
        {"detail": MESSAGE},
        {"title": "Bad Request", "detail": MESSAGE},
        {"detail": {"message": MESSAGE}},
        {"error": "invalid_request", "error_description": MESSAGE},
        [{"error": {"message": MESSAGE}}],
        [{"message": MESSAGE}],
        MESSAGE,
        MESSAGE.encode(),
        b"\xef\xbb\xbf\n" + MESSAGE.encode() + b"\n",
    ],
    ids=lambda shape: str(shape)[:40],
)
@every_row("status", [400, 403, 429, 500])
def test_a_refusal_tells_its_reason_in_any_shape(status: int, shape: object):
    """Objects, lists and texts: the endpoint's sentence is in the message."""
    data = shape if isinstance(shape, bytes) else json.dumps(shape).encode()

    assert str(map_error(status, {}, data)).endswith(f": {MESSAGE}")


@every_row(
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


@every_row(
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


@every_row(
    ("text", "quoted"),
    [
        ("a\n\n b\t" + "c" * 600, f": a b {'c' * 496}…"),
        ("No \ud83d.", ": No \ufffd."),
        *((message, ".") for message in (None, "", " \n", 7, [7], {"x": 1})),
    ],
)
def test_the_message_of_a_provider_is_quoted(text: object, quoted: str):
    """
    It is quoted on one line, 500 characters of it, with U+FFFD in place of half a surrogate pair. Without a text there
    is only our own sentence.
    """
    assert f"The endpoint refused the request (400){quoted}" == str(map_error(400, {}, body("x", text)))


@every_row(
    "unreadable",
    [
        *(b"", b"[]", b"null", b"3", b'""', b"\xff", b"{", b"[" * 50_000, b'{"error": null}', b'{"error": []}'),
        *(b"<html><body>Bad Gateway</body></html>", b" \n<!DOCTYPE html>", b'{"error": {"mess', b"---", b'["x"]'),
    ],
    ids=lambda data: str(data)[:30],
)
def test_unreadable_bodies_are_mapped_by_their_status(unreadable: bytes):
    """A body of another shape, a page, or JSON that was cut is mapped by its status."""
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


def test_a_long_request_id_is_cut():
    """A header may be longer than a message of the results queue."""
    assert "a" * 200 == read_request_id({"x-request-id": "a" * 100_000})


@every_row(
    ("status", "message", "charged"),
    [
        (400, "Invalid 'input': maximum input length is 8192 tokens.", True),
        (400, "prompt is too long: 208310 tokens > 200000 maximum", True),
        (400, "This model's maximum context length is 8192 tokens.", True),
        (400, "The temperature is too high.", False),
        (524, "", True),
        (503, "", False),
    ],
)
def test_a_refusal_that_may_be_charged_is_unanswered(status: int, message: str, charged: bool):
    """By the input limit, in the words of several providers, or by a gateway that has waited for the answer."""
    assert charged is map_error(status, {}, body(None, message)).facts.unanswered


def test_the_detail_of_an_error_is_bounded():
    """Whatever an endpoint puts there: verdicts that no filter has are left out, and long names are cut."""
    long = "x" * 100_000
    verdicts = {"hate": {"filtered": True, "severity": "high"}}

    def detail_of(**members: Any) -> dict[str, Any]:
        return map_error(400, {}, json.dumps({"error": {"message": "No.", **members}}).encode()).facts.detail

    assert {"content_filter_result": verdicts} == detail_of(innererror={"content_filter_result": verdicts})
    assert {} == detail_of(innererror={"content_filter_result": {"hate": [[]] * 10_000}})
    passed = {"blocked": False, "source_type": "prompt", "content_filter_results": {"hate": {"filtered": False}}}
    blocked = {"blocked": True, "source_type": "prompt", "content_filter_results": verdicts}
    assert {"content_filter_result": verdicts} == detail_of(content_filters=["odd", passed, blocked])
    assert {} == detail_of(content_filters=[{"blocked": True}])
    assert {"code": 500, "type": 500, "param": 500} == {
        name: len(text) for name, text in detail_of(code=long, type=long, param=long).items()
    }
