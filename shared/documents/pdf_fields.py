"""
What was filled in into a PDF's forms, or written on its pages, and has no picture of its own.

A program that fills in a form may leave it to the reader to draw the values. What is drawn, `pdf_text` reads as a part
of the page. Imported with it alone.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import pypdfium2_raw as pdfium

_MAX_CHARACTERS = 100_000
"""Of a value."""
_UNSEEN = pdfium.FPDF_ANNOT_FLAG_HIDDEN | pdfium.FPDF_ANNOT_FLAG_NOVIEW
_TEXTS = {pdfium.FPDF_ANNOT_WIDGET: b"V", pdfium.FPDF_ANNOT_FREETEXT: b"Contents"}
"""By the kind of an annotation: where its text is."""
_EMPTY = 2
"""The bytes of a text without characters: its end."""


def values_of(page: Any) -> Iterator[str]:
    """Yield the values on a page that are not drawn, each after its field's name if it has one."""
    for index in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        try:
            key = _TEXTS.get(pdfium.FPDFAnnot_GetSubtype(annotation))
            if key is None or pdfium.FPDFAnnot_GetFlags(annotation) & _UNSEEN:
                continue
            if pdfium.FPDFAnnot_GetAP(annotation, pdfium.FPDF_ANNOT_APPEARANCEMODE_NORMAL, None, 0) > _EMPTY:
                continue
            if value := _text(annotation, key).strip():
                name = _text(annotation, b"T").strip() if key == b"V" else ""
                yield f"{name}: {value}" if name else value
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)


def _text(annotation: Any, key: bytes) -> str:
    size = min(pdfium.FPDFAnnot_GetStringValue(annotation, key, None, 0), 2 * _MAX_CHARACTERS)
    if size <= _EMPTY:
        return ""
    buffer = (ctypes.c_ushort * (size // 2))()
    if pdfium.FPDFAnnot_GetStringValue(annotation, key, buffer, size) > size:
        return ""
    return bytes(buffer)[:-2].decode("utf-16-le", "replace")
