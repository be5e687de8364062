"""Why a document can't be summarized, in words that follow its name. Pure."""

from __future__ import annotations

from shared.documents.kinds import Problem
from shared.documents.pictures import MAX_PICTURE_BYTES, MAX_PICTURES
from shared.documents.text_builder import MAX_TEXT_BYTES

TOO_MUCH = "takes too much memory or time to read, or crashes what reads it."
TOO_MANY_PICTURES = (
    f"has too many pages without text: {MAX_PICTURES} pictures of pages can be sent, of {MAX_PICTURE_BYTES >> 20} MiB "
    "together."
)
_KINDS = "PDF, DOCX, PPTX, HTML, Markdown and plain text can be summarized."

SENTENCES: dict[Problem, str] = {
    "binary": f"is neither text nor a known document. {_KINDS}",
    "chunks": "has other files as its text. Open it in Word, and save it again.",
    "damaged": "is damaged or cut off.",
    "encrypted": "is encrypted. Save it without a password.",
    "entities": "declares a document type or entities in its XML, as no Office program does.",
    "no_text": "contains no text.",
    "old_office": "is an Office file with a password, or of an old format. Save it as DOCX, PPTX or PDF.",
    "other_office": f"is an Office file of another kind. {_KINDS}",
    "other_zip": f"is a ZIP file. {_KINDS}",
    "pictures": TOO_MANY_PICTURES,
    "rtf": "is RTF. Save it as DOCX or PDF.",
    "scanned": "contains no text, only pictures. Have its text recognized (OCR) first.",
    "too_long": f"has more than {MAX_TEXT_BYTES >> 20} MiB of text.",
    "unpacks": "unpacks to too much.",
}
