"""How requests are made and sent: httpx's, by its adapter to the guarded session."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import httpx
from httpx_aiohttp import AiohttpTransport

from shared.shares import Shares
from shared.upstream.guarded_session import open_guarded_session

CONNECT_S = 10.0
MAX_PARSED_URLS = 128
"""More than a worker calls at a time. A raw job's may be 64 KiB long, so that a thousand would fill the memory."""
_HEADERS = {
    "accept": "*/*",
    "accept-encoding": "gzip, deflate",
    "connection": "keep-alive",
    "user-agent": "customer-ai-jobs",
}


def open_transport(lookups: Shares, *, allow_local: bool, allow_private: bool) -> httpx.AsyncBaseTransport:
    """
    Return a transport that connects to allowed addresses only.

    Requests are given to it as they are: what `httpx.AsyncClient` would do between (redirects, cookies, authentication
    by challenge, a client's own headers) must not happen here, and takes a third of a call's CPU time.
    """
    session = open_guarded_session(allow_local=allow_local, allow_private=allow_private, lookups=lookups)
    # The session has its own TLS context. The one that the adapter requires is left empty, which trusts nobody:
    # httpx's default would cost a cold start 20 ms and never be used.
    return AiohttpTransport(client=session, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


@lru_cache(maxsize=MAX_PARSED_URLS)
def parse_url(url: str) -> httpx.URL:
    """Return a URL, which calls with the same connection and model share. Raises httpx.InvalidURL."""
    return httpx.URL(url)


def make_request(
    method: str, url: str, headers: Mapping[str, str], timeout_s: float, *, content: bytes | None, **body: Any
) -> httpx.Request:
    """Return a request with a time limit. `body` is `data` and `files`, as httpx has them. Raises httpx.InvalidURL."""
    timeout = {"connect": min(CONNECT_S, timeout_s), "read": timeout_s, "write": timeout_s, "pool": timeout_s}
    request = httpx.Request(
        method,
        parse_url(url),
        headers={**_HEADERS, **headers},
        content=content,
        extensions={"timeout": timeout},
        **body,
    )
    request.read()  # otherwise a form is encoded piece by piece, and sent in as many writes
    return request
