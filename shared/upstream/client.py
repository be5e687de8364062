"""
The HTTP client to customers' AI endpoints: one exchange a call, bounded in time and size, every failure mapped.

The only module that sends a key to an endpoint: in the authentication header. One client serves all customers. It sends
over connections of its own (`network.connection`), because httpx's pool walks its whole list of connections at every
change, and costs several times as much (docs/performance.md has the figures). It does not retry; `jobs.context` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING

from shared.errors import ConnectionInvalid, ProviderUnavailable
from shared.network.connection import Connection
from shared.network.response import Head
from shared.secret import Secret, redact
from shared.shares import Reservation, Shares
from shared.upstream.egress_policy import check_public
from shared.upstream.error_mapping import map_error, read_request_id
from shared.upstream.guarded_addresses import MAX_LOOKUPS
from shared.upstream.guarded_connections import MAX_CONNECTIONS, GuardedConnections
from shared.upstream.messages import (
    LARGE_BYTES,
    Access,
    Body,
    DeliveryReceipt,
    EntraAccess,
    Response,
    TokenSource,
    UpstreamRequest,
)
from shared.upstream.outgoing import Target, read_target, write_call, write_request
from shared.upstream.response_body import MAX_LARGE_BYTES, read_body
from shared.upstream.sending import Begin, Sending, do_nothing, mapped_errors, redact_headers, without_key
from shared.upstream.server_wait import read_retry_after

if TYPE_CHECKING:
    from shared.upstream.side_process import SideProcess
    from shared.upstream.transfers import Transfers


class UpstreamClient:
    """The only way out to customers' endpoints. Make it within the running loop, and `close` it at the end."""

    def __init__(self, tokens: TokenSource, *, allow_local: bool = False, allow_private: bool = False) -> None:
        self._lookups = Shares(MAX_LOOKUPS)
        self._connections = GuardedConnections(
            allow_local=allow_local, allow_private=allow_private, lookups=self._lookups
        )
        self._tokens = tokens
        self._allow_local = allow_local
        self._allow_private = allow_private
        self._public: GuardedConnections | None = None
        self._sockets = Shares(MAX_CONNECTIONS)
        self._memory = Shares(MAX_LARGE_BYTES)

    @cached_property
    def side_process(self) -> SideProcess:
        """Does what takes long with a large body."""
        from shared.upstream.side_process import SideProcess  # noqa: PLC0415  # most workers never need it

        return SideProcess()

    @cached_property
    def transfers(self) -> Transfers:
        """Sends and receives what is too large to be whole in memory."""
        from shared.upstream.transfers import Transfers  # noqa: PLC0415  # most workers never need it

        return Transfers(partial(self._connection, self._connections), self._credential, self._memory)

    async def close(self) -> None:
        """Close every connection."""
        self._connections.close()
        if self._public is not None:
            self._public.close()

    async def send(
        self,
        request: UpstreamRequest,
        access: Access,
        *,
        customer: str,
        timeout_s: float,
        begin: Begin = do_nothing,
    ) -> Response:
        """
        Send `request` once, with the credential of `access`, and return the 2xx response.

        If the customer has its share of the worker's sockets, it waits for one of them. `begin` is called right before
        the first byte is sent; if it raises, none is.

        Raises UpstreamError; ConnectionInvalid if the address is not one that may be called; what its `body` raises.
        """
        if request.body is not None:
            return await self._send_body(request, request.body, access, customer, timeout_s, begin)
        try:
            target = read_target(request.url)
            host = without_key(target.name, access)
            with mapped_errors(host, target, timeout_s, begin) as sending:
                async with asyncio.timeout(timeout_s):
                    secret, header = await self._credential(access)
                    head, body, memory = await self._exchange(
                        self._connections, request, target, header, customer, sending
                    )
        except ConnectionInvalid as exc:
            raise ConnectionInvalid(without_key(str(exc), access)) from None
        redact_headers(head, secret)
        is_short = len(body) < LARGE_BYTES  # some gateways quote what they were sent
        body = redact(body, secret) if is_short else await self.side_process.redact(body, secret, customer)
        if not head.is_success:
            raise map_error(head.status, head.headers, body)
        return Response(head.status, head.headers, body, read_request_id(head.headers), memory)

    async def _send_body(
        self, request: UpstreamRequest, body: Body, access: Access, customer: str, timeout_s: float, begin: Begin
    ) -> Response:
        times = {"stall_s": timeout_s, "total_s": timeout_s}
        return await self.transfers.upload(
            request, body.chunks(), body.size, access, customer=customer, begin=begin, **times
        )

    async def fetch(self, url: str, *, customer: str, timeout_s: float) -> Response:
        """
        Get what is at an address that a provider's response names, such as an image's, without any credential.

        The address must be a public host over https (or http on loopback if that is allowed); redirects are not
        followed. Every failure is ProviderUnavailable or UpstreamTimeout: what another host answers says nothing
        about the customer's key or account.
        """
        try:
            check_public(url, allow_local=self._allow_local)
            target = read_target(url)
            host = target.name
            with mapped_errors(host, target, timeout_s) as sending:
                async with asyncio.timeout(timeout_s):
                    head, body, memory = await self._exchange(
                        self._strict(), UpstreamRequest("GET", url), target, None, customer, sending
                    )
        except ConnectionInvalid as exc:
            raise ProviderUnavailable("The endpoint's response names an address that is not allowed.") from exc
        if not head.is_success:
            facts = map_error(head.status, head.headers, body).facts
            raise ProviderUnavailable(f"{host} did not return the file ({head.status}).", facts)
        return Response(head.status, head.headers, body, read_request_id(head.headers), memory)

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
            target = read_target(url)
            request = write_request("POST", target, headers, body)
            with mapped_errors(host, target, timeout_s) as sending:
                async with asyncio.timeout(timeout_s):
                    async with self._connection(self._strict(), target, customer) as connection:
                        sending.start()
                        head = await connection.send(request)
        except ConnectionInvalid:
            # The connections' own message is about an `endpoint`.
            raise ConnectionInvalid(f"The `{member}` names an address that is not allowed.") from None
        return DeliveryReceipt(head.status, read_retry_after(head.headers))

    async def exchange(self, request: UpstreamRequest, key: Secret | None, *, name: str, timeout_s: float) -> Response:
        """
        Send `request` once to a system of the operator's own, with `key` as a bearer token; return its response.

        That may be any, and has no key in it. `name` has its own share of the sockets. Raises as `post`.
        """
        host = check_public(request.url, allow_local=self._allow_local, member="url")
        header = None if key is None else ("authorization", f"Bearer {key.reveal()}")
        try:
            target = read_target(request.url)
            with mapped_errors(host, target, timeout_s) as sending:
                async with asyncio.timeout(timeout_s):
                    head, body, memory = await self._exchange(self._connections, request, target, header, name, sending)
        except ConnectionInvalid:
            raise ConnectionInvalid("The `url` names an address that is not allowed.") from None
        if key is not None:
            redact_headers(head, key)
            body = redact(body, key)
        return Response(head.status, head.headers, body, read_request_id(head.headers), memory)

    def _strict(self) -> GuardedConnections:
        if not self._allow_private:
            return self._connections
        if self._public is None:
            self._public = GuardedConnections(allow_local=self._allow_local, allow_private=False, lookups=self._lookups)
        return self._public

    async def _exchange(
        self,
        connections: GuardedConnections,
        request: UpstreamRequest,
        target: Target,
        credential: tuple[str, str] | None,
        customer: str,
        sending: Sending,
    ) -> tuple[Head, bytes, Reservation | None]:
        outgoing = write_call(request, target, credential)
        async with self._connection(connections, target, customer) as connection:
            sending.start()
            head = await connection.send(outgoing)
            body, memory = await read_body(sending.host, head, connection, self._memory, customer)
        return head, body, memory

    @asynccontextmanager
    async def _connection(
        self, connections: GuardedConnections, target: Target, customer: str
    ) -> AsyncIterator[Connection]:
        await self._sockets.wait(customer)
        try:
            connection = await connections.open(target.host, customer)
            try:
                yield connection
            finally:
                connections.put(target.host, connection)
        finally:
            self._sockets.give_back(customer)

    async def _credential(self, access: Access) -> tuple[Secret, tuple[str, str]]:
        if isinstance(access, EntraAccess):
            token = await self._tokens.token(access.scope, access.tenant_id)
            return token, ("authorization", f"Bearer {token.reveal()}")
        if access.header == "authorization":
            return access.key, ("authorization", f"Bearer {access.key.reveal()}")
        return access.key, (access.header, access.key.reveal())
