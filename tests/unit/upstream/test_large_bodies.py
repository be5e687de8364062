"""Which bodies are read in another process: those of which reading would take long, whatever their size."""

from __future__ import annotations

import functools
import itertools
import json

from shared.actions.chat import read_chat
from shared.actions.raw import read_answer
from shared.upstream.messages import LARGE_BYTES, Response, is_large
from tests.support.rows import every_row
from tests.support.sampled import Sampled
from tests.support.work import count_calls, peak_bytes

MIB = 1024 * 1024
START = b'{"choices":[{"message":{"content":"x"},"y":'
PIECES = {
    "lists": b"[],",
    "objects": b"{},",
    "numbers": b"1,",
    "not numbers": b"NaN,",
    "texts": b'"",',
    "members": b'{"a":1},',
    "halves of surrogates": rb"\ud800",
    "escapes": rb"\n",
    "nesting": b"[",
    "broken UTF-8": b"\xff",
    "control characters": b"\x01",
    "nulls": b"\0",
    "events": b'\n\ndata: {"choices":[]}',
    "events with CR": b"\r\rdata: 1",
    "floats": b"-0.12345678901234567,\n",
    "text": b"An ordinary text. ",
    "base64": b"iVBORw0KGgo",
}


def test_what_is_read_at_once_is_little_work(sampled: Sampled):
    """
    A body that is not large does not stop the worker for long, whatever it holds and whatever it is labelled: reading
    it makes few calls, and few copies or values. Four MiB of events or of lists would be twenty times the limits.
    """
    read_chat(Response(200, {}, b"{", None), ())  # imports what it needs
    starts = (START + b"[", START + b'"', b"data: 1\n\n")
    for start, size, name in sampled(itertools.product(starts, (127 * 1024, LARGE_BYTES - 100), PIECES), share=16):
        piece = PIECES[name]
        body = (start + piece * (size // len(piece))).ljust(size)
        if not is_large(body):
            read = functools.partial(_read, Response(200, {"content-type": "text/event-stream"}, body, None))
            assert count_calls(read) < 1_500_000, (name, start)  # of the worst: a stream of many small events
            is_small = size < MIB or peak_bytes(read) < 4 * LARGE_BYTES  # few copies of it, and no million values
            assert is_small, (name, start)


def _read(response: Response) -> None:
    read_chat(response, ())
    read_answer(response, None)


@every_row(
    ("name", "size", "expected"),
    [
        ("lists", MIB, True),
        ("not numbers", MIB, True),
        ("halves of surrogates", MIB, True),
        ("broken UTF-8", MIB, True),
        ("events", MIB, True),
        ("lists", 100 * 1024, False),
        ("base64", LARGE_BYTES - 100, False),
        ("text", MIB, False),
        ("floats", MIB, False),
        ("base64", LARGE_BYTES + 100, True),
    ],
)
def test_the_size_alone_does_not_decide(name: str, size: int, expected: bool):
    """Images, texts and vectors, as providers send them, need no other process below LARGE_BYTES."""
    piece = PIECES[name]

    assert expected is is_large(START + piece * (size // len(piece)))


def test_vectors_that_are_printed_on_many_lines_are_quick():
    """OpenAI puts each number on a line of its own."""
    data = [{"embedding": [0.0123456789012] * 1536, "index": index} for index in range(16)]

    assert not is_large(json.dumps({"data": data}, indent=2).encode())
