"""Responses of any media type as a job's output."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from shared.actions.raw_response import extension, read_response
from tests.support.memory_context import response
from tests.support.rows import every_row

EVENTS = "text/event-stream"


def parsed(media_type: str, output: Any = (), json_values: Any = (), **marks: bool) -> dict[str, Any]:
    """Return what is read of a response."""
    members = {"media_type": media_type, "output": dict(output), "json_values": [*json_values]}
    return members | {"binary": False, "malformed": False} | marks


JSON, TEXT, OCTETS, MP3 = "application/json", "text/plain", "application/octet-stream", "audio/mpeg"
A, INVALID, STREAM = b'{"a": 1}', b'{"a": ', b"data: {}\n\n"
CUT = rb'{"a": "a\ud83d"}'
EVENTS_CUT = parsed(EVENTS, {"events": [{}, {"a": 1}]}, [{}, {"a": 1}])
# The body, its content type, what the job requests, and what is read of it.
RESPONSES = {
    "json": (A, JSON, None, parsed(JSON, {"json": {"a": 1}}, [{"a": 1}])),
    "json requested": (b"[1]", TEXT, "json", parsed(TEXT, {"json": [1]}, [[1]])),
    "json requested as it is": (A, JSON, "json", parsed(JSON, {"json": {"a": 1}}, [{"a": 1}])),
    "json null": (b"null", JSON, None, parsed(JSON, {"json": None}, [None])),
    "json by suffix": (b"[1]", "a/b+json; charset=utf-8", None, parsed("a/b+json", {"json": [1]}, [[1]])),
    "json as text": (A, JSON, "text", parsed(JSON, {"text": '{"a": 1}'}, [{"a": 1}])),
    "json as bytes": (A, JSON, "binary", parsed(JSON, {}, [{"a": 1}], binary=True)),
    "json cut within a character": (CUT, JSON, None, parsed(JSON, {"json": {"a": "a\ufffd"}}, [{"a": "a\ufffd"}])),
    "invalid json": (INVALID, JSON, None, parsed(JSON, {"text": '{"a": '}, malformed=True)),
    "invalid json requested": (INVALID, JSON, "json", parsed(JSON, {"text": '{"a": '}, malformed=True)),
    "text": ("é".encode(), TEXT, None, parsed(TEXT, {"text": "é"})),
    "JSON labelled as text, as bytes": (A, TEXT, "binary", parsed(TEXT, {}, [{"a": 1}], binary=True)),
    "JSON labelled as text": (A, TEXT, None, parsed(TEXT, {"text": '{"a": 1}'}, [{"a": 1}])),
    "events labelled as text": (STREAM, TEXT, None, parsed(TEXT, {"text": "data: {}\n\n"}, [{}])),
    "events of no type": (b"\xef\xbb\xbf: hi\n\n" + STREAM, "", None, parsed(OCTETS, {}, [{}], binary=True)),
    "text as bytes": (b"a", TEXT, "binary", parsed(TEXT, binary=True)),
    "text in its charset": (b"\xe9", "text/csv; charset=ISO-8859-1", None, parsed("text/csv", {"text": "é"})),
    "text in an unknown charset": (
        b"a\xff",
        'text/plain; charset="nonsense"',
        None,
        parsed(TEXT, {"text": "a\ufffd"}),
    ),
    "lines of JSON": (
        b'{"a": 1}\n{}',
        "application/jsonl",
        None,
        parsed("application/jsonl", {"text": '{"a": 1}\n{}'}),
    ),
    "xml": (b"<a/>", "application/atom+xml", None, parsed("application/atom+xml", {"text": "<a/>"})),
    "bytes": (b"\xff", MP3, None, parsed(MP3, binary=True)),
    "bytes with a parameter": (b"\xff", "IMAGE/PNG; x=y", None, parsed("image/png", binary=True)),
    "JSON of no type": (A, "", None, parsed(OCTETS, {}, [{"a": 1}], binary=True)),
    "bytes as text": (b"WEBVTT", OCTETS, "text", parsed(OCTETS, {"text": "WEBVTT"})),
    "no content": (b"", "", None, parsed(OCTETS)),
    "no content, json requested": (b"", "", "json", parsed(OCTETS)),
    "empty json": (b"", JSON, None, parsed(JSON)),
    "empty, json requested": (b"", JSON, "json", parsed(JSON)),
    "empty, text requested": (b"", TEXT, "text", parsed(TEXT)),
    "empty, binary requested": (b"", MP3, "binary", parsed(MP3)),
    "events": (
        b": ping\n\n" + STREAM + b"data: a\n\n",
        EVENTS,
        None,
        parsed(EVENTS, {"events": [{}, "a"]}, [{}, "a"]),
    ),
    "events without the last line end": (STREAM + b'data: {"a": 1}', EVENTS, "json", EVENTS_CUT),
    "events, json requested": (STREAM, EVENTS, "json", parsed(EVENTS, {"events": [{}]}, [{}])),
    "events as text": (STREAM, EVENTS, "text", parsed(EVENTS, {"text": "data: {}\n\n"}, [{}])),
    "events as bytes": (STREAM, EVENTS, "binary", parsed(EVENTS, {}, [{}], binary=True)),
}


@every_row(
    ("body", "content_type", "response_type", "expected"),
    RESPONSES.values(),
    ids=[name.replace(" ", "_") for name in RESPONSES],
)
def test_output_follows_the_media_type(body: bytes, content_type: str, response_type: str | None, expected: Any):
    """
    JSON is output as JSON, text as text, events as a list, and anything else is bytes, unless the job requests a type.

    An empty body has no output; invalid JSON is malformed. The JSON is available for its usage in any case.
    """
    assert expected == asdict(read_response(response(body, content_type=content_type), response_type))


@pytest.mark.parametrize("body", [b"\n" * 1_100_000, b"data: {}\n\n" * 600_000, b"data: [[],[],[],[]]\n\n" * 450_000])
def test_a_stream_of_too_much_is_text(body: bytes):
    """It takes no time and no memory as events; the text is kept."""
    assert body.decode() == read_response(response(body, content_type=EVENTS), None).output["text"]


def chunk(content: Any = None, index: int = 0, **members: Any) -> bytes:
    """Return an event with a chunk of a chat completion."""
    delta = {} if content is None else {"content": content}
    data = {"object": "chat.completion.chunk", "choices": [{"index": index, "delta": delta}]}
    return b"data: " + json.dumps(data | members).encode() + b"\r\n\r\n"


def test_streamed_chat_is_joined():
    """The events of a chat completion are listed, and the text of its first choice is joined."""
    stream = [
        b'data: {"object": "", "model": "", "choices": [], "prompt_filter_results": []}\n\n',
        *(chunk(), chunk("Hel"), chunk("Hi", 1), chunk("lo."), chunk(7), chunk(choices=[{"delta": None}, 7])),
        *(chunk(choices=None), chunk(choices=[], usage={"prompt_tokens": 9}), b"data: [DONE]\n\n"),
    ]

    result = read_response(response(b"".join(stream), content_type=f"{EVENTS}; charset=utf-8"), None)

    assert ("Hello.", 9) == (result.output["text"], len(result.output["events"]))
    assert result.json_values == result.output["events"]
    assert {"prompt_tokens": 9} == result.json_values[-1]["usage"]


@every_row(
    ("media_type", "expected"),
    [
        *(("audio/mpeg", "mp3"), ("audio/wav", "wav"), ("audio/flac", "flac"), ("audio/ogg", "ogg")),
        *(("image/png", "png"), ("image/jpeg", "jpg"), ("image/webp", "webp"), ("application/pdf", "pdf")),
        *(("application/octet-stream", "bin"), ("application/x-own", "bin"), ("x/y", "bin"), ("", "bin")),
    ],
)
def test_extensions_are_the_same_on_every_machine(media_type: str, expected: str):
    """A media type's extension doesn't depend on the machine's own tables."""
    assert expected == extension(media_type)
