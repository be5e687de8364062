"""The paragraph styles of a Word document: which are headings, and which belong to lists. Pure."""

from __future__ import annotations

import re

from shared.documents.docx_numbering import number
from shared.documents.office import Attributes

_HEADING = re.compile(r"heading ([1-9])\Z")
_MAX_LINKS = 20
"""Styles on which a style is based, one after the other."""
_BODY = 9
"""The outline's level of text that is no heading."""


class Style:
    """What a style says itself; None: what it is based on says it."""

    def __init__(self, level: int | None = None, num: str | None = None, depth: int | None = None) -> None:
        self.base = ""
        self.level = level
        """Of a heading, from 1; 0: none."""
        self.num = num
        self.depth = depth


class Styles:
    """Reads `styles.xml` as a Handler."""

    def __init__(self) -> None:
        self._styles: dict[str, Style] = {}
        self._style: Style | None = None

    def start(self, name: str, attributes: Attributes) -> None:
        """See Handler."""
        value = attributes.get("val", "")
        if name == "style":
            self._style = Style() if attributes.get("type") == "paragraph" else None
            if self._style is not None:
                self._styles[attributes.get("styleId", "")] = self._style
        elif self._style is None:
            return
        elif name == "name":
            named = _HEADING.match(value.casefold())
            if named or value.casefold() == "title":
                self._style.level = int(named[1]) if named else 1
        elif name == "basedOn":
            self._style.base = value
        else:
            read_property(self._style, name, value)

    def end(self, name: str) -> None:
        """See Handler."""
        if name == "style":
            self._style = None

    def data(self, text: str) -> None:
        """See Handler."""

    def resolve(self, style_id: str, own: Style) -> Style:
        """Return what a paragraph is by its style and by what it says itself, which comes first."""
        resolved = Style(own.level, own.num, own.depth)
        for _ in range(_MAX_LINKS):
            style = self._styles.get(style_id)
            if style is None:
                break
            resolved.level = style.level if resolved.level is None else resolved.level
            resolved.num = style.num if resolved.num is None else resolved.num
            resolved.depth = style.depth if resolved.depth is None else resolved.depth
            style_id = style.base
        return resolved


def read_property(style: Style, name: str, value: str) -> None:
    """Read an element of a style's or a paragraph's properties: its level in the outline, its list."""
    if name == "outlineLvl":
        level = number(value)
        style.level = level + 1 if 0 <= level < _BODY else 0
    elif name == "numId":
        style.num = value
    elif name == "ilvl":
        style.depth = number(value)
