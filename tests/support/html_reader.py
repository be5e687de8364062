"""Reads an HTML page strictly."""

from __future__ import annotations

from html.parser import HTMLParser


class HtmlReader(HTMLParser):
    """The elements of a page with their attributes, its text, and its style."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.style = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """The element that began last ends."""
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        """A piece of text."""
        if self.open[-1:] == ["style"]:
            self.style += data
        else:
            self.text += data


def read_html(page: str) -> HtmlReader:
    """The page, read to its end. Fails if an element is not closed, or in the wrong order."""
    reader = HtmlReader()
    reader.feed(page)
    reader.close()
    assert [] == reader.open
    return reader
