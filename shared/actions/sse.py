"""
Read a complete event stream, or JSON, whatever it is labelled as: bytes to their JSON values. Pure.

The rules are those of html.spec.whatwg.org/multipage/server-sent-events.html, "Interpreting an event stream".
"""

from __future__ import annotations

import re
from typing import Any

from shared.contract.decoding import UNREADABLE, find_foreign_excess, json_value

_FIRST_LINE = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*+(?:(?:data|event|id|retry):|:)")
_OPENING = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*+[\[{]")
_MAX_LINES = 1_000_000
"""Of a stream: reading it takes up to three microseconds for each. One of 64 MiB that a model wrote has fewer."""
_ERROR_NAME = re.compile(rb"event: ?error[\r\n]")
"""Which begins as it does, and not with the end of a line, so that it is looked for quickly."""


def values_of(body: bytes) -> list[Any]:
    """Return the JSON in a response whose label does not say: the data of its events, or one value, or nothing."""
    if looks_like_events(body):
        return read_events(body)
    return json_values(body) if looks_like_json(body) else []


def looks_like_events(body: bytes) -> bool:
    """Return whether a body begins as an event stream does, and can be read as one."""
    return _FIRST_LINE.match(body) is not None and are_readable(body)


def are_readable(body: bytes) -> bool:
    """Return whether reading a stream takes a bounded time, and its events a bounded memory."""
    if body.count(b"\n") + body.count(b"\r") > _MAX_LINES:
        return False
    return not find_foreign_excess(body)


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
    """
    Return each event's data: decoded if it is JSON, else as text. `[DONE]`, which only ends a stream, is omitted.

    An object that is whole counts although the blank line after it is missing: it may hold the usage.
    """
    return [_decoded(data) for _, data in _named_data(body, keep_whole=True) if data != "[DONE]"]


def read_error_events(body: bytes) -> list[Any]:
    """Return the data of each event whose name is `error`, each as the `error` of an object."""
    if _ERROR_NAME.search(body) is None:
        return []
    return [{"error": _decoded(data)} for name, data in _named_data(body, keep_whole=True) if name == "error"]


def event_data(body: bytes) -> list[str]:
    """Return the data of each event that has any, in order. An event that the end of the stream cuts off is omitted."""
    return [data for _, data in _named_data(body)]


def _named_data(body: bytes, *, keep_whole: bool = False) -> list[tuple[str, str]]:
    """As `event_data`, each with the name of its event; empty if it has none."""
    events: list[tuple[str, str]] = []
    data_lines: list[str] = []
    event = ""
    text = body.decode(errors="replace").removeprefix("\ufeff")
    # `str.splitlines` also breaks lines at characters that an event may contain; an unfinished last line doesn't count.
    *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for line in lines:
        name, _, value = line.partition(":")
        if not line:
            if data_lines:
                events.append((event, "\n".join(data_lines)))
            data_lines, event = [], ""
        elif name == "data":
            data_lines.append(value.removeprefix(" "))
        elif name == "event":
            event = value.removeprefix(" ")
    if keep_whole:
        name, _, value = rest.partition(":")
        last = "\n".join([*data_lines, *((value.removeprefix(" "),) if name == "data" else ())])
        if isinstance(_decoded(last), dict):
            events.append((event, last))
    return events


def _decoded(data: str) -> Any:
    try:
        return json_value(data.encode())
    except UNREADABLE:
        return data
