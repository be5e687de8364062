"""
Lines of a PDF's page, from the places of its characters.

PDFium takes a page for vertical writing if its lines leave a gap from top to bottom, as those of a letter with a date
on the right do. It then breaks lines between characters. Imported with `pdf_text` alone.
"""

from __future__ import annotations

import ctypes
import re
import unicodedata
from typing import Any, NamedTuple

import pypdfium2_raw as pdfium

_BREAK = re.compile(r"(?<=[^\r\n])\r?\n(?=[^\r\n])")
_SAME_LINE = 0.4
"""How far apart the baselines of a line's characters may be, in heights of the type."""
_FEW = 4
"""One of so many breaks, or more, are a sign of it."""
_SPACE = 0.18
"""The gap that is a space, in the same measure."""
_RTL = frozenset({"R", "AL"})
_KINDS = {"L": "l", "EN": "n", "AN": "n", "CS": "s", "ES": "s", "ET": "t", "R": "r", "AL": "r", "NSM": "r"}
"""What a character is in a line, by its class (unicode.org/reports/tr9): `o` for what goes with its neighbors."""
# What stands from left to right: words with what is between them, and numbers with their points and percent signs.
_RUN = re.compile(r"l(?:[^r]*(?:l|nt*))?|t*n(?:s?n)*t*")


class _Glyph(NamedTuple):
    char: str
    x: float
    y: float
    right: float
    size: float


def is_broken(text_page: Any, text: str) -> bool:
    """Return whether many of the breaks in a page's text are between characters of one line."""
    breaks = same = 0
    for match in _BREAK.finditer(text):
        before, after = (
            pdfium.FPDFText_GetCharIndexFromTextIndex(text_page, index) for index in (match.start() - 1, match.end())
        )
        (x1, y1), (x2, y2) = _origin(text_page, before), _origin(text_page, after)
        breaks += 1
        same += abs(y1 - y2) < _SAME_LINE * _height(text_page, after) and x1 != x2
    return same * _FEW > breaks


def lines_of(text_page: Any, count: int) -> list[str]:
    """Return the lines of a page with so many characters."""
    box, glyphs = pdfium.FS_RECTF(), []
    for index in range(count):
        code = pdfium.FPDFText_GetUnicode(text_page, index)
        if pdfium.FPDFText_IsGenerated(text_page, index) or not 0 < code <= 0x10FFFF:  # noqa: PLR2004  # Unicode's last
            continue
        size = _height(text_page, index, box)
        x, y = _origin(text_page, index)
        glyphs.append(_Glyph(chr(code), x, y, box.right, size))
    lines: list[list[_Glyph]] = []
    for glyph in glyphs:
        if not lines or abs(lines[-1][-1].y - glyph.y) > _SAME_LINE * glyph.size:
            lines.append([])
        lines[-1].append(glyph)
    return [_text_of(line) for line in lines]


def _text_of(line: list[_Glyph]) -> str:
    is_rtl = any(unicodedata.bidirectional(glyph.char) in _RTL for glyph in line)
    if is_rtl:
        line = sorted(line, key=lambda glyph: glyph.x)
    parts: list[str] = []
    before: _Glyph | None = None
    for glyph in line:
        if before is not None and not before.char.isspace() and not glyph.char.isspace():
            gap = max(glyph.x - before.right, before.x - glyph.right)
            parts.append(" " * (gap > _SPACE * glyph.size))
        parts.append(glyph.char)
        before = glyph
    text = "".join(parts)
    return _in_reading_order(text) if is_rtl else text


def _in_reading_order(text: str) -> str:
    """Return a line that was written from right to left, whose characters stand as one sees them."""
    kinds = "".join(_KINDS.get(unicodedata.bidirectional(char), "o") for char in text)
    runs, end = [], 0
    for match in _RUN.finditer(kinds):
        runs += [text[end : match.start()][::-1], text[match.start() : match.end()]]
        end = match.end()
    return "".join(reversed([*runs, text[end:][::-1]]))


def _height(text_page: Any, index: int, box: Any = None) -> float:
    """Return the height of the type of a character, and its place in the `box` if there is one."""
    box = pdfium.FS_RECTF() if box is None else box
    pdfium.FPDFText_GetLooseCharBox(text_page, index, box)
    return max(abs(float(box.top) - float(box.bottom)), 1.0)


def _origin(text_page: Any, index: int) -> tuple[float, float]:
    x, y = ctypes.c_double(), ctypes.c_double()
    pdfium.FPDFText_GetCharOrigin(text_page, index, x, y)
    return x.value, y.value
