"""
Event streams, as they stand when they have been read whole: bytes to what their events say. Pure.

After html.spec.whatwg.org/multipage/server-sent-events.html, "Interpreting an event stream".
"""

from __future__ import annotations

import re
from typing import Any

from shared.contract.decoding import UNREADABLE, json_value

_LINE_END = re.compile(r"\r\n|\n|\r")
"""Not `str.splitlines`, which breaks at characters that may stand in an event."""


def read_events(body: bytes) -> list[Any]:
    """What each event says: JSON where it is some, else its text. `[DONE]`, which only ends a stream, is left out."""
    return [_parsed(text) for text in event_data(body) if text != "[DONE]"]


def event_data(body: bytes) -> list[str]:
    """The data of each event that has any, in order. An event that the stream breaks off in is none."""
    found: list[str] = []
    lines: list[str] = []
    text = body.decode(errors="replace").removeprefix("\ufeff")
    *whole, _ = _LINE_END.split(text)  # what stands behind the last line's end is no line
    for line in whole:
        name, _, value = line.partition(":")
        if not line:
            if lines:
                found.append("\n".join(lines))
            lines = []
        elif name == "data":
            lines.append(value.removeprefix(" "))
    return found


def _parsed(text: str) -> Any:
    try:
        return json_value(text.encode())
    except UNREADABLE:
        return text
