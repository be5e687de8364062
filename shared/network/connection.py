"""One HTTP/1.1 connection, one request at a time. The parser is llhttp, Node's, by `httptools`."""

from __future__ import annotations

import asyncio
import select
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from shared.network.head_repair import has_end, repaired
from shared.network.response import ExchangeFailed, Head, Malformed, read_headers
from shared.network.sender import Sender

MAX_HEAD_BYTES = 256 * 1024
"""Of a response's status line and headers, with interim responses before it."""
MAX_HEADERS = 1000
MAX_WAITING_BYTES = 256 * 1024
"""Of a body that nobody has read yet: if there is more, the rest waits in the socket."""
_MAX_FRAMING = 64
"""Bytes of chunk sizes and trailers for each byte of the body, beside those that a head may have."""
_FINAL, _NO_CONTENT, _NOT_MODIFIED = 200, 204, 304


class Connection(Sender):
    """A connection, opened by the loop's `create_connection`."""

    def __init__(self) -> None:
        super().__init__()
        self.idle_since = 0.0
        self._poll: select.poll | None = None
        self._parser = _new_parser(self)
        self._begin_head()

    def _begin_head(self) -> None:
        self._head = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._seen: list[bytes] | None = []
        """What has come of the head, and of interim ones before it, until it is complete."""
        self._is_repairing = False
        self._body: list[bytes] = []
        self._waiting, self._size, self._framing = 0, 0, 0
        self.is_complete = False
        self._ends_with_connection = False

    async def read(self) -> bytes:
        """Return what has come of the body, or nothing at its end. Raises ExchangeFailed if it breaks off."""
        while not self._body and not self.is_complete:
            await self._wait()
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        if self._waiting > MAX_WAITING_BYTES and self.is_open:
            cast("asyncio.Transport", self._transport).resume_reading()
        self._waiting = 0
        return body

    def end(self) -> bool:
        """End an exchange. Return whether the connection can be used for another; if not, it is closed."""
        if not self.is_complete or not self.is_open or self._waiting > MAX_WAITING_BYTES:
            self.close()  # in the last case, it does not read
            return False
        self._in_exchange = False
        self._begin_head()
        return True

    def is_usable(self) -> bool:
        """
        Return whether a request can be sent.

        An idle connection on which something can be read was closed by the other side, although the event loop has not
        seen that yet. A request on it would fail, and nobody would know whether it was read. One on which nothing can
        be written, or something still waits to be, has a server that answered before it had the request, and may never
        read the rest.
        """
        if not self.is_open or self._transport is None or self._transport.get_write_buffer_size():
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLOUT)
        return [events for _, events in self._poll.poll(0)] == [select.POLLOUT]

    # What the loop calls.

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange, if there is one."""
        self.is_open = False
        self.fail(ExchangeFailed(f"The connection closed ({type(exc).__name__})."))

    def eof_received(self) -> None:
        """Use it no more: with TLS, it takes the loop a while to close it, and what is written meanwhile is lost."""
        if self._ends_with_connection:
            self.on_message_complete()
        self.fail(ExchangeFailed("The server closed the connection."))
        self.close()

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        if not self._in_exchange:
            self.close()  # nobody has asked for it, so it must not answer the next request
            return
        self._framing += len(data)
        if self._seen is not None:
            self._seen.append(data)
        try:
            if not self._is_repairing:
                self._feed(data)
            if self._is_repairing and has_end(self._seen or ()):
                self._repair()
            if self._framing > MAX_HEAD_BYTES + self._size * _MAX_FRAMING:
                raise HttpParserError(f"Headers of more than {MAX_HEAD_BYTES} bytes")
        except HttpParserUpgrade:
            self.fail(Malformed("The protocol changed"))
        except HttpParserError as exc:
            self.fail(Malformed(_reason(exc)))

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError as exc:
            is_http = b"".join(self._seen or ()).lstrip().startswith(b"HTTP/1.")
            if self._head is not None or len(self._headers) > MAX_HEADERS or not is_http:
                raise
            self._is_repairing, self._first_error = True, exc

    def _repair(self) -> None:
        """Parse the head once more, repaired, as soon as all of it is here."""
        seen = b"".join(self._seen or ())
        self._framing += len(seen)  # so that it is not read over and over
        data = repaired(seen)
        if data is None:
            return  # only an interim one is complete
        if data == seen:
            raise self._first_error
        self._is_repairing, self._headers = False, []
        self._parser = _new_parser(self)
        self._parser.feed_data(data)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Refuse a second response: it answers nothing, and its status would be taken for the first one's."""
        if self.is_complete:
            raise HttpParserError("More than one response")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. One in a trailer only counts: the head has been read by then."""
        self._headers.append((name, value))
        if len(self._headers) > MAX_HEADERS:
            raise HttpParserError(f"More than {MAX_HEADERS} headers")

    def on_headers_complete(self) -> None:
        """Pass the head on, unless the response is an interim one."""
        status = self._parser.get_status_code()
        if status < _FINAL:
            return
        headers = read_headers(self._headers)
        self._seen = None
        self._ends_with_connection = not (
            status in {_NO_CONTENT, _NOT_MODIFIED}
            or "content-length" in headers
            or headers.get("transfer-encoding", "").lower().rpartition(",")[2].strip() == "chunked"
        )
        self._head = Head(status, headers)
        self._wake()

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        self._body.append(data)
        self._size += len(data)
        self._framing -= len(data)
        self._waiting += len(data)
        if self._waiting > MAX_WAITING_BYTES and self.is_open:
            cast("asyncio.Transport", self._transport).pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """End the response, unless it is an interim one."""
        if self._head is None:
            self._headers = []
            return
        self.is_complete = True
        if self._ends_with_connection or not self._parser.should_keep_alive():
            self.close()
        self._wake()

    def fail(self, failure: ExchangeFailed) -> None:
        """Close the connection. Whoever waits for a response, or comes to read the rest, gets the failure."""
        if not self.is_complete:
            self._failure = self._failure or failure
        self.close()
        self._wake()


def _new_parser(connection: Connection) -> HttpResponseParser:
    parser = HttpResponseParser(connection)
    parser.set_dangerous_leniencies(
        lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
    )
    return parser


def _reason(exc: HttpParserError) -> str:
    # An error that a callback raises is the context of the parser's own.
    own = exc.__context__ if isinstance(exc.__context__, HttpParserError) else exc
    return str(own)
