"""The text of an HTML page: what a reader sees of it, in reading order. Nothing that it names is fetched. Pure."""

from __future__ import annotations

import codecs
import re
from html.parser import HTMLParser
from typing import BinaryIO

from shared.documents.extracted import Extracted
from shared.documents.kinds import HEAD_BYTES, encoding_of
from shared.documents.table_stack import TableStack
from shared.documents.text_builder import TextBuilder

_CHUNK_BYTES = 1024 * 1024
"""What is open at the end of a chunk, such as an attribute with a picture, is read again with the next one."""
_UNSEEN = frozenset({"script", "style", "template", "noscript", "svg", "math", "iframe", "object", "canvas", "select"})
_BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl", "dt"),
        *("fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "html", "legend", "main", "nav", "ol"),
        *("p", "pre", "section", "summary", "ul", "table", "caption", "thead", "tbody", "tfoot", "tr", "td", "th"),
    }
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_HIDDEN = re.compile("(?:display:none|visibility:hidden)", re.IGNORECASE)
_TITLE = -1
"""As a heading's level."""
_TABLE_PARTS = frozenset({"thead", "tbody", "tfoot"})
_LEFT_OPEN: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "p": (frozenset(), _BLOCKS | _HEADINGS.keys() | {"li"}),
    "li": (frozenset({"ul", "ol"}), frozenset({"li"})),
    **dict.fromkeys(("dt", "dd"), (frozenset({"dl"}), frozenset({"dt", "dd"}))),
    **dict.fromkeys(("td", "th"), (frozenset({"table"}), _TABLE_PARTS | {"td", "th", "tr"})),
    **dict.fromkeys(("tr", *_TABLE_PARTS), (frozenset({"table"}), _TABLE_PARTS | {"tr"})),
}
"""Tags that need no end: what has them again within, and what ends them (html.spec.whatwg.org/#optional-tags)."""
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)


def read_html(file: BinaryIO) -> Extracted:
    """Return the text of a page. Raises Unreadable."""
    head = file.read(HEAD_BYTES)
    decoder = codecs.getincrementaldecoder(encoding_of(head, is_html=True))("replace")
    page = _Page()
    chunk = head
    while chunk:
        page.feed(decoder.decode(chunk))
        chunk = file.read(_CHUNK_BYTES)
    page.feed(decoder.decode(b"", final=True))
    page.close()
    return Extracted("html", page.finish())


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._builder = TextBuilder()
        self._tables = TableStack(self._builder)
        self._parts: list[str] = []
        self._heading = 0
        self._title = ""
        self._lists: list[int | None] = []
        """The open lists: the number of the last item, or None if they have no numbers."""
        self._marker: str | None = None
        """Of the item that has begun, until its text is added."""
        self._pre = 0
        self._unseen: list[str] = []
        """The tags that hide what is within: the outer one, and those within whose ends are not its end."""

    def finish(self) -> str:
        """Return the text."""
        self._flush()
        self._tables.close_all()
        return self._builder.text()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._is_unseen(tag, is_end=False):
            outer = self._unseen[0]
            if tag == outer if outer not in _LEFT_OPEN else tag in _LEFT_OPEN[outer][0]:
                self._unseen.append(tag)
            return
        if tag in _UNSEEN or (tag not in _VOID and _is_hidden(attrs)):
            self._unseen.append(tag)
        elif tag == "br":
            self._parts.append("\n")
        elif tag == "img":
            self._parts.append(f" {dict(attrs).get('alt') or ''} ")
        elif tag in _HEADINGS or tag == "title":
            self._flush()
            self._heading = _HEADINGS.get(tag, _TITLE)
        elif tag == "li":
            self._begin_item()
        elif tag in _BLOCKS:
            self._flush()
            self._begin_block(tag)

    def _begin_item(self) -> None:
        self._flush()
        number = self._lists[-1] if self._lists else None
        if number is not None:
            number = self._lists[-1] = number + 1
        self._marker = "-" if number is None else f"{number}."

    def _begin_block(self, tag: str) -> None:
        if tag in {"ul", "ol"}:
            self._lists.append(0 if tag == "ol" else None)
            self._marker = None
        elif tag == "pre":
            self._pre += 1
        elif tag == "table":
            self._tables.begin()
        elif tag == "tr":
            self._tables.begin_row()
        elif tag in {"td", "th"}:
            self._tables.begin_cell()

    def _is_unseen(self, tag: str, *, is_end: bool) -> bool:
        """Return whether a tag is within what is hidden. It may end that."""
        if len(self._unseen) == 1 and self._unseen[0] in _LEFT_OPEN:
            within, ends = _LEFT_OPEN[self._unseen[0]]
            if tag in ends or (is_end and tag in within):
                self._unseen.clear()
        return bool(self._unseen)

    def handle_endtag(self, tag: str) -> None:
        if self._unseen and tag == self._unseen[-1]:
            self._unseen.pop()
            return
        if self._is_unseen(tag, is_end=True):
            return
        if tag in _HEADINGS or tag == "title":
            self._flush()
        elif tag == "li":
            self._flush()
            self._marker = None
        elif tag in _BLOCKS:
            self._flush()
            if tag in {"ul", "ol"} and self._lists:
                self._lists.pop()
            elif tag == "pre":
                self._pre = max(0, self._pre - 1)
            elif tag == "table":
                self._tables.end()

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        if self._pre:
            self._parts.append(data)
            return
        words = " ".join(data.split())
        if words:
            before, after = " " * data[0].isspace(), " " * data[-1].isspace()
            self._parts.append(f"{before}{words}{after}")
        elif data:
            self._parts.append(" ")

    def _flush(self) -> None:
        text = "".join(self._parts)
        self._parts.clear()
        if not self._pre:
            text = "\n".join(" ".join(line.split()) for line in text.split("\n"))
        heading, self._heading = self._heading, 0
        if not text.strip():
            return
        if self._tables.is_in_cell:
            self._tables.add(text)
        elif heading:
            if text.strip() != self._title:  # most pages repeat their title as their first heading
                self._builder.heading(heading, text)
            self._title = text.strip() if heading == _TITLE else self._title
        elif self._marker is not None:
            self._builder.item(text, max(0, len(self._lists) - 1), self._marker)
            self._marker = None
        else:
            self._builder.paragraph(text)


def _is_hidden(attrs: list[tuple[str, str | None]]) -> bool:
    return any(
        name == "hidden" or (name == "style" and _HIDDEN.search("".join((value or "").split())) is not None)
        for name, value in attrs
    )
