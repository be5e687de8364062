"""
Turns a foreign event into a job: a customer's template, with its placeholders filled from the event. Pure.

`{{path.to.member}}` in a string of the template is a member of the event, `{{$headers.webhook-id}}` a header of the
request, and `{{{{` two braces. What is filled in is a value, in which no placeholders are expanded: only the template
decides which members the job has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared.contract.decoding import decode
from shared.contract.job import Job
from shared.contract.refusals import printable
from shared.errors import InvalidJob

_PLACEHOLDER = re.compile(r"\{\{\{\{|\{\{([^{}]*)(\}\})?")
_HEADERS = "$headers."
_BRACES = "{{"


def fill(template: bytes, event: bytes, headers: Mapping[str, str], *, limit: int) -> bytes:
    """
    Return the template as JSON, filled from the event's JSON and the request's `webhook-` headers.

    Header names are in lower case. Raises InvalidJob if the template or the event is no JSON object, if the template
    names a member that the event does not have, or if more than `limit` characters would be filled in.
    """
    event_members = decode(event, dict[str, Any], at="event")
    template_members = decode(template, dict[str, Any], at="template")
    webhook_headers = {name: text for name, text in headers.items() if name.startswith("webhook-")}
    try:
        return msgspec.json.encode(_Filling(event_members, webhook_headers, limit).fill(template_members, ""))
    except RecursionError:
        raise InvalidJob("The event, or the customer's template, is nested too deeply.") from None


def check(template: bytes) -> None:
    """Raise InvalidJob if the template can't make a job of any event: its JSON, a member or a placeholder is wrong."""
    members = decode(template, dict[str, Any], at="template")
    for name in members:
        if name not in Job.__struct_fields__:
            raise InvalidJob(f"`{printable(name)}` of the template is not a member of a job.")
    try:
        for at, text in _texts(members, ""):
            for placeholder in _PLACEHOLDER.finditer(text):
                if placeholder[0] != _BRACES * 2:
                    _path(placeholder, at)
    except RecursionError:
        raise InvalidJob("The template is nested too deeply.") from None


@dataclass(slots=True)
class _Filling:
    """Fills one template from one event."""

    event: dict[str, Any]
    headers: Mapping[str, str]
    characters_left: int
    """Characters that may still be filled in; otherwise a template could repeat a large event any number of times."""
    _values: dict[str, tuple[Any, str]] = field(default_factory=dict)
    """The value of each path that was looked up, and its text."""

    def fill(self, value: Any, at: str) -> Any:
        """Return the template's value at the path `at`, filled."""
        if isinstance(value, str):
            return self._fill_text(value, at)
        if isinstance(value, list):
            return [self.fill(item, f"{at}[{number}]") for number, item in enumerate(value)]
        if isinstance(value, dict):
            return {name: self.fill(member, f"{at}.{name}".lstrip(".")) for name, member in value.items()}
        return value

    def _fill_text(self, text: str, at: str) -> Any:
        match = _PLACEHOLDER.fullmatch(text)
        if match is not None and match[0] != _BRACES * 2:
            return self._look_up(match, at)[0]  # the whole string is one placeholder, so the value keeps its type
        return _PLACEHOLDER.sub(lambda m: _BRACES if m[0] == _BRACES * 2 else self._look_up(m, at)[1], text)

    def _look_up(self, placeholder: re.Match[str], at: str) -> tuple[Any, str]:
        """Return the placeholder's value and its text: a string as it is, anything else as JSON."""
        path = _path(placeholder, at)
        if path not in self._values:
            value = self._header(path, at) if path.startswith(_HEADERS) else self._member(path, at)
            self._values[path] = value, value if isinstance(value, str) else msgspec.json.encode(value).decode()
        value_and_text = self._values[path]
        self.characters_left -= len(value_and_text[1])
        if self.characters_left < 0:
            raise InvalidJob("The customer's template, filled from the event, is larger than a job may be.")
        return value_and_text

    def _header(self, path: str, at: str) -> str:
        text = self.headers.get(path.removeprefix(_HEADERS).lower())
        if text is None:
            raise _missing(path, at)
        return text

    def _member(self, path: str, at: str) -> Any:
        value: Any = self.event
        for name in path.split("."):
            if isinstance(value, dict) and name in value:
                value = value[name]
            elif isinstance(value, list) and name.isascii() and name.isdecimal() and _index(name) < len(value):
                value = value[_index(name)]
            else:
                raise _missing(path, at)
        return value


def _texts(value: Any, at: str) -> Iterator[tuple[str, str]]:
    """Yield the strings in a template, each with its path."""
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(item, f"{at}[{number}]")
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from _texts(member, f"{at}.{name}".lstrip("."))


def _path(placeholder: re.Match[str], at: str) -> str:
    path = (placeholder[1] or "").strip()
    if not path or not placeholder[2]:
        raise InvalidJob(f"`{printable(at)}` of the customer's template has an invalid placeholder.")
    return path


def _index(digits: str) -> int:
    return int(digits[:9])  # no list is as long as a number with more digits


def _missing(path: str, at: str) -> InvalidJob:
    return InvalidJob(
        f"The event has no `{printable(path)}`, which `{printable(at)}` of the customer's template refers to."
    )
