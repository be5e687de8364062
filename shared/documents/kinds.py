"""What a document is, by its content; of texts, its name says whether it is Markdown. Pure."""

from __future__ import annotations

import codecs
import re
from typing import Literal

Kind = Literal["text", "markdown", "html", "pdf", "docx", "pptx"]

MEDIA_TYPES: dict[Kind, str] = {
    "text": "text/plain",
    "markdown": "text/markdown",
    "html": "text/html",
    "pdf": "application/pdf",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}

Problem = Literal[
    "binary",
    "chunks",
    "damaged",
    "encrypted",
    "entities",
    "no_text",
    "old_office",
    "other_office",
    "other_zip",
    "pictures",
    "rtf",
    "scanned",
    "too_long",
    "unpacks",
]
"""Why a document can't be summarized. `sentences` has the words."""

Look = Literal["text", "markdown", "html", "pdf", "zip", "old_office", "rtf", "binary"]
"""What the first bytes show: a ZIP file's kind is in its directory."""

HEAD_BYTES = 4096
"""As many bytes show what a document is."""
_PDF_HEADER_BYTES = 1024
"""Where readers look for a PDF's header."""
_STARTS: dict[bytes, Look] = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    bytes.fromhex("d0cf11e0a1b11ae1"): "old_office",
    rb"{\rtf": "rtf",
}
_PDF = b"%PDF-"
_TEXTS = frozenset({"txt", "text", "md", "markdown", "html", "htm", "xhtml"})
"""Extensions of texts, which may be about PDFs."""
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_HTML_TAG = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_ANY_TAG = re.compile(r"<(?:!|[a-z])", re.IGNORECASE)
_PAGE_ENCODINGS = {
    **{name: name for name in ("cp866", "koi8-r", "koi8-u", "mac-roman", "mac-cyrillic", "cp874", "gb18030", "hz")},
    **{name: name for name in ("euc_jp", "iso2022_jp", "cp932", "cp949", "big5hkscs", "cp950", "johab")},
    **{f"cp{number}": f"cp{number}" for number in range(1250, 1259)},
    **{f"iso8859-{number}": f"iso8859-{number}" for number in (*range(2, 9), 10, 13, 14, 15, 16)},
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
"""
What a page is read in that declares the encoding, as browsers do (encoding.spec.whatwg.org/#names-and-labels). Others
are no page's: Python also has codecs that make other text of ASCII, are slow, or fail.
"""
_LABELS = {
    "x-sjis": "shift_jis",
    "windows-31j": "cp932",
    "windows-874": "cp874",
    "dos-874": "cp874",
    "x-gbk": "gbk",
    "iso-8859-8-i": "iso8859-8",
    "x-euc-jp": "euc_jp",
    "x-mac-cyrillic": "mac-cyrillic",
    "x-cp1252": "cp1252",
}
"""Names of encodings that Python does not know."""
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s{0,9}=\s{0,9}["']?([\w.:-]{1,40})""", re.IGNORECASE)


class Unreadable(Exception):
    """A document that can't be summarized."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem: Problem = problem


def look(head: bytes, name: str) -> Look:
    """Return what a document's first HEAD_BYTES, and for texts its blob's `name`, show that it is."""
    extension = name.rpartition(".")[2].casefold()
    if head.startswith(_PDF) or (_PDF in head[:_PDF_HEADER_BYTES] and extension not in _TEXTS):
        return "pdf"
    for signature, kind in _STARTS.items():
        if head.startswith(signature):
            return kind
    is_utf16 = head.startswith(_UTF16)
    if (b"\0" in head and not is_utf16) or head.startswith(codecs.BOM_UTF32_LE):
        return "binary"
    start = _skip_comments(head.decode("utf-16" if is_utf16 else "utf-8-sig", "replace"))
    if _HTML_TAG.match(start) or (extension in {"html", "htm", "xhtml"} and _ANY_TAG.match(start)):
        return "html"
    return "markdown" if extension in {"md", "markdown"} else "text"


def encoding_of(head: bytes, *, is_html: bool = False) -> str:
    """Return the encoding of a text: by its byte order mark or, of a page, what it declares; else UTF-8."""
    if head.startswith(_UTF16):
        return "utf-16"
    if is_html and not head.startswith(codecs.BOM_UTF8) and (declared := _CHARSET.search(head)):
        try:
            label = declared[1].decode().casefold()
            codec = codecs.lookup(_LABELS.get(label, label))
        except LookupError:
            return "utf-8-sig"
        return _PAGE_ENCODINGS.get(codec.name, "utf-8-sig")
    return "utf-8-sig"


def _skip_comments(text: str) -> str:
    while True:
        text = text.lstrip()
        end = {"<!--": "-->", "<?xm": "?>"}.get(text[:4])
        if end is None or end not in text:
            return text
        text = text.partition(end)[2]
