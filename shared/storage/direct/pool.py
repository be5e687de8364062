"""Connections to Storage's hosts, kept open between requests."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import cached_property

from shared.storage.direct.connection import Connection, ExchangeFailed, Response
from shared.storage.direct.endpoint import Host

MAX_CONNECTIONS = 100
"""For each host, as aiohttp has it for the SDKs."""
MAX_IDLE_S = 60.0
CONNECT_S = 10.0
RESPONSE_S = 30.0


class Pool:
    """The connections of a worker, for one event loop."""

    def __init__(self, tls: Callable[[], ssl.SSLContext]) -> None:
        self._make_tls = tls
        self._hosts: dict[Host, _Connections] = {}

    async def exchange(self, host: Host, request: bytes) -> Response:
        """Send a request, once, and return the response. Raises ExchangeFailed."""
        connections = self._hosts.get(host)
        if connections is None:
            connections = self._hosts[host] = _Connections()
        async with connections.places:
            connection = connections.take() or await self._connect(host)
            response = await connection.exchange(request, RESPONSE_S)
            connections.put(connection)
            return response

    def close(self) -> None:
        """Close the connections that are idle."""
        for connections in self._hosts.values():
            connections.close()

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._make_tls()

    async def _connect(self, host: Host) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await loop.create_connection(
                    Connection, host.name, host.port, ssl=self._tls if host.is_secure else None
                )
        except OSError as exc:  # TLS's errors and TimeoutError, too
            raise ExchangeFailed(f"There is no connection ({type(exc).__name__}).") from exc
        return connection


class _Connections:
    """A host's idle connections, and places for all. The one used last is used next, so that the others expire."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(MAX_CONNECTIONS)
        self._idle: list[Connection] = []

    def take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                if asyncio.get_running_loop().time() - connection.idle_since < MAX_IDLE_S:
                    return connection
                connection.close()
        return None

    def put(self, connection: Connection) -> None:
        if connection.is_open:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
