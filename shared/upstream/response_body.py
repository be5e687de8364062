"""The body of a response: read and decoded, bounded in size, and in the memory that all of a worker's bodies take."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterable

from shared.errors import ProviderUnavailable, UpstreamFacts
from shared.network.connection import Connection
from shared.network.response import Head
from shared.shares import Reservation, Shares

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Of a response body, decompressed."""
MAX_LARGE_BYTES = 256 * 1024 * 1024
"""Of all large bodies that a worker keeps at a time: one customer's are half of that at most."""
SMALL_BYTES = 1024 * 1024
"""Smaller bodies are not counted: there are as many as there are calls."""
_MAX_REFUSAL_BYTES = 128 * 1024
"""Of a refusal no more is read: what it says stands at its start, and whatever it holds, that is read quickly."""
COMPRESSED = frozenset({"gzip", "x-gzip", "deflate"})
AUTOMATIC = zlib.MAX_WBITS | 32
"""A gzip or a zlib header."""


class TooLarge(Exception):
    """The decoded body is larger than allowed."""


class NotDecodable(Exception):
    """The body is not encoded as it says."""


async def read_body(
    host: str, head: Head, connection: Connection, memory: Shares, customer: str
) -> tuple[bytes, Reservation | None]:
    """
    Read a response and return its decoded body; if it is large, with the memory that it takes. Keep that as long as it.

    If there is no memory for it, the rest waits in the socket. Raises ProviderUnavailable if the body can't be read,
    ExchangeFailed if it breaks off.
    """
    encoding = head.headers.get("content-encoding", "")
    if "," in encoding and head.is_success:
        # Compressed twice, a few bytes could unpack to gigabytes before they are counted.
        raise _unreadable(f"{host} answered with more than one content encoding.", head)
    try:
        body, reservation = await _read_decoded(head, connection, encoding, memory, customer)
    except TooLarge:
        raise _unreadable(f"{host} answered with more than {MAX_RESPONSE_BYTES >> 20} MiB.", head) from None
    except NotDecodable:
        if not head.is_success:
            return b"", None  # its status says enough
        raise _unreadable(f"{host} answered with a body that is not {encoding}, as its header says.", head) from None
    if reservation is not None:
        reservation.shrink(len(body))
    return body, reservation


async def _read_decoded(
    head: Head, connection: Connection, encoding: str, memory: Shares, customer: str
) -> tuple[bytes, Reservation | None]:
    chunks: list[bytes] = []
    size, reservation = 0, None
    limit = MAX_RESPONSE_BYTES if head.is_success else _MAX_REFUSAL_BYTES
    while chunk := await connection.read():
        size += len(chunk)
        if size > limit:
            if head.is_success:
                raise TooLarge
            break
        if size > SMALL_BYTES and reservation is None:
            reservation = await memory.reserve(customer, _declared_size(head))
        chunks.append(chunk)
    if reservation is None:
        try:
            return decode_body(chunks, encoding, limit=min(limit, SMALL_BYTES)), None
        except TooLarge:
            if not head.is_success:
                raise NotDecodable from None
            reservation = await memory.reserve(customer, MAX_RESPONSE_BYTES)
    # Decompressing releases the interpreter's lock, so that a thread is enough.
    return await asyncio.to_thread(decode_body, chunks, encoding, limit=MAX_RESPONSE_BYTES), reservation


def _unreadable(message: str, head: Head) -> ProviderUnavailable:
    return ProviderUnavailable(message, UpstreamFacts(status=head.status, unanswered=head.is_success))


def _declared_size(head: Head) -> int:
    text = head.headers.get("content-length", "")
    is_exact = text.isdecimal() and not {"transfer-encoding", "content-encoding"} & head.headers.keys()
    return min(int(text), MAX_RESPONSE_BYTES) if is_exact else MAX_RESPONSE_BYTES


def decode_body(chunks: Iterable[bytes], encoding: str, *, limit: int) -> bytes:
    """
    Return the body in `chunks`, of at most `limit` bytes.

    A body that is not compressed at all, although `encoding` says so, is returned as it is: some gateways decompress
    and keep the label. Raises TooLarge, NotDecodable.
    """
    pieces = list(chunks)
    if encoding.strip().lower() not in COMPRESSED:
        return b"".join(pieces)
    # Some servers send `deflate` without its header.
    for window in (AUTOMATIC, -zlib.MAX_WBITS) if encoding.strip().lower() == "deflate" else (AUTOMATIC,):
        try:
            return _decompressed(pieces, window, limit)
        except zlib.error:
            continue
    body = b"".join(pieces)
    if body[:16].isascii():
        return body
    raise NotDecodable


def _decompressed(pieces: list[bytes], window: int, limit: int) -> bytes:
    decompressor = zlib.decompressobj(window)
    decoded, size = [], 0
    for piece in pieces:
        decoded.append(decompressor.decompress(piece, limit + 1 - size))
        size += len(decoded[-1])
        if size > limit:
            raise TooLarge
    return b"".join(decoded)
