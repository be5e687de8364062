"""Requests are those that httpx's own client makes, and few URLs are kept parsed."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from shared.upstream.http_client import make_request, parse_url

FILES = [("file", ("a.txt", b"text", "text/plain"))]
BOUNDARY = {"content-type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(
    ("method", "headers", "body"),
    [
        ("GET", {}, {"content": None}),
        ("POST", {}, {"content": None}),
        ("POST", {"content-type": "application/json", "api-key": "k"}, {"content": b"{}"}),
        ("POST", {"accept": "text/event-stream", "user-agent": "other"}, {"content": b"{}"}),
        ("POST", {}, {"content": None, "data": {"a": ["1", "2"], "b": ["ü"]}}),
        ("POST", BOUNDARY, {"content": None, "data": {"a": ["1"]}, "files": FILES}),
    ],
)
@pytest.mark.parametrize("timeout_s", [3.0, 30.0])
async def test_a_request_is_that_of_httpx_s_client(
    method: str, headers: dict[str, str], body: dict[str, Any], timeout_s: float
):
    """Line, headers, body and time limits: no header is lost or added without the client."""
    url = "https://acme.contoso.com/openai/v1/x?api-version=1&q=%20a"
    request = make_request(method, url, headers, timeout_s, **body)

    async with httpx.AsyncClient(
        headers={"user-agent": "customer-ai-jobs", "accept-encoding": "gzip, deflate"}, trust_env=False
    ) as client:
        timeout = httpx.Timeout(timeout_s, connect=min(10.0, timeout_s))
        expected = client.build_request(method, url, headers=headers, timeout=timeout, **body)
        expected.read()
    assert sorted(expected.headers.multi_items()) == sorted(request.headers.multi_items())
    assert (expected.method, expected.url, expected.content) == (request.method, request.url, request.content)
    assert expected.extensions == request.extensions


def test_few_urls_are_kept_parsed():
    """A raw job's URL may have a query of its own, of any length; they must not fill the memory."""
    parse_url.cache_clear()

    assert parse_url("https://acme.contoso.com/x") is parse_url("https://acme.contoso.com/x")
    for number in range(1000):
        assert f"{number}" == parse_url(f"https://acme.contoso.com/x?q={number}").params["q"]
    assert parse_url.cache_info().currsize <= 128
