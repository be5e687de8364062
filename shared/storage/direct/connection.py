"""One HTTP/1.1 connection, one request at a time. The parser is llhttp, Node's, by `httptools`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

MAX_RESPONSE_BYTES = 8 << 20
"""Far more than any response to these requests: a row is at most 1 MiB, and the responses to writes are short."""
_FINAL = 200


class ExchangeFailed(Exception):
    """No usable response came. The request may have been carried out."""


@dataclass(slots=True)
class Response:
    """A response: names of headers are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection(asyncio.Protocol):
    """A connection, opened by the loop's `create_connection`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._response: asyncio.Future[Response] | None = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self.is_open = False
        self.idle_since = 0.0

    async def exchange(self, request: bytes, timeout_s: float) -> Response:
        """Send a request and return its response. Raises ExchangeFailed, after which the connection is closed."""
        assert self._transport is not None  # noqa: S101  # `create_connection` returns after `connection_made`
        loop = asyncio.get_running_loop()
        response: asyncio.Future[Response] = loop.create_future()
        self._response = response
        self._transport.write(request)
        timer = loop.call_later(timeout_s, self._fail, "There was no response in time.")
        try:
            return await response
        except asyncio.CancelledError:
            self._fail("The request was cancelled.")
            raise
        finally:
            timer.cancel()

    def close(self) -> None:
        """Close the connection."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange, if there is one."""
        self.is_open = False
        self._fail(f"The connection closed ({type(exc).__name__}).")

    def eof_received(self) -> None:
        """Use it no more: with TLS, it takes the loop a while to close it, and what is written meanwhile is lost."""
        self._fail("The server closed the connection.")

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        self._size += len(data)
        try:
            if self._response is None or self._size > MAX_RESPONSE_BYTES:
                raise HttpParserError("More came than was expected.")
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._fail("The server changed the protocol.")
        except HttpParserError as exc:
            self._fail(str(exc))

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        self._body.append(data)

    def on_message_complete(self) -> None:
        """End the exchange, unless the response is an interim one."""
        headers, body, status = self._headers, b"".join(self._body), self._parser.get_status_code()
        self._headers, self._body, self._size = {}, [], 0
        if status < _FINAL:
            return
        if self._response is None:
            self.close()  # nobody has asked for it, so it must not answer the next request
            return
        if not self._parser.should_keep_alive():
            self.close()
        response, self._response = self._response, None
        response.set_result(Response(status, headers, body))

    def _fail(self, reason: str) -> None:
        response, self._response = self._response, None
        self.close()
        if response is not None and not response.done():
            response.set_exception(ExchangeFailed(reason))
