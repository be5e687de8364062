"""Event streams, read by the rules of the HTML standard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.actions.sse import event_data, read_error_events, read_events
from tests.support.rows import every_row

STREAMS = {
    "nothing": (b"", []),
    "one": (b"data: a\n\n", ["a"]),
    "no space": (b"data:a\n\n", ["a"]),
    "one space is dropped, and no more": (b"data:  a \n\n", [" a "]),
    "many lines": (b"data: YHOO\ndata: +2\ndata: 10\n\n", ["YHOO\n+2\n10"]),
    "CRLF": (b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", ["a\nb", "c"]),
    "CR": (b"data: a\r\rdata: b\r\r", ["a", "b"]),
    "mixed": (b"data: a\r\n\ndata: b\n\r\n", ["a", "b"]),
    "comments": (b": hello\ndata: a\n:\ndata: b\n: data: c\n\n", ["a\nb"]),
    "other fields": (b"event: add\nid: 1\nretry: 10\ndata: a\nnonsense\n\n", ["a"]),
    "no data, no event": (b"event: add\nid: 1\n\ndata: a\n\n", ["a"]),
    "fields are case-sensitive": (b"Data: a\ndata : b\n\n", []),
    "empty data is data": (b"data\n\ndata\ndata\n\ndata:", ["", "\n"]),
    "cut off": (b"data: a\n\ndata: b\n", ["a"]),
    "cut off in a line": (b"data: a\n\ndata: b", ["a"]),
    "a byte order mark": (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
    "a second byte order mark is part of the field": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
    "blank lines": (b"\n\n\ndata: a\n\n\n\ndata: b\n\n", ["a", "b"]),
    "line ends of other kinds": ("data: a\u2028b\x0bc\x85d\n\n".encode(), ["a\u2028b\x0bc\x85d"]),
    "invalid UTF-8": (b"data: a\xff\n\n", ["a\ufffd"]),
    "a colon in the data": (b"data: a: b\n\n", ["a: b"]),
}


@every_row(("stream", "expected"), STREAMS.values(), ids=STREAMS.keys())
def test_data_follows_the_standard(stream: bytes, expected: list[str]):
    """The data of events follows the standard's rules; some of the streams are its own examples."""
    assert expected == event_data(stream)


def test_json_data_is_decoded():
    """Data that is JSON is decoded, other data stays text, and `[DONE]`, which ends OpenAI's streams, is omitted."""
    stream = b'data: {"a": [1, null]}\n\ndata: {"a":\n\ndata: 7\n\ndata: bye\n\ndata: [DONE]\n\n'
    cut_within_a_character = rb'data: {"a": "b\ud83d"}' + b"\n\n"

    assert [{"a": [1, None]}, '{"a":', 7, "bye", {"a": "b\ufffd"}] == read_events(stream + cut_within_a_character)


@every_row("end", [b"", b"\n", b"\r\n", b"\n\n", b"\n: bye", b"\n: bye\n\n"])
def test_an_object_that_is_whole_counts_without_a_blank_line(end: bytes):
    """Some gateways end a stream without one, and its last event has the usage. What is cut off is no object."""
    stream = b"data: a\n\n"

    assert ["a", {"usage": 1}] == read_events(stream + b'data: {"usage": 1}' + end)
    assert ["a"] == read_events(stream + b'data: {"usage":')
    assert ["a"] == read_events(stream + b"data: [DONE]")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_named_error_are_errors(end: str):
    """The name of an event says so if its data doesn't; no other event is one, nor one that has no data."""
    lines = [
        "event: add",
        "data: {}",
        "",
        'data: {"message": "No."}',
        "event:error",
        "",
        "event: error",
        "data: Bye.",
        "",
    ]
    lines += ["event: error", "", "data: a", "", "event: errors", "data: b", "", "data: event: error", ""]
    stream = "".join(line + end for line in lines).encode()

    assert [{"error": {"message": "No."}}, {"error": "Bye."}] == read_error_events(stream)
    assert [] == read_error_events(b"data: a\n\n")
    assert [{"error": "x"}] == read_error_events(b"event: error\ndata: x\n\n")
    assert [{"error": {"message": "No."}}] == read_error_events(b'event: error\ndata: {"message": "No."}')


LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=8)
DATA = st.lists(LINES, min_size=1, max_size=3).map("\n".join)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])
NOISE = st.sampled_from(["", ": ping", "event: delta", "id: 7", "retry: 5", "other", ":"])


@given(events=st.lists(st.tuples(DATA, NOISE), max_size=6), end=ENDS, mark=st.booleans())
def test_written_events_are_read(events: list[tuple[str, str]], end: str, mark: bool):
    """Events that follow the standard are read one by one, with any other fields between their data."""
    stream = "\ufeff" if mark else ""
    for data, noise in events:
        lines = [*([noise] if noise else []), *(f"data: {line}" for line in data.split("\n")), ""]
        stream += "".join(line + end for line in lines)

    assert [data for data, _ in events] == event_data(stream.encode())


@given(stream=st.binary(max_size=60), end=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_bytes_are_read(stream: bytes, end: bytes):
    """No bytes make reading fail, and the complete events before them are read."""
    before = b"data: first" + end + end

    assert ["first"] == event_data(before + stream)[:1]
    assert len(read_events(before + stream)) <= len(event_data(before + stream))
