"""A response of whatever media type: JSON, text, events or bytes, as a job's output. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from mimetypes import MimeTypes
from typing import Any, Literal

from shared.actions.completion import content_text
from shared.actions.sse import are_readable, json_values, looks_like_events, looks_like_json, read_events
from shared.upstream.messages import Response

# Media types of speech and images for which the standard library has no extension, or not on every machine.
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
class RawOutput:
    """What a response holds."""

    media_type: str
    """Without parameters; `application/octet-stream` if the response has none."""
    output: dict[str, Any] = field(default_factory=dict)
    """`json`, `text` or `events`."""
    json_values: list[Any] = field(default_factory=list)
    """The JSON in the response, in whatever form it is output: its usage is read from it."""
    binary: bool = False
    """The body is to be saved as bytes."""
    malformed: bool = False
    """The body should be JSON and isn't."""


def read_response(response: Response, response_type: str | None) -> RawOutput:
    """Read the response as `response_type` or, if that is None, as its media type says. An empty body has no output."""
    content_type = response.headers.get("content-type", "")
    media_type = content_type.partition(";")[0].strip().lower() or _OCTETS
    if not response.body:  # as of a 204, or of a 202 whose headers say where to poll
        return RawOutput(media_type)
    is_labelled_stream = media_type == _EVENTS and not looks_like_json(response.body) and are_readable(response.body)
    events = read_events(response.body) if is_labelled_stream or looks_like_events(response.body) else []
    if is_labelled_stream and response_type in {None, "json"}:
        return RawOutput(media_type, {"events": events, **_joined_text(events)}, events)
    # Whatever the label says: what the call consumed is read from it.
    is_labelled = response_type == "json" or is_json(media_type)
    values = events or (json_values(response.body) if is_labelled or looks_like_json(response.body) else [])
    match response_type or ("json" if is_json(media_type) else usual_type(media_type)):
        case "json" if values and not events:
            return RawOutput(media_type, {"json": values[0]}, values)
        case "binary":
            return RawOutput(media_type, {}, values, binary=True)
        case kind:
            output = {"text": _text(response.body, content_type)}
            return RawOutput(media_type, output, values, malformed=kind == "json")


def is_json(media_type: str) -> bool:
    """Return whether a media type is JSON, by its name or its suffix (RFC 6839)."""
    return media_type == "application/json" or media_type.endswith("+json")


def extension(media_type: str) -> str:
    """Return the file extension of a media type, the same on every machine; `bin` for an unknown one."""
    guessed = _EXTENSIONS.get(media_type) or MimeTypes(filenames=()).guess_extension(media_type)
    return (guessed or "bin").removeprefix(".")


def usual_type(media_type: str) -> Literal["text", "binary"]:
    """Return how a body of a media type is read that is not read as JSON."""
    is_text = media_type.startswith("text/") or media_type.endswith("+xml") or media_type in _TEXTS
    return "text" if is_text or is_json(media_type) else "binary"


def _text(body: bytes, content_type: str) -> str:
    charset = content_type.lower().partition("charset=")[2].partition(";")[0].strip(" \"'")
    try:
        return body.decode(charset or "utf-8", errors="replace")
    except (LookupError, ValueError):
        return body.decode(errors="replace")


def _joined_text(events: list[Any]) -> dict[str, str]:
    """The first choice's text, if the events are chunks of a chat completion."""
    chunks = [event for event in events if isinstance(event, dict) and event.get("object") == "chat.completion.chunk"]
    pieces = []
    for choice in (choice for chunk in chunks for choice in _objects(chunk.get("choices"))):
        delta = choice.get("delta")
        text = content_text(delta.get("content")) if isinstance(delta, dict) else None
        if choice.get("index", 0) == 0 and text is not None:
            pieces.append(text)
    return {"text": "".join(pieces)} if chunks else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
