"""Connections to customers' endpoints, only to IP addresses that may be called for a customer."""

from __future__ import annotations

import asyncio
import socket

from aiohappyeyeballs import start_connection

from shared.network.connection import Connection
from shared.network.hosts import Host, IdleConnections
from shared.network.response import NotReached
from shared.network.tls import tls_context
from shared.shares import Shares
from shared.upstream.guarded_addresses import GuardedAddresses

MAX_CONNECTIONS = 1024
"""Sockets that a worker holds open to customers' endpoints at a time, one for each call."""
MAX_IDLE = 256
"""Of connections without a call: one with TLS costs about 0.3 MB."""
CONNECT_S = 10.0
_NEXT_ADDRESS_S = 0.25
"""After which the next address of a name is tried beside the first (RFC 8305)."""


class GuardedConnections(IdleConnections):
    """Those that are idle, and others are opened. Use it on one event loop."""

    def __init__(self, *, allow_local: bool, allow_private: bool, lookups: Shares) -> None:
        super().__init__(MAX_IDLE)
        self._addresses = GuardedAddresses(allow_local=allow_local, allow_private=allow_private, lookups=lookups)

    async def open(self, host: Host, customer: str) -> Connection:
        """
        Return a connection for one exchange; `put` it back.

        Raises ConnectionInvalid if the address must not be called, NotReached.
        """
        return self.take(host) or await self._connect(host, customer)

    async def _connect(self, host: Host, customer: str) -> Connection:
        loop = asyncio.get_running_loop()
        # No certificate has the dot that a full name may end with.
        tls, name = (tls_context(), host.name.removesuffix(".")) if host.is_secure else (None, None)
        try:
            async with asyncio.timeout(CONNECT_S):
                addresses = list(await self._addresses.resolve(host, customer))
                opened = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1)
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                _, connection = await loop.create_connection(Connection, sock=opened, ssl=tls, server_hostname=name)
        except (OSError, UnicodeError) as exc:  # TLS's errors and TimeoutError, too; a label of more than 63 letters
            raise NotReached(type(exc).__name__) from exc
        return connection
