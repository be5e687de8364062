"""
The HTTP client to customers' AI endpoints: one exchange a call, bounded in time and size, every failure mapped.

The only module that sends a key to an endpoint: in the authentication header. One client serves all customers. Its
transport is aiohttp, because httpx's own connection pool walks its whole list of connections at every change
(docs/architecture.md has the figures). It does not retry; `jobs.context` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import aiohttp
import httpx

from shared.errors import ConnectionInvalid, ProviderUnavailable, UpstreamFacts, UpstreamTimeout
from shared.secret import Secret, redact
from shared.shares import Reservation, Shares
from shared.upstream.egress_policy import check_public
from shared.upstream.error_mapping import map_error, read_request_id
from shared.upstream.guarded_session import MAX_CONNECTIONS, MAX_LOOKUPS, observe_sending
from shared.upstream.http_client import make_request, open_transport, parse_url
from shared.upstream.messages import (
    LARGE_BYTES,
    Access,
    ApiKey,
    DeliveryReceipt,
    EntraAccess,
    Response,
    TokenSource,
    UpstreamRequest,
)
from shared.upstream.response_body import MAX_LARGE_BYTES, read_body
from shared.upstream.server_wait import read_retry_after

if TYPE_CHECKING:
    from shared.upstream.side_process import SideProcess

_CREDENTIAL_HEADERS = {"api-key", "authorization"}
"""Set only here: a request's own, in whatever case, are not sent."""


class UpstreamClient:
    """The only way out to customers' endpoints. Make it within the running loop, and `close` it at the end."""

    def __init__(self, tokens: TokenSource, *, allow_local: bool = False, allow_private: bool = False) -> None:
        self._lookups = Shares(MAX_LOOKUPS)
        self._transport = open_transport(self._lookups, allow_local=allow_local, allow_private=allow_private)
        self._tokens = tokens
        self._allow_local = allow_local
        self._allow_private = allow_private
        self._public: httpx.AsyncBaseTransport | None = None
        self._sockets = Shares(MAX_CONNECTIONS)
        self._memory = Shares(MAX_LARGE_BYTES)

    @cached_property
    def side_process(self) -> SideProcess:
        """Does what takes long with a large body."""
        from shared.upstream.side_process import SideProcess  # noqa: PLC0415  # most workers never need it

        return SideProcess()

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.aclose()
        if self._public is not None:
            await self._public.aclose()

    async def send(self, request: UpstreamRequest, access: Access, *, customer: str, timeout_s: float) -> Response:
        """
        Send `request` once, with the credential of `access`, and return the 2xx response.

        If the customer has its share of the worker's sockets, it waits for one of them.

        Raises UpstreamError; ConnectionInvalid if the address is not one that may be called.
        """
        host = ""
        try:
            host = _without_key(parse_url(request.url).host, access)
            with _mapped_errors(host, customer, timeout_s):
                async with asyncio.timeout(timeout_s):
                    secret, header = await self._credential(access)
                    status, headers, body, memory = await self._exchange(
                        self._transport, request, header, host, customer, timeout_s
                    )
        except httpx.InvalidURL as exc:
            raise ConnectionInvalid("The URL that follows from the connection's `endpoint` is not valid.") from exc
        except ConnectionInvalid as exc:
            raise ConnectionInvalid(_without_key(str(exc), access)) from None
        headers = {name: redact(text, secret) for name, text in headers.items()}
        is_short = len(body) < LARGE_BYTES  # some gateways quote what they were sent
        body = redact(body, secret) if is_short else await self.side_process.redact(body, secret, customer)
        if not httpx.codes.is_success(status):
            raise map_error(status, headers, body)
        return Response(status, headers, body, read_request_id(headers), memory)

    async def fetch(self, url: str, *, customer: str, timeout_s: float) -> Response:
        """
        Get what is at an address that a provider's response names, such as an image's, without any credential.

        The address must be a public host over https (or http on loopback if that is allowed); redirects are not
        followed. Every failure is ProviderUnavailable or UpstreamTimeout: what another host answers says nothing
        about the customer's key or account.
        """
        try:
            check_public(url, allow_local=self._allow_local)
            host = httpx.URL(url).host
            with _mapped_errors(host, customer, timeout_s):
                async with asyncio.timeout(timeout_s):
                    status, headers, body, memory = await self._exchange(
                        self._strict(), UpstreamRequest("GET", url), None, host, customer, timeout_s
                    )
        except (ConnectionInvalid, httpx.InvalidURL) as exc:
            raise ProviderUnavailable("The endpoint's response names an address that is not allowed.") from exc
        if not httpx.codes.is_success(status):
            facts = map_error(status, headers, body).facts
            raise ProviderUnavailable(f"{host} did not return the file ({status}).", facts)
        return Response(status, headers, body, read_request_id(headers), memory)

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, customer: str, timeout_s: float, member: str
    ) -> DeliveryReceipt:
        """
        Post `body` once, without a credential, to an address that a customer has named, such as a job's `callback`.

        The address must be public as for `fetch`, even if customers' endpoints may be private, since no list says
        which. Only the status and the wait are read. Raises ConnectionInvalid, which names `member`, if the address is
        not allowed, UpstreamTimeout, ProviderUnavailable.
        """
        host = check_public(url, allow_local=self._allow_local, member=member)
        try:
            with _mapped_errors(host, customer, timeout_s):
                async with asyncio.timeout(timeout_s):
                    request = make_request("POST", url, headers, timeout_s, content=body)
                    await self._sockets.wait(customer)
                    try:
                        response = await self._strict().handle_async_request(request)
                        await response.aclose()
                    finally:
                        self._sockets.give_back(customer)
        except (ConnectionInvalid, httpx.InvalidURL):
            # The session's own message is about a connection's `endpoint`.
            raise ConnectionInvalid(f"The `{member}` names an address that is not allowed.") from None
        return DeliveryReceipt(response.status_code, read_retry_after(response.headers))

    async def exchange(self, request: UpstreamRequest, key: Secret | None, *, name: str, timeout_s: float) -> Response:
        """
        Send `request` once to a system of the operator's own, with `key` as a bearer token; return its response.

        That may be any, and has no key in it. `name` has its own share of the sockets. Raises as `post`.
        """
        host = check_public(request.url, allow_local=self._allow_local, member="url")
        header = None if key is None else ("authorization", f"Bearer {key.reveal()}")
        try:
            with _mapped_errors(host, name, timeout_s):
                async with asyncio.timeout(timeout_s):
                    received = await self._exchange(self._transport, request, header, host, name, timeout_s)
        except (ConnectionInvalid, httpx.InvalidURL):
            raise ConnectionInvalid("The `url` names an address that is not allowed.") from None
        status, headers, body, memory = received
        if key is not None:
            headers, body = {each: redact(text, key) for each, text in headers.items()}, redact(body, key)
        return Response(status, headers, body, read_request_id(headers), memory)

    def _strict(self) -> httpx.AsyncBaseTransport:
        """The transport to public addresses only."""
        if not self._allow_private:
            return self._transport
        if self._public is None:
            self._public = open_transport(self._lookups, allow_local=self._allow_local, allow_private=False)
        return self._public

    async def _exchange(
        self,
        transport: httpx.AsyncBaseTransport,
        request: UpstreamRequest,
        credential: tuple[str, str] | None,
        host: str,
        customer: str,
        timeout_s: float,
    ) -> tuple[int, dict[str, str], bytes, Reservation | None]:
        files = [(name, part) for name, parts in request.files.items() for part in parts]
        headers = {name: text for name, text in request.headers.items() if name.lower() not in _CREDENTIAL_HEADERS}
        outgoing = make_request(
            request.method,
            request.url,
            headers if credential is None else {**headers, credential[0]: credential[1]},
            timeout_s,
            content=request.content or None,
            data=request.form or None,
            files=files or None,
        )
        await self._sockets.wait(customer)
        try:
            response = await transport.handle_async_request(outgoing)
            try:
                body, memory = await read_body(host, response, self._memory, customer)
            finally:
                await response.aclose()
        finally:
            self._sockets.give_back(customer)
        return response.status_code, dict(response.headers), body, memory

    async def _credential(self, access: Access) -> tuple[Secret, tuple[str, str]]:
        if isinstance(access, EntraAccess):
            token = await self._tokens.token(access.scope, access.tenant_id)
            return token, ("authorization", f"Bearer {token.reveal()}")
        if access.header == "authorization":
            return access.key, ("authorization", f"Bearer {access.key.reveal()}")
        return access.key, (access.header, access.key.reveal())


def _without_key(text: str, access: Access) -> str:
    # The key may have been pasted into the host name.
    return redact(text, access.key) if isinstance(access, ApiKey) else text


@contextmanager
def _mapped_errors(host: str, customer: str, timeout_s: float) -> Iterator[None]:
    """Raise whatever prevents a response as one of our errors."""
    with observe_sending(customer) as sending:
        try:
            yield
        except (TimeoutError, httpx.ReadTimeout, httpx.WriteTimeout) as exc:
            if not sending.begun:
                message = f"The request to {host} could not be sent within {timeout_s:.3g} s."
                raise UpstreamTimeout(message, UpstreamFacts(transient=True, unsent=True)) from exc
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
