"""A reply of whatever media type: JSON, text, events or bytes, and what to make of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from mimetypes import MimeTypes
from typing import Any

from shared.actions.sse import read_events
from shared.contract.decoding import UNREADABLE, json_value
from shared.upstream.messages import Reply

# What speech and pictures come in and the standard library names no file for, or not on every machine.
_EXTENSIONS = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/flac": "flac",
    "audio/ogg": "ogg",
    "audio/pcm": "pcm",
    "image/webp": "webp",
}
_TEXTS = {"application/xml", "application/jsonl", "application/x-ndjson", "application/x-subrip", "application/yaml"}
_EVENTS = "text/event-stream"
_OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class RawReply:
    """What a reply holds."""

    media_type: str
    """Without parameters; `application/octet-stream` where the reply has none."""
    output: dict[str, Any] = field(default_factory=dict)
    """`json`, `text` or `events`, as it is."""
    said: list[Any] = field(default_factory=list)
    """The JSON in it, whatever was made of it, for its usage."""
    binary: bool = False
    """It is to be kept as bytes."""
    broken: bool = False
    """It was to be JSON and is not."""


def read_reply(reply: Reply, response_type: str | None) -> RawReply:
    """The reply as `response_type`; where there is none, as its media type tells. Of an empty one nothing is made."""
    written = reply.headers.get("content-type", "")
    media_type = written.partition(";")[0].strip().lower() or _OCTETS
    if not reply.body:  # as of a 204, or of a 202 whose headers say where to ask later
        return RawReply(media_type)
    if media_type == _EVENTS:
        events = read_events(reply.body)
        if response_type in {None, "json"}:
            return RawReply(media_type, {"events": events, **_joined(events)}, events)
    else:
        events = []
    found = _json(reply.body) if response_type == "json" or is_json(media_type) else []
    said = events or found
    match response_type or _usual(media_type):
        case "json" if found:
            return RawReply(media_type, {"json": found[0]}, said)
        case "binary":
            return RawReply(media_type, {}, said, binary=True)
        case kind:
            return RawReply(media_type, {"text": _text(reply.body, written)}, said, broken=kind == "json")


def is_json(media_type: str) -> bool:
    """Whether a media type is JSON's, by its name or its suffix (RFC 6839)."""
    return media_type == "application/json" or media_type.endswith("+json")


def extension(media_type: str) -> str:
    """What a file of this type is called behind the dot; `bin` where nothing is known. The same on every machine."""
    known = _EXTENSIONS.get(media_type) or MimeTypes(filenames=()).guess_extension(media_type)
    return (known or "bin").removeprefix(".")


def _usual(media_type: str) -> str:
    if is_json(media_type):
        return "json"
    return "text" if media_type.startswith("text/") or media_type.endswith("+xml") or media_type in _TEXTS else "binary"


def _json(body: bytes) -> list[Any]:
    try:
        return [json_value(body)]
    except UNREADABLE:
        return []


def _text(body: bytes, content_type: str) -> str:
    charset = content_type.lower().partition("charset=")[2].partition(";")[0].strip(" \"'")
    try:
        return body.decode(charset or "utf-8", errors="replace")
    except (LookupError, ValueError):
        return body.decode(errors="replace")


def _joined(events: list[Any]) -> dict[str, str]:
    """The first choice's text, where the events are pieces of a chat completion."""
    chunks = [event for event in events if isinstance(event, dict) and event.get("object") == "chat.completion.chunk"]
    pieces = []
    for choice in (choice for chunk in chunks for choice in _objects(chunk.get("choices"))):
        delta = choice.get("delta")
        content = delta.get("content") if isinstance(delta, dict) else None
        if choice.get("index", 0) == 0 and isinstance(content, str):
            pieces.append(content)
    return {"text": "".join(pieces)} if chunks else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
