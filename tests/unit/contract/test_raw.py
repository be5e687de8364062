"""The input of `raw`: paths, bodies, queries and headers that are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.contract.raw import RawFile, decode_raw
from shared.errors import InvalidJob
from tests.support.rows import every_row
from tests.support.work import peak_bytes

PATHS = [
    *("https://evil.example/x", "HTTPS:x", "//evil.example/x", "@evil.example/x", "\\\\evil.example", "", "/"),
    *("a//b", "a/", "a\\b", "a/../b", "../x", "./x", "a b", "é", "a#b", "a\r\nHost: evil", "a%2", "a/..;x=1/b"),
    *("a/%2e%2E/b", "a/.%2e", "a/%252e%252e/b", "a%2f..%2fb", "a%5cb", "a%0d%0ab", "a%00"),
]
REFUSED = {
    **{f"path {path}": ({"path": path}, "`input.path`") for path in PATHS},
    "query": ({"path": "a?b=c"}, "`query`"),
    "method": ({"method": "get"}, "`input.method` must be one of GET, POST, PUT, PATCH, DELETE."),
    "unknown method": ({"method": "TRACE"}, "`input.method`"),
    "response type": ({"response_type": "xml"}, "`input.response_type` must be one of json, text, binary."),
    "two bodies": ({"json": None, "data": "x"}, "`input.data` can't be combined with `input.json`"),
    "a body and a form": ({"data": "x", "files": {}}, "`input.files` can't be combined with `input.data`"),
    "three bodies": ({"data": "x", "form": {}, "files": {}}, "`input.form`"),
    "a body for a GET": ({"json": {}, "method": "GET"}, "`input.json`"),
    "empty form": ({"form": {}}, "`input.form` is empty"),
    "form value": ({"form": {"n": 1}}, "`input.form.n` must be a string"),
    "not base64": ({"files": {"f": "a b c"}}, "`input.files.f` must be base64"),
    "not base64 in an object": ({"files": {"f": {"content": "é"}}}, "`input.files.f.content` must be base64"),
    "file without content": ({"files": {"f": {"filename": "a"}}}, "`input.files.f.content` is missing"),
    "file that is a number": ({"files": {"f": 3}}, "`input.files.f`"),
    "unknown member of a file": ({"files": {"f": {"content": "", "name": "a"}}}, "`input.files.f.name`"),
    "header in a file's type": (
        {"files": {"f": {"content": "", "content_type": "a/b\r\nx: y"}}},
        "`input.files.f.content_type`",
    ),
    "line break in a file's name": ({"files": {"f": {"content": "", "filename": "a\nb"}}}, "`input.files.f.filename`"),
    "second file that is not base64": ({"files": {"f": ["YQ==", "?"]}}, "`input.files.f[1]` must be base64"),
    "second file without content": (
        {"files": {"f[]": ["", {"filename": "a"}]}},
        "`input.files.f[][1].content` is missing",
    ),
    "third file's unknown member": (
        {"files": {"f": ["", "", {"content": "", "name": "a"}]}},
        "`input.files.f[2].name` is not a known member",
    ),
    "line break in a second file's name": (
        {"files": {"f": ["", {"content": "", "filename": "a\nb"}]}},
        "`input.files.f[1].filename` must be a file name",
    ),
    "list in a list of files": ({"files": {"f": [[]]}}, "`input.files.f[0]` must be a string or an object"),
    "no file in a list": ({"files": {"f": []}}, "`input.files.f` must be one value, or a list of at least one"),
    "no value in a list": ({"form": {"n": []}}, "`input.form.n` must be one value, or a list of at least one"),
    "second form value": ({"form": {"n": ["a", 1]}}, "`input.form.n[1]` must be a string"),
    "too many fields": ({"form": {"n": ["a"] * 1000, "m": "b"}}, "`input.form` has more than 1,000 fields and files"),
    "too many files": ({"files": {"f": [""] * 1001}}, "`input.files` has more than 1,000 fields and files"),
    "content type of a form": (
        {"form": {"a": "b"}, "headers": {"Content-Type": "a/b"}},
        "`input.headers.content-type`",
    ),
    "query of objects": ({"query": {"a": {}}}, "`input.query.a`"),
    "query of null": ({"query": {"a": [None]}}, "`input.query.a[0]`"),
    "unknown member": ({"url": "x"}, "`input.url`"),
    "header value": ({"headers": {"x": 1}}, "`input.headers.x`"),
    "header injection": ({"headers": {"x": "a\r\napi-key: b"}}, "`input.headers.x`"),
    "header beyond ASCII": ({"headers": {"x": "é"}}, "`input.headers.x`"),
    "injection by name": ({"headers": {"x: y\r\nz": "a"}}, "is not a valid header name"),
    "header without a name": ({"headers": {"": "a"}}, "is not a valid header name"),
    "the same header twice": ({"headers": {"Accept": "a", "accept": "b"}}, "`input.headers.accept` occurs twice"),
}


@every_row(("members", "words"), REFUSED.values(), ids=map(ascii, REFUSED))
def test_invalid_input_is_refused(members: dict[str, Any], words: str):
    """An error names the member at fault, and doesn't quote a path or the value of a header."""
    with pytest.raises(InvalidJob) as refused:
        decode_raw(json.dumps({"path": "x"} | members).encode())

    assert words in str(refused.value)
    assert "evil" not in str(refused.value)


def test_repeated_names_keep_their_order():
    """A single value is a list of one; the values of a list keep their order, and a form may have 1,000 in all."""
    form = {"b": ["2", "1", "2"], "a": "x"}
    files = {"image[]": ["Yg==", {"content": "YQ==", "filename": "a.png", "content_type": "image/png"}], "mask": "Yw=="}
    largest = {"form": {"n": ["a"] * 999}, "files": {"f": [""]}}

    request = decode_raw(json.dumps({"path": "x", "form": form, "files": files}).encode())
    decoded = decode_raw(json.dumps({"path": "x"} | largest).encode())

    assert [("b", ["2", "1", "2"]), ("a", ["x"])] == list(request.form.items())
    images = [RawFile("image[]", b"b", None), RawFile("a.png", b"a", "image/png")]
    assert [("image[]", images), ("mask", [RawFile("mask", b"c", None)])] == list(request.files.items())
    assert (999, 1) == (len(decoded.form["n"]), len(decoded.files["f"]))


@every_row(
    "name",
    [
        *("Host", "authorization", "AUTHORIZATION", "api-key", "Api-Key", "x-api-key", "Ocp-Apim-Subscription-Key"),
        *("proxy-authorization", "Proxy-Connection", "cookie", "content-length", "transfer-encoding", "connection"),
        *("te", "upgrade", "expect", "x-forwarded-for", "X-Forwarded-Host", "forwarded", "openai-organization"),
        *("OpenAI-Project", "keep-alive", "trailer", "accept-encoding"),
    ],
)
def test_reserved_headers_are_refused(name: str):
    """A job can't set a header that the connection or the HTTP client sets, in any spelling."""
    with pytest.raises(InvalidJob, match=f"`input.headers.{name}` can't be set"):
        decode_raw(json.dumps({"path": "x", "headers": {name: "a"}}).encode())


@every_row(
    ("body", "model"),
    [
        (b'{"model": " m ", "x": 1}', "m"),
        (b'{"model": "a", "model": "m"}', "m"),
        (b'{"x": NaN, "model": "m"}', "m"),
        (b'\xef\xbb\xbf{"model": "m"}', "m"),
        (b'{"model": 7}', ""),
        (b'[{"model": "m"}]', ""),
        (b"model=m", ""),
        (b'{"x": [' + b"[]," * 150_000 + b'1], "model": "m"}', "m"),
    ],
)
def test_the_model_that_a_body_names(body: bytes, model: str):
    """It is read from whatever servers may read as JSON, and a long body is not decoded for it."""
    request = decode_raw(json.dumps({"path": "x", "data": body.decode()}).encode())

    assert model == request.model
    assert peak_bytes(lambda: request.model) < 10_000
