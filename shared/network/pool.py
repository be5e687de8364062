"""Connections to the operator's own services: Storage, the vault, and the endpoint of the app's identity."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import cached_property

from shared.network.connection import Connection
from shared.network.hosts import Host, IdleConnections
from shared.network.response import ExchangeFailed, NotReached, Response

MAX_CONNECTIONS = 100
"""For each host, as aiohttp has it for the SDKs."""
MAX_IDLE = 256
MAX_RESPONSE_BYTES = 8 << 20
"""Far more than any response to these requests: a row is at most 1 MiB, and the responses to writes are short."""
CONNECT_S = 10.0
RESPONSE_S = 30.0


class Pool:
    """The connections of a worker, for one event loop."""

    def __init__(self, tls: Callable[[], ssl.SSLContext]) -> None:
        self._make_tls = tls
        self._places: dict[Host, asyncio.Semaphore] = {}
        self._idle = IdleConnections(MAX_IDLE)
        self._deadlines: dict[Connection, float] = {}
        """When the response on each connection is due; the first is due first."""
        self._watch: asyncio.TimerHandle | None = None

    async def exchange(self, host: Host, request: bytes) -> Response:
        """Send a request, once, and return the response. Raises ExchangeFailed."""
        places = self._places.get(host)
        if places is None:
            places = self._places[host] = asyncio.Semaphore(MAX_CONNECTIONS)
        async with places:
            connection = self._idle.take(host) or await self._connect(host)
            self._expect_response(connection)
            try:
                return await _receive(connection, request)
            finally:
                del self._deadlines[connection]
                self._idle.put(host, connection)

    def close(self) -> None:
        """Close the connections that are idle."""
        self._idle.close()
        if self._watch is not None:
            self._watch.cancel()

    def _expect_response(self, connection: Connection) -> None:
        # One timer for all: each exchange's own would take longer than reading the response.
        loop = asyncio.get_running_loop()
        self._deadlines[connection] = loop.time() + RESPONSE_S
        if self._watch is None:
            self._watch = loop.call_later(RESPONSE_S, self._fail_late)

    def _fail_late(self) -> None:
        loop, self._watch = asyncio.get_running_loop(), None
        for connection, due in self._deadlines.items():
            if due > loop.time():
                self._watch = loop.call_at(due, self._fail_late)
                return
            connection.fail(ExchangeFailed("There was no response in time."))

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
        except (OSError, UnicodeError) as exc:  # TLS's errors and TimeoutError, too; a label of more than 63 letters
            raise NotReached(f"There is no connection ({type(exc).__name__}).") from exc
        return connection


async def _receive(connection: Connection, request: bytes) -> Response:
    head = await connection.send(request)
    parts, size = [], 0
    while part := await connection.read():
        parts.append(part)
        size += len(part)
        if size > MAX_RESPONSE_BYTES:
            raise ExchangeFailed("More came than was expected.")
    return Response(head.status, head.headers, b"".join(parts))
