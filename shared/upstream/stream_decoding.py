"""A response's body as it comes: decompressed and without the key, in pieces, never whole in memory. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from shared.secret import Secret, longest_spelling, redact
from shared.upstream.response_body import AUTOMATIC, COMPRESSED, NotDecodable

PIECE_BYTES = 64 * 1024
"""What is decompressed at a time. A thousandth as many bytes can unpack to it."""
_INPUT_BYTES = 16 * 1024
_START_BYTES = 16
"""By which a body that is compressed differs from one that only says so."""
_GZIP = b"\x1f\x8b"


class StreamDecoder:
    """Decodes one body. As `decode_body`, it takes one that is not compressed as it is, whatever its header says."""

    def __init__(self, encoding: str) -> None:
        self._is_plain = encoding.strip().lower() not in COMPRESSED
        self._start = b""
        self._decompressor: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decodes to, in pieces of at most PIECE_BYTES if it is compressed. Raises NotDecodable."""
        if not self._is_plain and self._decompressor is None:
            self._start += data
            if len(self._start) < _START_BYTES:
                return
            data = self._begin()
        yield from self._decode(data)

    def finish(self) -> Iterator[bytes]:
        """Yield the rest at the end of the body. Raises NotDecodable if something is missing there."""
        if self._start:
            yield from self._decode(self._begin())
        if self._decompressor is not None and not self._decompressor.eof:
            raise NotDecodable

    def _begin(self) -> bytes:
        start, self._start = self._start, b""
        try:
            zlib.decompressobj(AUTOMATIC).decompress(start[:_START_BYTES])
        except zlib.error:
            if not start[:_START_BYTES].isascii():
                raise NotDecodable from None
            self._is_plain = True
        else:
            self._decompressor = zlib.decompressobj(AUTOMATIC)
        return start

    def _decode(self, data: bytes) -> Iterator[bytes]:
        if self._is_plain:
            if data:
                yield data
            return
        for start in range(0, len(data), _INPUT_BYTES):
            yield from self._decompress(data[start : start + _INPUT_BYTES])

    def _decompress(self, data: bytes) -> Iterator[bytes]:
        piece = b""
        while data or len(piece) == PIECE_BYTES:
            assert self._decompressor is not None  # noqa: S101  # `_begin` has made it
            if self._decompressor.eof:
                if not data.startswith(_GZIP):
                    return  # padding
                self._decompressor = zlib.decompressobj(AUTOMATIC)  # gzip files may stand one behind the other
            try:
                piece = self._decompressor.decompress(data, PIECE_BYTES)
            except zlib.error:
                raise NotDecodable from None
            if piece:
                yield piece
            data = self._decompressor.unconsumed_tail or self._decompressor.unused_data


class StreamRedactor:
    """Redacts a secret in a body that comes in chunks, wherever they are cut."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        self._kept = b""
        self._size = longest_spelling(secret)

    def feed(self, data: bytes) -> bytes:
        """Return what can't be a part of the secret any more."""
        text = redact(self._kept + data, self._secret)
        cut = max(len(text) - self._size, 0)
        self._kept = text[cut:]
        return text[:cut]

    def finish(self) -> bytes:
        """Return the rest at the end of the body."""
        return self._kept
