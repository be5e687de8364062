"""HTML elements made from texts. Every text passes through `html.escape`, because only `tag` makes markup."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Sequence

_CODE = re.compile(r"`([^`]+)`")
_VOID = {"meta"}


class Html(str):
    """Markup, in contrast to text."""

    __slots__ = ()


def tag(name: str, /, *inner: str, **attributes: str) -> Html:
    """An element; whatever is not Html is escaped. An underscore after a reserved word, as in `class_`, is dropped."""
    opening = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{opening}>" if name in _VOID else f"<{name}{opening}>{joined(inner)}</{name}>")


def joined(parts: Iterable[str]) -> Html:
    """The parts one after the other; those that are not Html are escaped."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part) for part in parts))


def separated(parts: Iterable[str], separator: str) -> Html:
    """The parts with a separator between them."""
    return joined([piece for part in parts for piece in (separator, part)][1:])


def with_code(text: str) -> Iterator[str]:
    """A text in which what is between backticks is code."""
    for number, part in enumerate(_CODE.split(text)):
        yield tag("code", part) if number % 2 else part


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Html:
    """A table with a row of column names."""
    head = tag("tr", *(tag("th", name) for name in names))
    return tag("table", head, *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows))
