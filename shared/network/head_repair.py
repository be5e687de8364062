"""
Repairs heads of responses that other HTTP clients read and the parser refuses: what was paid for must not be lost.

The parser refuses a response with `Content-Length` beside `Transfer-Encoding`, or with the same `Content-Length` twice.
RFC 9112, section 6.3, has the first be overridden, and lets the second be read. The encoding `identity`, which changes
nothing, is removed, so that the length counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_INTERIM = re.compile(rb"HTTP/1\.[01] 1\d\d\b")
_LENGTH = re.compile(rb"(?i)\r?\ncontent-length[ \t]*:[ \t]*([^\r\n]*)")
_ENCODING = re.compile(rb"(?i)\r?\ntransfer-encoding[ \t]*:[ \t]*([^\r\n]*)")


def has_end(pieces: Sequence[bytes]) -> bool:
    """Return whether the last piece of what has come may end a head. It reads little of the others."""
    return _HEAD_END.search(b"".join(pieces[-len(b"\r\n\r\n") :])) is not None


def repaired(data: bytes) -> bytes | None:
    """Return what began with a head, after interim ones or not, with the head repaired. None if the end is missing."""
    heads = []
    while end := _HEAD_END.search(data):
        head, data = data[: end.end()], data[end.end() :]
        heads.append(_repaired(head))
        if not _INTERIM.match(head):
            return b"".join([*heads, data])
    return None


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
