"""
The text of a PDF, page by page, by PDFium. Lines in larger type than the text become headings.

Only the process that reads documents imports this: PDFium takes 8 MB and a twentieth of a second. The rest of its
package, which nothing here needs, would take as long again.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, BinaryIO

import pypdfium2_raw as pdfium

from shared.documents.extracted import Extracted, ranges
from shared.documents.kinds import Unreadable
from shared.documents.pdf_fields import values_of
from shared.documents.pdf_glyphs import is_broken
from shared.documents.pdf_glyphs import lines_of as lines_by_position
from shared.documents.pictures import ANCHORS, anchor
from shared.documents.text_builder import MAX_TEXT_BYTES, TextBuilder

_LARGER = 1.15
"""How much larger a heading's type is than the text's."""
_MAX_HEADING = 150
"""Characters."""
_LEVELS = 4
_FONT_STEP = 2
"""Sizes of type are compared in halves of a point."""
# A hyphen at the end of a line, which PDFium takes out of the word.
_HYPHEN = re.compile("[\x02\ufffe]\r?\n?")
# A bullet that the font may have in its own place.
_BULLET = re.compile("\\s*[•‣◦▪●○■□\u2013\ue000-\uf8ff]\\s+")
# Places of a font's own, and codes that it says nothing of.
_UNKNOWN = re.compile("[\ue000-\uf8ff\ufffd\x00\x01\x03-\x08\x0b\x0c\x0e-\x1f]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_PICTURES = (pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_PATH, pdfium.FPDF_PAGEOBJ_FORM)

pdfium.FPDF_InitLibraryWithConfig(pdfium.FPDF_LIBRARY_CONFIG(version=2))

Draw = Callable[[Any, list[int]], Mapping[int, bytes]]
"""Draws the pages of a document that have these indexes, as far as there is something to be seen on them."""
_Line = tuple[str, int]
"""A line, and the size of its type in halves of a point; 0 if it is unknown."""


def read_pdf(file: BinaryIO, *, draw: Draw | None = None) -> Extracted:
    """Return the text of a PDF, and what `draw` makes of the pages that have none. Raises Unreadable."""
    data = file.read()
    document = pdfium.FPDF_LoadMemDocument64(data, len(data), None)
    if not document:
        is_encrypted = pdfium.FPDF_GetLastError() in {pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY}
        raise Unreadable("encrypted" if is_encrypted else "damaged")
    pages: list[list[_Line]] = []
    without_text, size, is_whole = list[int](), 0, False
    for index in range(pdfium.FPDF_GetPageCount(document)):
        read = _read_page(document, index)
        is_whole |= read is not None
        lines, has_picture = read or ([], True)  # what is lost is not left out without a word
        pages.append(lines)
        size += sum(len(text) for text, _ in lines)
        if size > MAX_TEXT_BYTES:
            raise Unreadable("too_long")
        if not lines and has_picture:
            without_text.append(index)
    if not is_whole:
        raise Unreadable("damaged")
    if draw is None:
        return Extracted("pdf", _text_of(pages, {}), len(pages), ranges([index + 1 for index in without_text]))
    pictures = draw(document, without_text)
    text = _text_of(pages, dict(zip(pictures, map(anchor, count()), strict=False)))
    return Extracted("pdf", text, len(pages), ranges([index + 1 for index in pictures]), tuple(pictures.values()))


def _read_page(document: Any, index: int) -> tuple[list[_Line], bool] | None:
    """Return a page's lines and, if it has none, whether something is to be seen on it; None if it is damaged."""
    page = pdfium.FPDF_LoadPage(document, index)
    values: list[_Line] = []
    if page and pdfium.FPDFPage_GetAnnotCount(page):
        values = [(value, 0) for value in values_of(page)]
        # What is filled in into a form, or written on a page, becomes a part of it when it is loaded anew.
        pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY)
        pdfium.FPDF_ClosePage(page)
        page = pdfium.FPDF_LoadPage(document, index)
    if not page:
        return None
    try:
        text_page = pdfium.FPDFText_LoadPage(page)
        if not text_page:
            return None
        try:
            lines = _lines_of(text_page)
        finally:
            pdfium.FPDFText_ClosePage(text_page)
        if lines is None:
            return [], True
        lines += values
        return lines, not lines and _has_picture(page)
    finally:
        pdfium.FPDF_ClosePage(page)


def _is_illegible(text: str) -> bool:
    """Return whether a page's fonts do not say what most of its characters are."""
    unknown = len(_UNKNOWN.findall(text))
    return unknown > 0 and 2 * unknown > len(re.sub(r"[ \t\r\n]+", "", text))


def _has_picture(page: Any) -> bool:
    return any(
        pdfium.FPDFPageObj_GetType(pdfium.FPDFPage_GetObject(page, index)) in _PICTURES
        for index in range(pdfium.FPDFPage_CountObjects(page))
    )


def _lines_of(text_page: Any) -> list[_Line] | None:
    """Return a page's lines; None if nobody can tell what its characters are."""
    count = pdfium.FPDFText_CountChars(text_page)
    if count <= 0:
        return []
    buffer = (ctypes.c_ushort * (2 * count + 1))()  # a character beyond the first 65,536 has two
    written = pdfium.FPDFText_GetText(text_page, 0, count, buffer)
    text = bytes(buffer)[: 2 * max(0, written - 1)].decode("utf-16-le", "replace")
    if _is_illegible(text):
        return None
    if is_broken(text_page, text):
        return [(line, 0) for line in lines_by_position(text_page, count) if line.strip()]
    lines, start = [], 0
    for line in text.splitlines(keepends=True):
        if line.strip():
            lines.append((line, _type_size(text_page, start + len(line) - len(line.lstrip()))))
        start += len(line)
    return _joined(lines)


def _joined(lines: list[_Line]) -> list[_Line]:
    """Return the lines without their ends. Words that were hyphenated are whole again."""
    joined: list[_Line] = []
    is_open = False
    for line, size in lines:
        ends_open = line.rstrip("\r\n").endswith(("\x02", "\ufffe"))
        text = _CONTROL.sub("", _HYPHEN.sub("", line)).rstrip()
        if is_open:
            joined[-1] = joined[-1][0] + text, joined[-1][1]
        elif text.strip():
            joined.append((text, size))
        is_open = ends_open and bool(joined)
    return joined


def _type_size(text_page: Any, text_index: int) -> int:
    matrix, index = pdfium.FS_MATRIX(), pdfium.FPDFText_GetCharIndexFromTextIndex(text_page, text_index)
    if not pdfium.FPDFText_GetMatrix(text_page, index, matrix):
        return 0
    scale = math.hypot(matrix.c, matrix.d)
    return round(float(pdfium.FPDFText_GetFontSize(text_page, index)) * scale * _FONT_STEP)


def _text_of(pages: list[list[_Line]], anchors: Mapping[int, str]) -> str:
    sizes = Counter[int]()
    for lines in pages:
        for text, size in lines:
            sizes[size] += len(text)
    if not sizes and not anchors:
        return ""
    usual = max(sizes, key=lambda size: sizes[size], default=0)
    larger = sorted((size for size in sizes if usual and size >= usual * _LARGER), reverse=True)
    levels = {size: min(rank, _LEVELS) for rank, size in enumerate(larger, 1)}
    builder = TextBuilder()
    for index, lines in enumerate(pages):
        if lines or index in anchors:
            builder.mark("Page", index + 1)
            _write_page(builder, [(ANCHORS.sub("", text), size) for text, size in lines] if anchors else lines, levels)
            builder.paragraph(anchors.get(index, ""))
    return builder.text()


def _write_page(builder: TextBuilder, lines: list[_Line], levels: dict[int, int]) -> None:
    """Write a page: lines of the same kind, one after the other, are one heading or one paragraph."""
    current: list[str] = []
    current_level: int | None = None

    def end() -> None:
        text = "\n".join(current)
        if current_level and len(text) <= _MAX_HEADING:
            builder.heading(current_level, text)
        else:
            builder.paragraph(text)
        current.clear()

    for text, size in lines:
        if bullet := _BULLET.match(text):
            end()
            builder.item(text[bullet.end() :], 0)
            current_level = None
            continue
        level = levels.get(size)
        if current and level != current_level:
            end()
        current_level = level
        current.append(text)
    end()
