"""How the HTTP client is opened: httpx over the guarded session."""

from __future__ import annotations

import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
from httpx_aiohttp import AiohttpTransport

from shared.shares import Shares
from shared.upstream.guarded_session import open_guarded_session


def open_client(lookups: Shares, *, allow_local: bool, allow_private: bool) -> httpx.AsyncClient:
    """Return a client that connects to allowed addresses only, follows no redirect and keeps no cookie."""
    session = open_guarded_session(allow_local=allow_local, allow_private=allow_private, lookups=lookups)
    # The session has its own TLS context. The one that the adapter requires is left empty, which trusts nobody:
    # httpx's default would cost a cold start 20 ms and never be used.
    transport = AiohttpTransport(client=session, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    return httpx.AsyncClient(
        transport=transport,
        headers={"user-agent": "customer-ai-jobs"},
        # Keeps none: a cookie of one customer's call would go out with the next customer's.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        trust_env=False,
        follow_redirects=False,
    )
