"""The text of a Word document: its body with notes; without headers, comments and what is deleted or hidden. Pure."""

from __future__ import annotations

from shared.documents.docx_numbering import Numbering
from shared.documents.docx_styles import Style, Styles, read_property
from shared.documents.extracted import Extracted
from shared.documents.kinds import Unreadable
from shared.documents.office import Attributes, Package
from shared.documents.table_stack import TableStack
from shared.documents.text_builder import TextBuilder

# The second form of a drawing, text that was moved away, how something was before, readings above ideographs.
_LEFT_OUT = frozenset({"Fallback", "moveFrom", "pPrChange", "rPrChange", "sectPrChange", "tblPrChange", "rt"})
_MARKS = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}
_OFF = frozenset({"0", "false", "off"})
_NO_LIST = (None, "0")
_NOTES = {"footnoteReference": "", "endnoteReference": "e"}


def read_docx(package: Package, main: str) -> Extracted:
    """Return the text of a document whose main part has that name. Raises Unreadable."""
    relations = package.relations(main)
    styles, numbering, builder = Styles(), Numbering(), TextBuilder()
    for part in relations.of_type("/styles"):
        package.read(part, styles)
    for part in relations.of_type("/numbering"):
        package.read(part, numbering)
    body = _Body(builder, styles, numbering)
    package.read(main, body)
    body.close()
    for kind, prefix in (("footnote", ""), ("endnote", "e")):
        for part in relations.of_type(f"/{kind}s"):
            notes = _Notes(kind)
            package.read(part, notes)
            for id_, text in notes.texts.items():
                if f"{prefix}{id_}" in body.notes:
                    builder.paragraph(f"[^{prefix}{id_}]: {text}")
    return Extracted("docx", builder.text())


class _Paragraph:
    __slots__ = ("own", "parts", "style_id")

    def __init__(self) -> None:
        self.style_id = ""
        self.own = Style()
        self.parts: list[str] = []


class _Runs:
    """Reads paragraphs with their runs of text."""

    def __init__(self) -> None:
        self._paragraphs: list[_Paragraph] = []
        self._left_out = 0
        self._is_text = False
        self._is_hidden = False

    def start(self, name: str, attributes: Attributes) -> None:
        """See Handler."""
        if self._left_out or name in _LEFT_OUT:
            self._left_out += 1
        elif name == "p":
            self._paragraphs.append(_Paragraph())
        elif name == "r":
            self._is_hidden = False
        elif name == "t":
            self._is_text = True
        elif name == "vanish":
            self._is_hidden = attributes.get("val", "") not in _OFF
        elif self._paragraphs:
            self._in_paragraph(name, attributes)

    def _in_paragraph(self, name: str, attributes: Attributes) -> None:
        paragraph = self._paragraphs[-1]
        if name == "pStyle":
            paragraph.style_id = attributes.get("val", "")
        elif name in _MARKS and not (name == "tab" and "pos" in attributes):  # which only sets a tab stop
            paragraph.parts.append(_MARKS[name])
        elif name in _NOTES:
            self.refer(f"{_NOTES[name]}{attributes.get('id', '')}")
        else:
            read_property(paragraph.own, name, attributes.get("val", ""))

    def end(self, name: str) -> None:
        """See Handler."""
        if self._left_out:
            self._left_out -= 1
        elif name == "t":
            self._is_text = False
        elif name == "r":
            self._is_hidden = False
        elif name == "p" and self._paragraphs:
            self.add(self._paragraphs.pop())

    def data(self, text: str) -> None:
        """See Handler."""
        if self._is_text and not self._is_hidden and not self._left_out and self._paragraphs:
            self._paragraphs[-1].parts.append(text)

    def refer(self, note: str) -> None:
        """Mark a note in the paragraph."""

    def add(self, paragraph: _Paragraph) -> None:
        """Take a paragraph that has ended."""


class _Body(_Runs):
    def __init__(self, builder: TextBuilder, styles: Styles, numbering: Numbering) -> None:
        super().__init__()
        self._builder, self._styles, self._numbering = builder, styles, numbering
        self._tables = TableStack(builder)
        self.notes: set[str] = set()

    def start(self, name: str, attributes: Attributes) -> None:
        super().start(name, attributes)
        if self._left_out:
            return
        if name == "altChunk":  # a file that Word reads when it opens this one
            raise Unreadable("chunks")
        if name == "tbl":
            self._tables.begin()
        elif name == "tr":
            self._tables.begin_row()
        elif name == "tc":
            self._tables.begin_cell()

    def end(self, name: str) -> None:
        if name == "tbl" and not self._left_out:
            self._tables.end()
        super().end(name)

    def close(self) -> None:
        self._tables.close_all()

    def refer(self, note: str) -> None:
        self.notes.add(note)
        self._paragraphs[-1].parts.append(f"[^{note}]")

    def add(self, paragraph: _Paragraph) -> None:
        text = "".join(paragraph.parts).strip()
        if not text:
            return
        style = self._styles.resolve(paragraph.style_id, paragraph.own)
        marker = self._numbering.next(style.num, style.depth or 0) if style.num not in _NO_LIST else ""
        if self._tables.is_in_cell:
            self._tables.add(f"{marker} {text}".strip())
        elif style.level:
            self._builder.heading(style.level, text if marker == "-" else f"{marker} {text}")
        elif marker:
            self._builder.item(text, style.depth or 0, marker)
        else:
            self._builder.paragraph(text)


class _Notes(_Runs):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind
        self._id = ""
        self.texts: dict[str, str] = {}

    def start(self, name: str, attributes: Attributes) -> None:
        super().start(name, attributes)
        if name == self._kind:
            self._id = attributes.get("id", "")

    def add(self, paragraph: _Paragraph) -> None:
        text = " ".join("".join(paragraph.parts).split())
        self.texts[self._id] = f"{self.texts.get(self._id, '')} {text}".strip()
