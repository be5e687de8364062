"""Reads a document: in the process that is made for it (`child`). Imports only what its kind needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import BinaryIO

from shared.documents.extracted import Extracted
from shared.documents.kinds import HEAD_BYTES, Look, Problem, Unreadable, encoding_of, look

Read = Callable[[BinaryIO], Extracted]
_REFUSED: dict[Look, Problem] = {"old_office": "old_office", "rtf": "rtf", "binary": "binary"}


def reader_for(file: BinaryIO, name: str, draws: bool = False) -> Read:
    """
    Return what reads the document in `file`, with all modules imported that it needs.

    `draws`: pages of a PDF that have no text become pictures. It raises Unreadable, or any exception if the document is
    damaged.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    kind = look(head, name)
    if kind == "pdf":
        from shared.documents.pdf_text import read_pdf  # noqa: PLC0415  # only if it is one

        if not draws:
            return _checked(read_pdf)
        from shared.documents.pdf_pictures import draw  # noqa: PLC0415

        return _checked(partial(read_pdf, draw=draw))
    if kind == "html":
        from shared.documents.html_text import read_html  # noqa: PLC0415

        "".encode(encoding_of(head, is_html=True))  # its codec is imported
        return _checked(read_html)
    if kind == "zip":
        from shared.documents.office_text import read_office  # noqa: PLC0415

        return _checked(read_office)
    problem = _REFUSED.get(kind, "binary")

    def refuse(_: BinaryIO) -> Extracted:
        raise Unreadable(problem)

    return refuse


def _checked(read: Read) -> Read:
    def checked(file: BinaryIO) -> Extracted:
        extracted = read(file)
        if not extracted.text.strip():
            raise Unreadable("scanned" if extracted.pages_without_text else "no_text")
        return extracted._replace(text=extracted.text.replace("\0", ""))

    return checked
