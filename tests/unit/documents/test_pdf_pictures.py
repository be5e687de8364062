"""Pages of PDFs that have no text, as pictures: what is on them, how many there are, and where they are in the text."""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from typing import BinaryIO, cast

import pytest

from shared.actions.image_format import ImageInfo, inspect_image
from shared.documents import process
from shared.documents.child import extract
from shared.documents.extract import reader_for
from shared.documents.extracted import Extracted
from shared.documents.kinds import Problem
from shared.documents.pictures import anchor, numbered_from
from tests.support.document_files import NARROW, PICTURE, docx, lines, paragraph, pdf

BLACK = b"0 0 298 421 re f"
"""Operators that fill a page's lower left quarter."""


def read(data: bytes, *, draws: bool = True) -> Extracted | Problem:
    """Read a document in this process."""
    file = io.BytesIO(data)
    return extract(reader_for(file, "a", draws), file)


def rows_of(picture: bytes) -> list[bytes]:
    """Return the rows of a grey picture, and check that each part of it has its checksum."""
    start, data = 8, b""
    while start < len(picture):
        (size,) = struct.unpack_from(">I", picture, start)
        kind, content = picture[start + 4 : start + 8], picture[start + 8 : start + 8 + size]
        assert struct.unpack_from(">I", picture, start + 8 + size) == (zlib.crc32(kind + content),)
        data += content if kind == b"IDAT" else b""
        start += size + 12
    width, height = struct.unpack_from(">II", picture, 16)
    pixels = zlib.decompress(data)
    assert (width + 1) * height == len(pixels)
    return [pixels[row * (width + 1) + 1 : (row + 1) * (width + 1)] for row in range(height)]


def test_a_page_is_drawn():
    """As it is seen, in grey, with its longer side in as many pixels as models use."""
    drawn = read(pdf([BLACK]))

    assert isinstance(drawn, Extracted)
    (picture,) = drawn.pictures
    assert ImageInfo("image/png", "png", 1085, 1536) == inspect_image(picture)
    rows = rows_of(picture)
    assert [b"\xff\xff", b"\xff\xff"] == [rows[9][9:11], rows[9][900:902]]
    assert [b"\0\0", b"\xff\xff"] == [rows[1500][9:11], rows[1500][900:902]]
    assert len(picture) < 10_000


def test_pictures_are_where_the_pages_are():
    """Pages with text are read as always, and what a page says in characters of theirs is no picture."""
    forged = lines("Rent.")
    document = pdf([forged, PICTURE, b"", lines("Term."), PICTURE])

    drawn = read(document)

    assert isinstance(drawn, Extracted)
    assert f"[Page 1]\n\nRent.\n\n[Page 2]\n\n{anchor(0)}\n\n[Page 4]\n\nTerm.\n\n[Page 5]\n\n{anchor(1)}" == (
        drawn.text
    )
    assert (2, "2, 5", 5) == (len(drawn.pictures), drawn.pages_without_text, drawn.pages)
    not_drawn = read(document, draws=False)
    assert ("[Page 1]\n\nRent.\n\n[Page 4]\n\nTerm.", ()) == (
        cast(Extracted, not_drawn).text,
        cast(Extracted, not_drawn).pictures,
    )
    assert () == cast(Extracted, read(docx(paragraph("Word.")))).pictures


@pytest.mark.parametrize(
    ("box", "operators"),
    [
        (b"0 0 1 90000", BLACK),
        (b"0 0 0 0", BLACK),
        pytest.param(b"0 0 2000000000 2000000000", b"0 0 1000000000 1000000000 re f", marks=pytest.mark.long),
        (b"9 9 0 0", b"0 0 5 5 re f"),
    ],
)
def test_any_page_has_a_picture_of_bounded_size(box: bytes, operators: bytes):
    """However large or narrow it says that it is."""
    drawn = read(pdf([operators], box=box))

    assert isinstance(drawn, Extracted)
    info = inspect_image(drawn.pictures[0])
    assert info.width is not None
    assert info.height is not None
    assert 1 <= min(info.width, info.height) <= max(info.width, info.height) <= 1536


def test_pictures_are_limited(monkeypatch: pytest.MonkeyPatch):
    """A document with more of them, or of more bytes, is refused whole: a part of it would be no summary."""
    assert 50 == len(cast(Extracted, read(pdf([BLACK] * 50, box=NARROW))).pictures)
    assert "pictures" == read(pdf([BLACK] * 51, box=NARROW))

    monkeypatch.setattr("shared.documents.pdf_pictures.MAX_PICTURE_BYTES", 1_000)
    assert "pictures" == read(pdf([BLACK] * 10, box=NARROW))
    assert isinstance(read(pdf([BLACK], box=NARROW)), Extracted)


def test_a_page_on_which_nothing_is_to_be_seen_is_no_picture():
    """As an empty page, whose white background a program has drawn: it would cost as much as others."""
    white = b"1 g 0 0 595 842 re f"

    drawn = read(pdf([white, BLACK, white]))

    assert isinstance(drawn, Extracted)
    assert (1, "2", f"[Page 2]\n\n{anchor(0)}") == (len(drawn.pictures), drawn.pages_without_text, drawn.text)
    assert "no_text" == read(pdf([white] * 51, box=NARROW))


def test_pictures_of_several_documents_are_numbered_through():
    """A character that stands for none is left out."""
    assert f"a{anchor(3)}b{anchor(4)}c" == numbered_from(3, 2, f"a{anchor(0)}b{anchor(1)}c{anchor(2)}")


async def test_the_process_draws():
    """With everything given up: nothing that drawing needs is imported or opened too late."""
    with tempfile.TemporaryFile() as opened:
        file = cast(BinaryIO, opened)
        file.write(pdf([lines("Rent."), BLACK, PICTURE]))
        file.flush()

        drawn = await process.extract(file, "a.pdf", True)
        not_drawn = await process.extract(file, "a.draws")

    assert isinstance(drawn, Extracted)
    assert (2, 0) == (len(drawn.pictures), len(cast(Extracted, not_drawn).pictures))
    assert 0 in rows_of(drawn.pictures[0])[1500]
