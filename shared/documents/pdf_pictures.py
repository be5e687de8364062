"""Draws pages of a PDF, by PDFium, as grey PNG pictures of bounded size. Imported with `pdf_text` alone."""

from __future__ import annotations

import ctypes
import struct
import zlib
from typing import Any

import pypdfium2_raw as pdfium

from shared.documents.kinds import Unreadable
from shared.documents.pictures import MAX_PICTURE_BYTES, MAX_PICTURES, PNG

LONGER_SIDE = 1536
"""Pixels. Models that see make larger pictures smaller (docs/actions/summarize.md)."""
_WHITE = 0xFFFFFFFF
_GREYS = bytes(value // 16 * 17 for value in range(256))
"""Sixteen of them: letters stay as they are, and a scanner's noise takes little room."""
_BITS, _GREY = 8, 0


def draw(document: Any, indexes: list[int]) -> dict[int, bytes]:
    """
    Return these pages of a document as pictures, by their indexes, without those on which nothing is to be seen.

    Raises Unreadable if they are too many, or have too many bytes.
    """
    pictures, left = dict[int, bytes](), MAX_PICTURE_BYTES
    for index in indexes:
        picture = _draw(document, index)
        if picture is None:
            continue
        left -= len(picture)
        if left < 0 or len(pictures) == MAX_PICTURES:
            raise Unreadable("pictures")
        pictures[index] = picture
    return pictures


def _draw(document: Any, index: int) -> bytes | None:
    page = pdfium.FPDF_LoadPage(document, index)
    if not page:
        raise Unreadable("damaged")
    bitmap = None
    try:
        size = pdfium.FPDF_GetPageWidthF(page), pdfium.FPDF_GetPageHeightF(page)
        scale = LONGER_SIDE / max(*size, 1.0)
        width, height = (min(max(round(side * scale), 1), LONGER_SIDE) for side in size)
        bitmap = pdfium.FPDFBitmap_CreateEx(width, height, pdfium.FPDFBitmap_Gray, None, 0)
        if not bitmap:
            raise MemoryError
        pdfium.FPDFBitmap_FillRect(bitmap, 0, 0, width, height, _WHITE)
        pdfium.FPDF_RenderPageBitmap(bitmap, page, 0, 0, width, height, 0, pdfium.FPDF_ANNOT)
        stride = pdfium.FPDFBitmap_GetStride(bitmap)
        pixels = ctypes.string_at(pdfium.FPDFBitmap_GetBuffer(bitmap), stride * height).translate(_GREYS)
        rows = [pixels[start : start + width] for start in range(0, stride * height, stride)]
        return None if set(rows) == {rows[0][:1] * width} else _png(width, rows)
    finally:
        if bitmap:
            pdfium.FPDFBitmap_Destroy(bitmap)
        pdfium.FPDF_ClosePage(page)


def _png(width: int, rows: list[bytes]) -> bytes:
    """Return rows of grey pixels as PNG (w3.org/TR/png)."""
    header = struct.pack(">IIBBBBB", width, len(rows), _BITS, _GREY, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return PNG + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
