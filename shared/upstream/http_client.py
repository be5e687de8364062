"""httpx over the guarded session: how it is opened, and what its errors mean."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from shared.errors import ProviderUnavailable, UpstreamFacts, UpstreamTimeout
from shared.shares import Shares
from shared.upstream.guarded_session import observe_sending, open_guarded_session


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


@contextmanager
def mapped_errors(host: str, customer: str, timeout_s: float) -> Iterator[None]:
    """Raise whatever prevents a response as one of our errors."""
    with observe_sending(customer) as sending:
        try:
            yield
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout) as exc:
            if not sending.begun:
                facts = UpstreamFacts(transient=True, unsent=True)
                raise UpstreamTimeout(
                    f"The request to {host} could not be sent within {timeout_s:.3g} s.", facts
                ) from exc
            facts = UpstreamFacts(transient=True, unanswered=True)
            raise UpstreamTimeout(f"{host} did not answer within {timeout_s:.3g} s.", facts) from exc
        except (httpx.HTTPError, aiohttp.ClientError, OSError) as exc:
            # The adapter passes some of aiohttp's errors through, and reports others as what they are not.
            cause = exc.__cause__ or exc
            if isinstance(cause, aiohttp.http_exceptions.HttpProcessingError):
                # What aiohttp quotes after the colon is the response's.
                reason = cause.message.partition(":")[0].strip() or "it is malformed"
                raise ProviderUnavailable(
                    f"{host} sent a response that is not valid HTTP ({reason}).", UpstreamFacts(unanswered=True)
                ) from exc
            port = getattr(cause, "port", None)  # a connection that could not be made has one
            address = host if port in (None, 80, 443) else f"{host}:{port}"
            reason = f"{address} could not be reached, or closed the connection early ({type(cause).__name__})."
            raise ProviderUnavailable(reason, UpstreamFacts(transient=True, unanswered=sending.begun)) from exc
