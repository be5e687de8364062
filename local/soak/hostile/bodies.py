"""
The bodies of hostile answers. Each is a chat completion in three pieces, of which the large one is made once, so that
sending costs next to nothing: what is measured is what reading it costs a worker. Pure.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

MIB = 1024 * 1024
LIMIT = 64 * MIB
"""The largest answer that the app reads."""


@dataclass(frozen=True, slots=True)
class Filler:
    """What makes an answer hostile: JSON text within the string of its content, and members after it."""

    in_text: bytes = b""
    members: bytes = b""
    """JSON after the last member, with a comma before it."""
    before: bytes = b""
    """Bytes before the object."""


@cache
def filler(name: str) -> Filler:
    """The filler of that name, one of FILLERS."""
    return FILLERS[name]()


FILLERS: dict[str, Callable[[], Filler]] = {
    "": Filler,
    "text": lambda: Filler(b"a generated text " * (40 * MIB // 17)),
    "text, 12 MiB": lambda: Filler(b"a generated text " * (12 * MIB // 17)),
    "beyond the limit": lambda: Filler(b"a generated text " * (80 * MIB // 17)),
    "escapes": lambda: Filler(rb"\\\"\u00e9\ud83d\ude00\\\\" * (8 * MIB // 30)),
    "members": lambda: Filler(members=b',"x":{%s}' % b",".join(b'"k%07d":0' % number for number in range(2_500_000))),
    "lists": lambda: Filler(members=b',"x":[%s]' % b",".join([b"[]"] * 1_900_000)),
    "too many members": lambda: Filler(members=b',"x":{%s}' % b",".join([b'"k":0'] * 4_000_000)),
    "too many lists": lambda: Filler(members=b',"x":[%s]' % b",".join([b"[]"] * 3_000_000)),
    "nesting": lambda: Filler(members=b',"x":%s%s' % (b"[" * 200_000, b"]" * 200_000)),
    "odd bytes": lambda: Filler(b"\x01\x02\n\xff\xc3 \\ud800 ", b',"logprob":NaN,"limit":-Infinity', b"\xef\xbb\xbf"),
}
"""What fills an answer, by name."""
UNREADABLE = frozenset({"beyond the limit", "too many members", "too many lists", "nesting"})
"""With these an answer can't be read, although it is paid for."""


def warm_up(names: Iterable[str]) -> None:
    """Make the fillers of these names, so that no request waits for it."""
    for name in names:
        if filler(name).in_text:
            _flushed(filler(name).in_text)


def completion(text: str, members: Mapping[str, Any], fill: Filler) -> list[bytes]:
    """The pieces of a chat completion whose text begins with `text`; the second piece is always the same object."""
    start = json.dumps({"id": "hostile", "object": "chat.completion", "model": "gpt-4o-2024-08-06", **members})
    choice = f'{{"index": 0, "finish_reason": "stop", "message": {{"role": "assistant", "content": "{text}'
    first = f'{start[:-1]}, "choices": [{choice}'.encode()
    return [fill.before + first, fill.in_text, b'"}}]' + fill.members + b"}"]


def compressed(pieces: list[bytes]) -> bytes:
    """The pieces as one gzip stream. The large one is compressed once, by itself."""
    first, large, last = pieces
    flushed = zlib.compressobj(wbits=-15)
    start = flushed.compress(first) + flushed.flush(zlib.Z_FULL_FLUSH)
    final = zlib.compressobj(wbits=-15)
    end = final.compress(last) + final.flush()
    checksum = zlib.crc32(last, zlib.crc32(large, zlib.crc32(first))) if len(large) < LIMIT else 0  # never read
    size = sum(map(len, pieces))
    trailer = checksum.to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + start + _flushed(large) + end + trailer


@cache
def _flushed(large: bytes) -> bytes:
    # After a full flush nothing before it is needed, so that streams can be joined.
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(large) + compressor.flush(zlib.Z_FULL_FLUSH)
