"""The body of a response without its `Content-Encoding`, bounded in size. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

_COMPRESSED = frozenset({"gzip", "x-gzip", "deflate"})
_AUTOMATIC = zlib.MAX_WBITS | 32
"""A gzip or a zlib header."""


class TooLarge(Exception):
    """The decoded body is larger than allowed."""


class NotDecodable(Exception):
    """The body is not encoded as it says."""


def decode_body(chunks: Iterable[bytes], encoding: str, *, limit: int) -> bytes:
    """
    Return the body in `chunks`, of at most `limit` bytes.

    A body that is not compressed at all, although `encoding` says so, is returned as it is: some gateways decompress
    and keep the label. Raises TooLarge, NotDecodable.
    """
    pieces = list(chunks)
    if encoding.strip().lower() not in _COMPRESSED:
        return b"".join(pieces)
    # Some servers send `deflate` without its header.
    for window in (_AUTOMATIC, -zlib.MAX_WBITS) if encoding.strip().lower() == "deflate" else (_AUTOMATIC,):
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
