"""
Read a complete event stream, or JSON, whatever it is labelled as: bytes to their JSON values. Pure.

The rules are those of html.spec.whatwg.org/multipage/server-sent-events.html, "Interpreting an event stream".
"""

from __future__ import annotations

import re
from typing import Any

from shared.contract.decoding import UNREADABLE, json_value

_FIRST_LINE = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*(?:(?:data|event|id|retry):|:)")
_OPENING = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*[\[{]")
_LINE_END = re.compile(r"\r\n|\n|\r")
"""`str.splitlines` also breaks lines at characters that an event may contain."""


def values_of(body: bytes) -> list[Any]:
    """Return the JSON in a response whose label does not say: the data of its events, or one value, or nothing."""
    if looks_like_events(body):
        return read_events(body)
    return json_values(body) if looks_like_json(body) else []


def looks_like_events(body: bytes) -> bool:
    """Return whether a body begins as an event stream does."""
    return _FIRST_LINE.match(body) is not None


def looks_like_json(body: bytes) -> bool:
    """Return whether a body begins as a list or an object."""
    return _OPENING.match(body) is not None


def json_values(body: bytes) -> list[Any]:
    """Return the value of a JSON text in a list, which is empty if it can't be read."""
    try:
        return [json_value(body)]
    except UNREADABLE:
        return []


def read_events(body: bytes) -> list[Any]:
    """Return each event's data: decoded if it is JSON, else as text. `[DONE]`, which only ends a stream, is omitted."""
    return [_decoded(data) for data in event_data(body) if data != "[DONE]"]


def event_data(body: bytes) -> list[str]:
    """Return the data of each event that has any, in order. An event that the end of the stream cuts off is omitted."""
    events: list[str] = []
    data_lines: list[str] = []
    text = body.decode(errors="replace").removeprefix("\ufeff")
    *lines, _ = _LINE_END.split(text)  # an unfinished last line doesn't count
    for line in lines:
        name, _, value = line.partition(":")
        if not line:
            if data_lines:
                events.append("\n".join(data_lines))
            data_lines = []
        elif name == "data":
            data_lines.append(value.removeprefix(" "))
    return events


def _decoded(data: str) -> Any:
    try:
        return json_value(data.encode())
    except UNREADABLE:
        return data
