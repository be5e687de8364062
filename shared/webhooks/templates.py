"""
What a foreign event asks of us: a customer's template with its placeholders filled from the event. Pure.

`{{path.to.member}}` in a string of the template is a member of the event, `{{$headers.webhook-id}}` a header of
its delivery, `{{{{` two braces. What is filled in is a value and never looked at again: the template alone says
which members there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared.contract.decoding import decode
from shared.contract.refusals import printable
from shared.errors import InvalidJob

_PLACE = re.compile(r"\{\{\{\{|\{\{([^{}]*)(\}\})?")
_HEADERS = "$headers."
_OPEN = "{{"


def fill(template: bytes, event: bytes, headers: Mapping[str, str], *, limit: int) -> bytes:
    """
    The template as JSON, filled from the event's JSON and the delivery's `webhook-` headers (names in lower case).

    Raises InvalidJob: where one of the two is no JSON object, where the template names a member that the event
    does not have, and where more than `limit` characters would be filled in.
    """
    told = decode(event, dict[str, Any], at="event")
    asked = decode(template, dict[str, Any], at="template")
    named = {name: text for name, text in headers.items() if name.startswith("webhook-")}
    try:
        return msgspec.json.encode(_Filling(told, named, limit).of(asked, ""))
    except RecursionError:
        raise InvalidJob("The event, or the customer's template, is nested too deeply.") from None


@dataclass(slots=True)
class _Filling:
    """One event on its way into a template."""

    event: dict[str, Any]
    headers: Mapping[str, str]
    left: int
    """Characters that may still be filled in: a large event could else be repeated without end."""
    _known: dict[str, tuple[Any, str]] = field(default_factory=dict)

    def of(self, value: Any, at: str) -> Any:
        """What stands in the template at `at`, filled."""
        if isinstance(value, str):
            return self._text(value, at)
        if isinstance(value, list):
            return [self.of(one, f"{at}[{number}]") for number, one in enumerate(value)]
        if isinstance(value, dict):
            return {name: self.of(one, f"{at}.{name}".lstrip(".")) for name, one in value.items()}
        return value

    def _text(self, text: str, at: str) -> Any:
        whole = _PLACE.fullmatch(text)
        if whole is not None and whole[0] != _OPEN * 2:
            return self._find(whole, at)[0]
        return _PLACE.sub(lambda place: _OPEN if place[0] == _OPEN * 2 else self._find(place, at)[1], text)

    def _find(self, place: re.Match[str], at: str) -> tuple[Any, str]:
        """The value that a placeholder stands for, and its text: a string as it is, anything else as JSON."""
        path = (place[1] or "").strip()
        if not path or not place[2]:
            raise InvalidJob(f"`{printable(at)}` of the customer's template has a placeholder that is none.")
        if path not in self._known:
            value = self._header(path, at) if path.startswith(_HEADERS) else self._member(path, at)
            self._known[path] = value, value if isinstance(value, str) else msgspec.json.encode(value).decode()
        found = self._known[path]
        self.left -= len(found[1])
        if self.left < 0:
            raise InvalidJob("The event fills the customer's template with more than a job may have.")
        return found

    def _header(self, path: str, at: str) -> str:
        text = self.headers.get(path.removeprefix(_HEADERS).lower())
        if text is None:
            raise _missing(path, at)
        return text

    def _member(self, path: str, at: str) -> Any:
        value: Any = self.event
        for step in path.split("."):
            if isinstance(value, dict) and step in value:
                value = value[step]
            elif isinstance(value, list) and step.isascii() and step.isdecimal() and _index(step) < len(value):
                value = value[_index(step)]
            else:
                raise _missing(path, at)
        return value


def _index(step: str) -> int:
    return int(step[:9])  # no list is as long as a longer number says


def _missing(path: str, at: str) -> InvalidJob:
    return InvalidJob(
        f"The event has no `{printable(path)}`, which `{printable(at)}` of the customer's template names."
    )
