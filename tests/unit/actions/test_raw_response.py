"""Responses of any media type as a job's output."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.actions.raw_response import RawOutput, extension, read_response
from tests.support.memory_context import response

EVENT_STREAM = "text/event-stream; charset=utf-8"

OUTPUTS = {
    "json": (b'{"a": 1}', "application/json", None, {"json": {"a": 1}}),
    "json null": (b"null", "application/json", None, {"json": None}),
    "json by suffix": (b"[1]", "application/problem+json; charset=utf-8", None, {"json": [1]}),
    "json requested": (b"[1]", "text/plain", "json", {"json": [1]}),
    "json as text": (b'{"a": 1}', "application/json", "text", {"text": '{"a": 1}'}),
    "json cut within a character": (rb'{"a": "a\ud83d"}', "application/json", None, {"json": {"a": "a\ufffd"}}),
    "text": ("é".encode(), "text/plain", None, {"text": "é"}),
    "text in its charset": (b"\xe9", "text/csv; charset=ISO-8859-1", None, {"text": "é"}),
    "text in an unknown charset": (b"a\xff", 'text/plain; charset="nonsense"', None, {"text": "a\ufffd"}),
    "lines of JSON": (b'{"a": 1}\n{}', "application/jsonl", None, {"text": '{"a": 1}\n{}'}),
    "xml": (b"<a/>", "application/atom+xml", None, {"text": "<a/>"}),
    "bytes as text": (b"WEBVTT", "application/octet-stream", "text", {"text": "WEBVTT"}),
    "no content": (b"", "", None, {}),
    "no content, json requested": (b"", "", "json", {}),
    "empty json": (b"", "application/json", None, {}),
    "empty, json requested": (b"", "application/json", "json", {}),
    "empty, text requested": (b"", "text/plain", "text", {}),
    "empty, binary requested": (b"", "audio/mpeg", "binary", {}),
}


def read(body: bytes, content_type: str, response_type: str | None = None) -> RawOutput:
    """Return what is read of a response."""
    return read_response(response(body, content_type=content_type), response_type)


@pytest.mark.parametrize(
    ("body", "content_type", "response_type", "output"),
    OUTPUTS.values(),
    ids=[name.replace(" ", "_") for name in OUTPUTS],
)
def test_output_follows_the_media_type(
    body: bytes, content_type: str, response_type: str | None, output: dict[str, Any]
):
    """JSON is output as JSON and text as text, unless the job requests another type; an empty body has no output."""
    result = read(body, content_type, response_type)

    assert (output, False, False) == (result.output, result.binary, result.malformed)


@pytest.mark.parametrize(
    ("content_type", "response_type", "media_type"),
    [
        ("audio/mpeg", None, "audio/mpeg"),
        ("IMAGE/PNG; x=y", None, "image/png"),
        ("", None, "application/octet-stream"),
        ("application/json", "binary", "application/json"),
        ("text/plain", "binary", "text/plain"),
    ],
)
def test_other_types_are_binary(content_type: str, response_type: str | None, media_type: str):
    """A body that is neither JSON nor text, or is requested as binary, is saved as bytes with its media type."""
    result = read(b'{"a": 1}', content_type, response_type)

    assert (media_type, {}, True) == (result.media_type, result.output, result.binary)


@pytest.mark.parametrize("response_type", [None, "json"])
def test_invalid_json_is_malformed(response_type: str | None):
    """A body that should be JSON and isn't is malformed, and output as text."""
    result = read(b'{"a": ', "application/json", response_type)

    assert ({"text": '{"a": '}, True, []) == (result.output, result.malformed, result.json_values)


@pytest.mark.parametrize("response_type", [None, "json", "text", "binary"])
def test_usage_is_readable_whatever_the_output(response_type: str | None):
    """The JSON of a response is available for its usage also if it is output as text or saved as bytes."""
    assert [{"a": 1}] == read(b'{"a": 1}', "application/json", response_type).json_values


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

    result = read(b"".join(stream), EVENT_STREAM)

    assert ("Hello.", 9) == (result.output["text"], len(result.output["events"]))
    assert result.json_values == result.output["events"]
    assert {"prompt_tokens": 9} == result.json_values[-1]["usage"]


@pytest.mark.parametrize("response_type", [None, "json"])
def test_other_events_are_listed(response_type: str | None):
    """Other streams are listed without a joined text."""
    stream = b"event: response.created\ndata: {}\n\n: ping\n\ndata: tick\n\n"

    assert {"events": [{}, "tick"]} == read(stream, EVENT_STREAM, response_type).output


@pytest.mark.parametrize(("response_type", "output"), [("text", {"text": "data: {}\n\n"}), ("binary", {})])
def test_events_as_text_or_binary(response_type: str, output: dict[str, Any]):
    """A stream can be requested as text or bytes; its events are still available for the usage."""
    result = read(b"data: {}\n\n", EVENT_STREAM, response_type)

    assert (output, [{}]) == (result.output, result.json_values)


@pytest.mark.parametrize(
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
