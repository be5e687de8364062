"""
Reads responses that other HTTP clients read and aiohttp refuses: what was paid for must not be thrown away.

aiohttp's parser refuses a response with `Content-Length` beside `Transfer-Encoding`, or with the same `Content-Length`
twice. RFC 9112, section 6.3, has the first be overridden, and lets the second be read. Both are repaired before the
parser sees them. The encoding `identity`, which changes nothing, is removed, so that the length counts.
"""

from __future__ import annotations

import re
import select
from typing import Any

from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError

MAX_HEADER_BYTES = 256 * 1024
"""Of a response's status line and headers, and of one header."""
MAX_HEADERS = 1000

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_START = b"HTTP/1."
_INTERIM = re.compile(rb"HTTP/1\.[01] 1\d\d\b")
_LENGTH = re.compile(rb"(?i)\r?\ncontent-length[ \t]*:[ \t]*([^\r\n]*)")
_ENCODING = re.compile(rb"(?i)\r?\ntransfer-encoding[ \t]*:[ \t]*([^\r\n]*)")


class LenientResponseHandler(ResponseHandler):
    """A connection that reads such responses, and that knows when the other side has closed it."""

    def set_response_params(self, **options: Any) -> None:
        """Prepare for the next response."""
        super().set_response_params(**options)
        self._parser = _RepairingParser(self._parser)  # type: ignore[assignment]  # it has a parser's methods

    def is_connected(self) -> bool:
        """
        Return whether a request can be sent.

        An idle connection on which something can be read was closed by the other side, although the event loop has not
        seen that yet. A request on it would fail, and nobody would know whether it was read.
        """
        return super().is_connected() and not self._can_be_read()

    def _can_be_read(self) -> bool:
        connection = self.transport.get_extra_info("socket") if self.transport is not None else None
        if connection is None:
            return False
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(poll.poll(0))


class _RepairingParser:
    """aiohttp's parser behind the repair of heads."""

    def __init__(self, parser: Any) -> None:
        self._parser = parser
        self._head = b""
        self._in_head = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> Any:
        """See aiohttp's parser."""
        if not self._in_head:
            return self._parser.feed_data(data)
        self._head += data
        heads = []
        while end := _HEAD_END.search(self._head):
            head, self._head = self._head[: end.end()], self._head[end.end() :]
            heads.append(_repaired(head))
            if not _INTERIM.match(head):
                break
        else:
            if len(self._head) > MAX_HEADER_BYTES:
                raise HttpProcessingError(message=f"Headers of more than {MAX_HEADER_BYTES} bytes")
            if _START.startswith(self._head[: len(_START)]):
                return self._parser.feed_data(b"".join(heads)) if heads else ([], False, b"")
        self._in_head = False
        data, self._head = b"".join([*heads, self._head]), b""
        return self._parser.feed_data(data)


def _repaired(head: bytes) -> bytes:
    lengths = _LENGTH.findall(head)
    encodings = b",".join(_ENCODING.findall(head)).lower()
    if lengths and encodings.strip() == b"identity":
        head = _ENCODING.sub(b"", head)  # older servers say so of a body that only has a length
    elif lengths and encodings:
        return _LENGTH.sub(b"", head)
    if len(lengths) > 1 and len(set(lengths)) == 1:
        return _LENGTH.sub(b"", head, count=len(lengths) - 1)
    return head
