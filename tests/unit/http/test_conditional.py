"""Conditional requests: which tags match, and what follows for reading and for writing."""

from __future__ import annotations

from shared.http.conditional import meets_preconditions, with_etag
from shared.http.messages import Request, Response
from tests.support.rows import every_row

BODY = Response(200, b'{"a": 1}', headers={"Retry-After": "2"})
TAG = with_etag(Request("GET", "x"), BODY).headers["ETag"]
VALUE = TAG.strip('"')
OTHERS = ('"other"', "", '"*"')
"""What neither header matches."""


def request(if_match: str | None = None, if_none_match: str | None = None) -> Request:
    """A request with these headers."""
    headers = {"if-match": if_match, "if-none-match": if_none_match}
    return Request("GET", "x", headers={name: text for name, text in headers.items() if text is not None})


def test_a_response_has_a_tag_of_its_body():
    """The same body has the same tag, another body another one; other headers stay."""
    again, other = with_etag(request(), Response(200, BODY.body)), with_etag(request(), Response(200, b"[]"))

    assert TAG == again.headers["ETag"] != other.headers["ETag"]
    assert {"ETag", "Retry-After"} == set(with_etag(request(), BODY).headers)
    assert (TAG[0], TAG[-1]) == ('"', '"')


@every_row(
    ("conditional", "status", "writes"),
    [
        (request(), 200, True),
        *((request(None, text), 304, False) for text in (TAG, f"W/{TAG}", VALUE, "*", " * ")),
        *((request(None, text), 304, False) for text in (f'"other", {TAG}', f'W/"other" ,{TAG} ')),
        *((request(None, text), 200, True) for text in (*OTHERS, ",", f'"{VALUE}x"', f'"{VALUE[:-1]}"')),
        *((request(text), 200, True) for text in (TAG, f'"other", {TAG}', "*", VALUE)),
        *((request(text), 200, False) for text in (*OTHERS, f"W/{TAG}")),
        (request(TAG, '"other"'), 200, True),
        (request(TAG, TAG), 304, False),
        (request('"other"', '"other"'), 200, False),
    ],
    ids=lambda value: str(value.headers) if isinstance(value, Request) else None,
)
def test_preconditions(conditional: Request, status: int, writes: bool):
    """
    `If-None-Match` is compared weakly: a tag that matches makes 304 of a read, without a body and with the tag, and
    forbids a write. `If-Match` is compared strongly, for a write alone. Both have to hold.
    """
    response = with_etag(conditional, BODY)

    assert (status, TAG) == (response.status, response.headers["ETag"])
    assert (BODY.body if status == 200 else b"") == response.body
    assert writes == meets_preconditions(conditional, BODY)


@every_row("method", ["PUT", "POST", "DELETE"])
@every_row("tag", [TAG, f"W/{TAG}", "*"])
def test_what_has_changed_something_is_never_304(method: str, tag: str):
    """`If-None-Match` was about what was there before; HEAD is as GET."""
    changed, head = (with_etag(Request(name, "x", headers={"if-none-match": tag}), BODY) for name in (method, "HEAD"))

    assert (200, BODY.body, TAG) == (changed.status, changed.body, changed.headers["ETag"])
    assert 304 == head.status


def test_what_does_not_exist_has_no_tag():
    """`If-None-Match` holds, so that something can be created; `If-Match` does not, not even with `*`."""
    conditionals = [request(), request(None, "*"), request("*"), request(TAG)]

    assert [True, True, False, False] == [meets_preconditions(each, None) for each in conditionals]
