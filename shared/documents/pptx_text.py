"""The text of a PowerPoint presentation, slide by slide: titles, bullets, tables, diagrams and notes. Pure."""

from __future__ import annotations

from shared.documents.docx_numbering import number
from shared.documents.extracted import Extracted, ranges
from shared.documents.kinds import Unreadable
from shared.documents.office import Attributes, Package
from shared.documents.text_builder import TextBuilder

_TITLES = frozenset({"title", "ctrTitle"})
_REPEATED = frozenset({"dt", "ftr", "hdr", "sldNum", "sldImg"})
"""Placeholders with what stands on every slide."""
_TITLE_LEVEL = 2


def read_pptx(package: Package, main: str) -> Extracted:
    """Return the text of a presentation whose main part has that name. Raises Unreadable."""
    relations, order, builder = package.relations(main), _Order(), TextBuilder()
    package.read(main, order)
    slides = [relations.by_id.get(id_, ("", ""))[1] for id_ in order.ids]
    if slides and not any(map(package.has, slides)):
        raise Unreadable("damaged")
    pictures = []
    has_text = False
    for count, part in enumerate(slides, 1):
        builder.mark("Slide", count)
        if not package.has(part):
            pictures.append(count)  # what is lost is not left out without a word
            continue
        slide = _Slide()
        package.read(part, slide)
        is_text = slide.write(builder)
        for kind, label in (("/diagramData", ""), ("/notesSlide", "Notes: ")):
            for other in package.relations(part).of_type(kind):
                is_text |= _write_beside(package, other, builder, label)
        has_text |= is_text
        if not is_text and slide.has_picture:
            pictures.append(count)
    text = builder.text() if has_text else ""
    return Extracted("pptx", text, len(slides), ranges(pictures))


def _write_beside(package: Package, part: str, builder: TextBuilder, label: str) -> bool:
    """Write the text of a diagram, or of a slide's notes, and return whether there is any."""
    slide = _Slide(only="body" if label else None)
    package.read(part, slide)
    texts = [text for block in slide.blocks if isinstance(block, _Paragraph) and (text := block.text)]
    if texts:
        builder.paragraph(f"{label}" + "\n".join(texts))
    return bool(texts)


class _Order:
    """The ids of the slides, in their order."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    def start(self, name: str, attributes: Attributes) -> None:
        if name == "sldId":
            self.ids.append(attributes.get("r:id", ""))

    def end(self, name: str) -> None:
        pass

    def data(self, text: str) -> None:
        pass


class _Paragraph:
    __slots__ = ("depth", "is_item", "is_title", "parts")

    def __init__(self, *, is_title: bool, is_item: bool) -> None:
        self.is_title = is_title
        self.is_item = is_item
        self.depth = 0
        self.parts: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.parts).strip()


class _Slide:
    """Collects the paragraphs and tables of a slide. `only`: of the shapes with that placeholder alone."""

    def __init__(self, *, only: str | None = None) -> None:
        self._only = only
        self.blocks: list[_Paragraph | list[list[str]]] = []
        self.has_picture = False
        self._placeholder: str | None = None
        """The placeholder that the shape fills; None: none."""
        self._left_out = 0
        self._paragraph: _Paragraph | None = None
        self._is_text = False
        self._rows: list[list[str]] | None = None

    def start(self, name: str, attributes: Attributes) -> None:
        """See Handler."""
        if self._left_out or name == "Fallback":
            self._left_out += 1
        elif name in {"sp", "graphicFrame", "cxnSp", "pic"}:
            self._placeholder = None
            self.has_picture |= name in {"pic", "graphicFrame"}
        elif name == "ph":
            self._placeholder = attributes.get("type", "obj")
        elif name == "tbl":
            self._rows = []
        elif name == "tr" and self._rows is not None:
            self._rows.append([])
        elif name == "tc" and self._rows:
            self._rows[-1].append("")
        elif name == "p":
            is_title = self._placeholder in _TITLES
            self._paragraph = _Paragraph(
                is_title=is_title, is_item=self._placeholder in {"body", "obj"} and self._only is None
            )
        elif self._paragraph is not None:
            self._in_paragraph(self._paragraph, name, attributes)

    def _in_paragraph(self, paragraph: _Paragraph, name: str, attributes: Attributes) -> None:
        if name == "pPr":
            paragraph.depth = number(attributes.get("lvl"))
        elif name in {"buChar", "buAutoNum", "buBlip"}:
            paragraph.is_item = True
        elif name == "buNone":
            paragraph.is_item = False
        elif name == "br":
            paragraph.parts.append("\n")
        elif name == "t":
            self._is_text = True

    def end(self, name: str) -> None:
        """See Handler."""
        if self._left_out:
            self._left_out -= 1
        elif name == "t":
            self._is_text = False
        elif name == "tbl" and self._rows is not None:
            self.blocks.append(self._rows)
            self._rows = None
        elif name == "p" and self._paragraph is not None:
            self._end_paragraph(self._paragraph)
            self._paragraph = None

    def _end_paragraph(self, paragraph: _Paragraph) -> None:
        if self._rows is not None:
            if self._rows and self._rows[-1]:
                self._rows[-1][-1] = f"{self._rows[-1][-1]}\n{paragraph.text}".strip()
        elif self._placeholder not in _REPEATED and self._only in {None, self._placeholder}:
            self.blocks.append(paragraph)

    def data(self, text: str) -> None:
        """See Handler."""
        if self._is_text and self._paragraph is not None and not self._left_out:
            self._paragraph.parts.append(text)

    def write(self, builder: TextBuilder) -> bool:
        """Write the slide, its title first, and return whether it has text."""
        titles = [block for block in self.blocks if isinstance(block, _Paragraph) and block.is_title]
        builder.heading(_TITLE_LEVEL, " ".join(title.text for title in titles))
        has_text = any(title.text for title in titles)
        for block in self.blocks:
            if isinstance(block, list):
                builder.table(block)
                has_text |= any(map(any, block))
            elif not block.is_title and block.text:
                has_text = True
                if block.is_item:
                    builder.item(block.text, block.depth)
                else:
                    builder.paragraph(block.text)
        return has_text
