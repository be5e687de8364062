"""The smallest images of each format that have a size, and images as an endpoint returns them."""

from __future__ import annotations

import struct

from tests.support.endpoint import pixels


def _webp(kind: bytes, data: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(data)) + data + b"\0" * 16
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


PNG = pixels(5, 3)
JPEG = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0"
    b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", 480, 640) + b"\3\1\x22\0\2\x11\1\3\x11\1\xff\xd9"
)
GIF = b"GIF89a" + struct.pack("<HH", 300, 7) + b"\0" * 20
WEBP_LOSSY = _webp(b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", 200, 1))
WEBP_LOSSLESS = _webp(b"VP8L", b"\x2f" + (199 | 0 << 14).to_bytes(4, "little"))
WEBP_EXTENDED = _webp(b"VP8X", b"\x10\0\0\0" + (199).to_bytes(3, "little") + (0).to_bytes(3, "little"))
