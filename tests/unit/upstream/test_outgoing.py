"""Requests are those that httpx's own client sends, and few URLs are kept parsed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConnectionInvalid
from shared.network.hosts import host_header
from shared.secret import Secret
from shared.upstream.messages import ApiKey, FilePart, UpstreamRequest
from shared.upstream.outgoing import _plain, _read_by_httpx, read_target, write_request
from tests.support.clients import open_client
from tests.support.rows import every_row

FILES = {"file": [FilePart("a.txt", b"text", "text/plain"), FilePart("b.png", b"\x89PNG")]}
BOUNDARY = {"content-type": "multipart/form-data; boundary=b"}
JSON = {"content-type": "application/json"}
REQUESTS = [
    UpstreamRequest("GET", "/x"),
    UpstreamRequest("GET", "/x", headers={"accept": "text/event-stream", "User-Agent": "other"}),
    UpstreamRequest("DELETE", "/gpt%204o/ü?api-version=1&q=%20a#part"),
    UpstreamRequest("POST", "/x"),
    UpstreamRequest("PUT", "", b"{}", {"Content-Type": "application/json", "x-a": "1"}),
    UpstreamRequest("PATCH", "/x?", b"\xff\r\n", JSON),
    UpstreamRequest("POST", "/x", form={"a": ["1", "2"], "b": ["ü"]}),
    UpstreamRequest("POST", "/x", headers=BOUNDARY, form={"a": ["1", "2"]}, files=FILES),
]


@asynccontextmanager
async def recording() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server's URL, and the requests that it has received, as they came."""
    received: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")), 0)
        received.append(head + await reader.readexactly(length))
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", received


def parts(request: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    """A request's line, its headers, sorted, and its body."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *headers = head.split(b"\r\n")
    split = [header.partition(b":") for header in headers]
    return line, sorted((name.lower(), text.strip()) for name, _, text in split), body


@every_row("request_", REQUESTS, ids=lambda request: f"{request.method} {request.url}")
async def test_a_request_is_that_of_httpx_s_client(request_: UpstreamRequest):
    """Line, headers and body as they arrive: no header is lost, added or written otherwise."""
    async with recording() as (url, received):
        async with open_client() as client:
            own = UpstreamRequest(
                request_.method, url + request_.url, request_.content, request_.headers, request_.form, request_.files
            )
            await client.send(own, ApiKey("api-key", Secret("k")), customer="acme", timeout_s=5)
        defaults = {"user-agent": "customer-ai-jobs", "accept-encoding": "gzip, deflate"}
        files = [(name, part) for name, parts in request_.files.items() for part in parts]
        async with httpx.AsyncClient(headers=defaults, trust_env=False) as peer:
            await peer.request(
                request_.method,
                url + request_.url,
                headers={**request_.headers, "api-key": "k"},
                content=request_.content or None,
                data=request_.form or None,
                files=files or None,
            )

    ours, expected = received
    assert parts(expected) == parts(ours)


@every_row(
    ("url", "name", "address", "header"),
    [
        ("https://Acme.contoso.com", "acme.contoso.com", ("acme.contoso.com", 443, True), "acme.contoso.com"),
        ("http://acme.contoso.com:443/", "acme.contoso.com", ("acme.contoso.com", 443, False), "acme.contoso.com:443"),
        ("https://[::1]:8443/x", "::1", ("::1", 8443, True), "[::1]:8443"),
        ("https://bücher.example/x", "bücher.example", ("xn--bcher-kva.example", 443, True), "xn--bcher-kva.example"),
        ("https://user:word@a.example/x", "a.example", ("a.example", 443, True), "a.example"),
    ],
)
def test_a_url_leads_to_a_host(url: str, name: str, address: tuple[str, int, bool], header: str):
    """Names are looked up and sent in ASCII, and people read them as they write them."""
    target = read_target(url)

    assert (name, address, header) == (target.name, target.host, host_header(target.host))


@given(st.from_regex(_plain.__self__, fullmatch=True))
def test_a_usual_url_is_what_httpx_makes_of_it(url: str):
    """Such a URL is not given to httpx, so that a worker need not import it."""
    assert _read_by_httpx(url) == read_target.__wrapped__(url)


@every_row(
    ("url", "is_plain"),
    [
        ("https://acme.openai.azure.com/openai/v1/chat/completions", True),
        ("https://acme-2.openai.azure.com/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", True),
        ("http://127.0.0.1:8080/openai/v1", True),
        *((f"https://{host}/x", False) for host in ("Acme.example", "1.2.3.400", "1a2a3a4", "xn--a", "a_b", "a@b", "")),
        *(
            (f"https://a.example{tail}", False)
            for tail in ("/a/../b", "/.", "/%2e", "/ü", ":0/", ":65536/", "/a?", "/#b")
        ),
    ],
)
def test_most_urls_are_usual_ones(url: str, is_plain: bool):
    """All that httpx may change are left to it."""
    assert is_plain == (_plain(url) is not None)


@every_row(
    "url",
    ["ftp://acme.contoso.com/", "acme.contoso.com", "https:///x", "http://[::1/", "", "https://xn--zzzzzzzzz99.com/"],
)
def test_a_url_without_a_host_is_invalid(url: str):
    """Only http and https lead anywhere, and only to a name that can be read."""
    with pytest.raises(ConnectionInvalid):
        read_target(url)


@every_row("text", ["a\r\nx-b: 1", "a\n", "a\r", "ä", "\ud800"])
@every_row("is_name", [False, True])
def test_a_header_is_one_line(text: str, is_name: bool):
    """What follows a line break would be a header of its own, or another request. Others have no one encoding."""
    target = read_target("https://acme.contoso.com/x")

    with pytest.raises(ConnectionInvalid, match="one line of ASCII"):
        write_request("POST", target, {text: "a"} if is_name else {"x-a": text}, b"")


def test_few_urls_are_kept_parsed():
    """A raw job's URL may have a query of its own, of any length; they must not fill the memory."""
    read_target.cache_clear()

    assert read_target("https://acme.contoso.com/x") is read_target("https://acme.contoso.com/x")
    for number in range(1000):
        assert read_target(f"https://acme.contoso.com/x?q={number}").path.endswith(f"={number}")
    assert read_target.cache_info().currsize <= 128
