"""The sending half of a connection: a request, whole or in parts, written no faster than the other side reads."""

from __future__ import annotations

import asyncio
from typing import cast

from shared.network.response import ExchangeFailed, Head


class Sender(asyncio.Protocol):
    """What a connection sends, and how it waits. The receiving half sets the head of the response, or a failure."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.is_open = False
        self._in_exchange = False
        self._is_full = False
        """As much waits to be sent as may."""
        self._failure: ExchangeFailed | None = None
        self._head: Head | None = None

    def begin(self, request: bytes) -> None:
        """Send a request (not HEAD), or the beginning of one; `write` the rest. Then wait for the `head`."""
        assert self._transport is not None  # noqa: S101  # `create_connection` returns after `connection_made`
        self._in_exchange = True
        self._transport.write(request)

    async def write(self, data: bytes | memoryview) -> bool:
        """
        Send more of a request. Return whether the rest is wanted: not if the response is there already.

        It returns when little waits to be sent. After False, read the response and `close` the connection. Raises
        ExchangeFailed.
        """
        if self._head is None and self.is_open:
            cast("asyncio.Transport", self._transport).write(data)
        while self._head is None and (self._is_full or not self.is_open):
            await self._wait()
        return self._head is None

    async def head(self) -> Head:
        """Return the head of the response. Raises ExchangeFailed."""
        while self._head is None:
            await self._wait()
        return self._head

    async def send(self, request: bytes) -> Head:
        """
        Send a request (not HEAD) and return the head of its response. `read` it to the end, or `close` the connection.

        Raises ExchangeFailed, after which the connection is closed.
        """
        self.begin(request)
        return await self.head()

    def close(self) -> None:
        """Close the connection."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def pause_writing(self) -> None:
        """Let whoever writes wait."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Let them write."""
        self._is_full = False
        self._wake()
