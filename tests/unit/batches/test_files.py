"""A provider's files are read whatever is wrong with them, and the lines that are sent are what was given."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.batches.files import MAX_ID, Answer, Unreadable, line, read_lines
from tests.support.rows import every_row

MIB = 1024 * 1024
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


async def read(data: bytes | Iterable[bytes], **options: Any) -> list[Answer | Unreadable]:
    """What a file says that comes in these chunks."""

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in [data] if isinstance(data, bytes) else data:
            yield chunk

    return [each async for each in read_lines(chunks(), **options)]


def encoded(value: Any, *, indent: int | None = None) -> bytes:
    """A value as JSON; the standard library's escapes what is not ASCII."""
    return json.dumps(value, indent=indent).encode()


def answered(custom_id: str, body: Any, *, status: Any = 200, request_id: str | None = "req-1") -> dict[str, Any]:
    """A line as OpenAI writes it."""
    response = {"status_code": status, "request_id": request_id, "body": body}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None}


@given(custom_id=st.text(min_size=1, max_size=20), body=JSON, indent=st.none() | st.just(2))
def test_a_line_is_one_line(custom_id: str, body: Any, indent: int | None):
    """It has the body as it was encoded, even over several lines."""
    written = line(custom_id, "/v1/chat/completions", encoded(body, indent=indent))

    assert (1, b"\n") == (written.count(b"\n"), written[-1:])
    assert b"\r" not in written
    assert not written.startswith(b"\xef\xbb\xbf")
    expected = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}
    assert expected == json.loads(written)


def test_a_body_is_not_encoded_again():
    """Numbers and escapes stay as they are."""
    body = rb'{"a":1.0,"b":1e2,"c":"\u00e9","d":12345678901234567890}'

    assert body in line("00001", "/chat/completions", body)


@st.composite
def files(draw: st.DrawFn) -> tuple[list[bytes], list[tuple[str, bytes]]]:
    """A file in chunks, and the id and the body of each of its lines."""
    bodies = draw(st.lists(JSON.filter(lambda each: each is not None), max_size=6))
    lines, expected = [], []
    for number, body in enumerate(bodies):
        text = encoded(body)
        lines.append(encoded(answered(f"{number:05}", None)).replace(b'"body": null', b'"body": ' + text))
        expected.append((f"{number:05}", text))
    order = draw(st.permutations(range(len(lines))))
    ends = st.sampled_from([b"\n", b"\r\n", b"\n\n", b" \n \r\n"])
    data = draw(st.sampled_from([b"", b"\xef\xbb\xbf", b"\n"]))
    data += b"".join(lines[index] + draw(ends) for index in order)
    if draw(st.booleans()):
        data = data.rstrip()
    chunks = []
    for size in draw(st.lists(st.integers(0, 200))):
        chunks.append(data[:size])
        data = data[size:]
    return [*chunks, data], [expected[index] for index in order]


@given(file=files())
async def test_every_line_is_read(file: tuple[list[bytes], list[tuple[str, bytes]]]):
    """Wherever chunks are cut, in their order, with a byte order mark, CRLF, blank lines, or no end of line at last."""
    chunks, expected = file

    read_ = await read(chunks)

    assert expected == [(each.custom_id, each.body) for each in read_ if isinstance(each, Answer)]
    assert all(isinstance(each, Answer) and each.status == 200 and each.request_id == "req-1" for each in read_)


@given(data=st.binary(max_size=300) | st.text(alphabet='{}[]":,custom_id\n\\1', max_size=200).map(str.encode))
async def test_whatever_comes_is_read(data: bytes):
    """No file stops the reader."""
    for each in await read([data[:50], data[50:]], max_line_bytes=100):
        assert isinstance(each, Answer | Unreadable)


@given(broken=st.binary(min_size=1, max_size=100).filter(lambda data: data.strip(b" \t\r\n\0") and b"\n" not in data))
async def test_a_broken_line_breaks_no_other(broken: bytes):
    """It is reported, with its number."""
    good = encoded(answered("00001", {"a": 1}))

    before, *middle, after = await read(good + b"\n" + broken + b"\n" + good)

    assert before == after == Answer("00001", 200, "req-1", b'{"a": 1}')
    assert [2] == [each.number for each in middle if isinstance(each, Unreadable)] or broken == b"\xef\xbb\xbf"


LINE = encoded(answered("00007", {"text": "hello"}))


@every_row("cut", [*range(25, len(LINE) - 1, 9), len(LINE) - 1])
async def test_a_line_that_is_cut_off_tells_whose_it_is(cut: int):
    """What it answers may have been billed."""
    first, last = await read(LINE + b"\n" + LINE[:cut])

    assert isinstance(first, Answer)
    assert Unreadable(2, "is cut off", "00007" if b'"00007"' in LINE[:cut] else None) == last


@every_row(
    ("value", "expected"),
    [
        (answered("1", {"a": 1}, status="200"), Answer("1", 200, "req-1", b'{"a": 1}')),
        (answered("1", {"a": 1}, status=None), Answer("1", 200, "req-1", b'{"a": 1}')),
        (answered("1", {"a": 1}, status=429, request_id=""), Answer("1", 429, None, b'{"a": 1}')),
        (answered("1", {"a": 1}, status="?"), Answer("1", 500, "req-1", b'{"a": 1}')),
        (answered("1", {"a": 1}, status=2**31), Answer("1", 500, "req-1", b'{"a": 1}')),
        (answered("1", {"a": 1}, status=-200), Answer("1", 500, "req-1", b'{"a": 1}')),
        (answered("1", {"a": 1}) | {"error": {}}, Answer("1", 200, "req-1", b'{"a": 1}')),
        (answered("1", {"a": 1}, status=0) | {"error": {"code": "x"}}, Answer("1", 500, "req-1", b'{"a": 1}')),
        (answered("1", "text"), Answer("1", 200, "req-1", b'"text"')),
        ({"custom_id": 12, "response": {"status_code": 200, "body": []}}, Answer("12", 200, None, b"[]")),
        (
            {"custom_id": "1", "response": None, "error": {"code": "batch_expired", "message": "Too late."}},
            Answer("1", code="batch_expired", message="Too late."),
        ),
        (
            {"custom_id": "1", "response": "", "error": {"code": "Batch_Cancelled", "message": None}},
            Answer("1", code="batch_cancelled"),
        ),
        ({"custom_id": "1", "error": "No."}, Answer("1", code="unknown", message="No.")),
        (
            {"custom_id": "1", "response": {"request_id": "r", "body": None}, "error": {"code": 5, "message": "No."}},
            Answer("1", None, "r", code="unknown", message="No."),
        ),
        ({"custom_id": "1"}, Unreadable(1, "has neither a response nor an error", "1")),
        (
            {"custom_id": "1", "response": None, "error": None},
            Unreadable(1, "has neither a response nor an error", "1"),
        ),
        ({"custom_id": "1" * (MAX_ID + 1)}, Unreadable(1, "has a `custom_id` that was not sent")),
        ({"id": "1"}, Unreadable(1, "is not a JSON object with a `custom_id`")),
        ([1], Unreadable(1, "is not a JSON object with a `custom_id`")),
    ],
)
async def test_a_line_is_read_leniently(value: Any, expected: Answer | Unreadable):
    """OpenAI's and Azure's ways to write it, and gateways'."""
    assert [expected] == await read(encoded(value) + b"\n")


async def test_a_duplicate_or_unknown_line_is_the_readers_to_judge():
    """Both are returned, in the order of the file."""
    lines = [answered("00002", 1), answered("00001", 2), answered("00002", 3), answered("nobody", 4)]

    bodies = [each.body for each in await read(b"\n".join(map(encoded, lines))) if isinstance(each, Answer)]

    assert [b"1", b"2", b"3", b"4"] == bodies


async def test_a_message_shows_neither_key_nor_prompt():
    """An error may quote both."""
    prompt = "The patient's name is MARKED, and she was born in 1970."
    error = {"code": "invalid", "message": f'Key sk-MARKED99, wrong: {{"content": "{prompt}"}} and "{prompt}" here'}

    (answer,) = await read(
        encoded({"custom_id": "1", "error": error}), redact=lambda text: text.replace("sk-MARKED99", "***")
    )

    assert isinstance(answer, Answer)
    assert "MARKED" not in answer.message
    assert answer.message.startswith("Key ***, wrong: ")


@every_row("size", [101, 150, 1000, 100_000])
@every_row("chunk", [7, 64, 100_000])
async def test_a_line_is_never_longer_than_allowed(size: int, chunk: int):
    """It is skipped, and those after it are read."""
    good = encoded(answered("2", 1))
    long = encoded(answered("1", "")).replace(b'""', b'"' + b"x" * size + b'"')
    data = long + b"\n" + good + b"\n" + long

    chunks = [data[start : start + chunk] for start in range(0, len(data), chunk)]

    reason = f"has more than {len(good) + 10} bytes"
    expected = [Unreadable(1, reason, "1"), Answer("2", 200, "req-1", b"1"), Unreadable(3, reason, "1")]
    assert expected == await read(chunks, max_line_bytes=len(good) + 10)


async def test_a_large_file_takes_little_memory():
    """25 MB of lines: one is in memory at a time; neither is a line without an end."""
    text = encoded(answered("1", "x" * 8000)) + b"\n"
    block = text * 32

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield block
        for _ in range(16):
            yield b"x" * MIB

    count, size = 0, 0
    tracemalloc.start()
    try:
        async for each in read_lines(chunks(), max_line_bytes=MIB):
            count += 1
            size += len(each.body) if isinstance(each, Answer) else 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert (100 * 32 + 1, 100 * 32 * 8002) == (count, size)
    assert peak < 6 * MIB
