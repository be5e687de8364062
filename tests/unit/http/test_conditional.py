"""Conditional requests: which tags match, and what follows for reading and for writing."""

from __future__ import annotations

import pytest

from shared.http.conditional import has_precondition, meets_preconditions, with_etag
from shared.http.messages import Request, Response

BODY = Response(200, b'{"a": 1}', headers={"Retry-After": "2"})
TAG = with_etag(Request("GET", "x"), BODY).headers["ETag"]
VALUE = TAG.strip('"')


def request(**headers: str) -> Request:
    """A request with these headers, whose names have underscores."""
    return Request("GET", "x", headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_a_response_has_a_tag_of_its_body():
    """The same body has the same tag, another body another one; other headers stay."""
    again, other = with_etag(request(), Response(200, BODY.body)), with_etag(request(), Response(200, b"[]"))

    assert TAG == again.headers["ETag"] != other.headers["ETag"]
    assert {"ETag", "Cache-Control", "Retry-After"} == set(with_etag(request(), BODY).headers)
    assert TAG.startswith('"')
    assert TAG.endswith('"')


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        (TAG, True),
        (f"W/{TAG}", True),
        (f'"other", {TAG}', True),
        (f'W/"other" ,{TAG} ', True),
        ("*", True),
        (" * ", True),
        (VALUE, True),
        ('"other"', False),
        ("", False),
        (",", False),
        ('"*"', False),
        (f'"{VALUE}x"', False),
        (f'"{VALUE[:-1]}"', False),
    ],
)
def test_if_none_match_is_compared_weakly(header: str, matches: bool):
    """A tag that matches makes 304 of a read, without a body and with the tag, and forbids a write."""
    conditional = request(if_none_match=header)
    response = with_etag(conditional, BODY)

    assert (b"" if matches else BODY.body) == response.body
    assert (304 if matches else 200) == response.status
    assert TAG == response.headers["ETag"]
    assert (not matches) == meets_preconditions(conditional, BODY)


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        (TAG, True),
        (f'"other", {TAG}', True),
        ("*", True),
        (VALUE, True),
        (f"W/{TAG}", False),
        ('"other"', False),
        ("", False),
        ('"*"', False),
    ],
)
def test_if_match_is_compared_strongly(header: str, matches: bool):
    """A write needs a tag that matches, and is not weak; a read does not look at the header."""
    conditional = request(if_match=header)

    assert matches == meets_preconditions(conditional, BODY)
    assert 200 == with_etag(conditional, BODY).status


def test_both_preconditions_have_to_hold():
    """One that holds does not make up for one that doesn't."""
    assert meets_preconditions(request(if_match=TAG, if_none_match='"other"'), BODY)
    assert not meets_preconditions(request(if_match=TAG, if_none_match=TAG), BODY)
    assert not meets_preconditions(request(if_match='"other"', if_none_match='"other"'), BODY)


def test_what_does_not_exist_has_no_tag():
    """`If-None-Match` holds, so that something can be created; `If-Match` does not, not even with `*`."""
    assert meets_preconditions(request(), None)
    assert meets_preconditions(request(if_none_match="*"), None)
    assert not meets_preconditions(request(if_match="*"), None)
    assert not meets_preconditions(request(if_match=TAG), None)


def test_a_request_without_the_headers_has_no_precondition():
    """Either header is one, even if it is empty."""
    assert not has_precondition(request(if_modified_since="x"))
    assert has_precondition(request(if_match=""))
    assert has_precondition(request(if_none_match="*"))
    assert meets_preconditions(request(), BODY)
