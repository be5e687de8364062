"""The text of an Office file: which kind it is, its main part says. Pure."""

from __future__ import annotations

from typing import BinaryIO

from shared.documents.docx_text import read_docx
from shared.documents.extracted import Extracted
from shared.documents.kinds import Unreadable
from shared.documents.office import Package
from shared.documents.pptx_text import read_pptx


def read_office(file: BinaryIO) -> Extracted:
    """Return the text of a DOCX or PPTX file. Raises Unreadable."""
    package = Package(file)
    main = package.main_part()
    if not package.has(main):
        raise Unreadable("damaged")
    kind = package.content_type(main)
    if "wordprocessingml." in kind:
        return read_docx(package, main)
    if "presentationml." in kind:
        return read_pptx(package, main)
    raise Unreadable("other_office")
