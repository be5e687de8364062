"""A body that comes in chunks is decoded as one that is there, and a key in it is found wherever it is cut."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.secret import Secret, redact
from shared.upstream.response_body import NotDecodable, decode_body
from shared.upstream.stream_decoding import PIECE_BYTES, StreamDecoder, StreamRedactor
from tests.support.rows import every_row

KEY = "sk-MARKED/0123456789+abcdef"
MIB = 1024 * 1024


def cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """The data in chunks of these sizes, and the rest."""
    chunks = []
    for size in sizes:
        chunks.append(data[:size])
        data = data[size:]
    return [*chunks, data]


def decode(chunks: Iterable[bytes], encoding: str) -> bytes:
    """What the chunks decode to."""
    decoder = StreamDecoder(encoding)
    pieces = [piece for chunk in chunks for piece in decoder.feed(chunk)]
    return b"".join([*pieces, *decoder.finish()])


ENCODERS = {
    "": lambda data: data,
    "identity": lambda data: data,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP ": gzip.compress,
    "deflate": zlib.compress,
}


@given(
    data=st.binary(max_size=300) | st.binary(min_size=1, max_size=20).map(lambda part: part * 9000),
    encoding=st.sampled_from(sorted(ENCODERS)),
    sizes=st.lists(st.integers(0, 40)),
)
def test_a_stream_is_decoded_as_a_whole_body(data: bytes, encoding: str, sizes: list[int]):
    """However it is compressed and cut."""
    body = ENCODERS[encoding](data)

    assert decode_body([body], encoding, limit=MIB) == decode(cut(body, sizes), encoding) == data


@every_row("encoding", ["gzip", "deflate"])
@every_row("text", [b"", b"{}", b'{"custom_id":"00001"}\n' * 100])
def test_what_only_says_that_it_is_compressed_is_taken_as_it_is(encoding: str, text: bytes):
    """Some gateways decompress, and keep the label."""
    assert text == decode(cut(text, [1, 3]), encoding)


def test_gzip_may_be_many_files():
    """They stand one behind the other, and padding follows; a server that compresses in blocks sends that."""
    data = gzip.compress(b"one ") + gzip.compress(b"two ") + gzip.compress(b"three") + b"\0" * 20

    assert b"one two three" == decode([data], "gzip")


@pytest.mark.parametrize(
    "broken",
    [gzip.compress(b"x" * 999)[:-9], b"\xff" * 50, gzip.compress(b"abc")[:20] + b"\xff" * 9],
    ids=["cut", "no gzip", "wrong end"],
)
def test_a_broken_body_is_not_decoded(broken: bytes):
    """What is missing at the end is missed, as the lines there are paid for."""
    with pytest.raises(NotDecodable):
        decode(cut(broken, [5]), "gzip")


def test_a_bomb_unpacks_piece_by_piece():
    """A few bytes take no more memory than others."""
    bomb = gzip.compress(bytes(16 * MIB))
    tracemalloc.start()
    try:
        sizes = [len(piece) for piece in StreamDecoder("gzip").feed(bomb)]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (16 * MIB, PIECE_BYTES) == (sum(sizes), max(sizes))
    assert peak < MIB


@given(
    before=st.binary(max_size=400),
    after=st.binary(max_size=400),
    spelled=st.sampled_from(
        [KEY, KEY.lower(), json.dumps(json.dumps(KEY)), KEY.replace("/", "%2F"), KEY.replace("/", r"\/")]
    ),
    sizes=st.lists(st.integers(0, 50)),
)
def test_a_key_is_redacted_wherever_it_is_cut(before: bytes, after: bytes, spelled: str, sizes: list[int]):
    """As in a body that is there, and nothing else is changed."""
    body, redactor = before + spelled.encode() + after, StreamRedactor(Secret(KEY))

    streamed = b"".join([*map(redactor.feed, cut(body, sizes)), redactor.finish()])

    assert redact(body, Secret(KEY)) == streamed
    assert b"marked" not in streamed.lower()
