"""The numbers of a Word document's lists and headings: "2.", "(a)", "3.1.4". Pure."""

from __future__ import annotations

import re
from collections import defaultdict

from shared.documents.office import Attributes

_LEVELS = 9
_PLACE = re.compile(r"%([1-9])")
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"))
_SMALL_ROMAN = ((10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))
_MAX_ROMAN = 4000
_LETTERS = 26
_MAX_TEXT = 50
"""Characters of a level's pattern."""


class _Level:
    def __init__(self, form: str = "decimal") -> None:
        self.form = form
        self.pattern = ""
        self.start = 1


class Numbering:
    """Reads `numbering.xml` as a Handler, and then counts."""

    def __init__(self) -> None:
        self._lists: dict[str, dict[int, _Level]] = defaultdict(dict)
        """The levels of each abstract list."""
        self._list_of: dict[str, str] = {}
        """The abstract list of each list."""
        self._counts: dict[str, list[int | None]] = {}
        self._abstract = ""
        self._num = ""
        self._level: _Level | None = None

    def start(self, name: str, attributes: Attributes) -> None:
        """See Handler."""
        value = attributes.get("val", "")
        if name == "abstractNum":
            self._abstract, self._num = attributes.get("abstractNumId", ""), ""
        elif name == "num":
            self._abstract, self._num, self._level = "", attributes.get("numId", ""), None
        elif name == "abstractNumId" and self._num:
            self._list_of[self._num] = value
        elif name == "lvl" and self._abstract:
            self._level = self._lists[self._abstract].setdefault(number(attributes.get("ilvl")), _Level())
        elif self._level is not None:
            self._read_level(name, value)

    def _read_level(self, name: str, value: str) -> None:
        assert self._level is not None  # noqa: S101
        if name == "numFmt":
            self._level.form = value
        elif name == "lvlText":
            self._level.pattern = value[:_MAX_TEXT]
        elif name == "start":
            self._level.start = number(value)

    def end(self, name: str) -> None:
        """See Handler."""
        if name == "lvl":
            self._level = None

    def data(self, text: str) -> None:
        """See Handler."""

    def next(self, num: str, depth: int) -> str:
        """Count one more paragraph of a list, and return what stands before it: a number, or a hyphen."""
        depth = min(max(depth, 0), _LEVELS - 1)
        abstract = self._list_of.get(num, "")
        levels = self._lists.get(abstract, {})
        level = levels.get(depth, _Level("bullet"))
        counts = self._counts.setdefault(abstract, [None] * _LEVELS)
        before = counts[depth]
        counts[depth] = level.start if before is None else before + 1
        counts[depth + 1 :] = [None] * (_LEVELS - depth - 1)
        if level.form in {"bullet", "none", ""} or "%" not in level.pattern:
            return "-"

        def shown(match: re.Match[str]) -> str:
            at = int(match[1]) - 1
            other = levels.get(at, _Level())
            return _formatted(counts[at] if counts[at] is not None else other.start, other.form)  # type: ignore[arg-type]

        return _PLACE.sub(shown, level.pattern)


def number(text: str | None) -> int:
    """Return a number that a document says, or 0."""
    try:
        return min(max(int(text or 0), -1), 1_000_000)
    except ValueError:
        return 0


def _formatted(count: int, form: str) -> str:
    if form in {"lowerLetter", "upperLetter"} and count > 0:
        text = chr(ord("a") + (count - 1) % _LETTERS) * min((count - 1) // _LETTERS + 1, 9)
    elif form in {"lowerRoman", "upperRoman"} and 0 < count < _MAX_ROMAN:
        text = _roman(count)
    else:
        text = str(count)
    return text.upper() if form.startswith("upper") else text


def _roman(count: int) -> str:
    text = ""
    for value, letters in _ROMAN + _SMALL_ROMAN:
        text += letters * (count // value)
        count %= value
    return text
