"""A document's text as it is built: headings, lists and tables in Markdown, in bounded size. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from shared.documents.kinds import Unreadable

MAX_TEXT_BYTES = 16 * 1024 * 1024
"""Of a job's documents together, in UTF-8."""
_MAX_DEPTH = 10
"""Of a list's indentation."""
_MAX_LEVEL = 6
_BAR = re.compile(r"(?<!\\)\|")
_LONG_CELL = 400
"""Characters. A table with longer cells arranges a page's text; as rows, it could hardly be split."""


class TextBuilder:
    """Blocks of text, one after the other, with an empty line between them, but for the items of a list."""

    def __init__(self) -> None:
        self._blocks: list[str] = []
        self._size = 0
        self._in_list = False

    def heading(self, level: int, text: str) -> None:
        """Add a heading of a level from 1."""
        if line := " ".join(text.split()):
            self._add(f"{'#' * min(max(level, 1), _MAX_LEVEL)} {line}")

    def paragraph(self, text: str) -> None:
        """Add a paragraph, with its line ends."""
        self._add(text)

    def item(self, text: str, depth: int, marker: str = "-") -> None:
        """Add an item of a list. `depth` counts from 0."""
        if text := text.strip():
            indent = "  " * min(depth, _MAX_DEPTH)
            self._add(f"{indent}{marker} {text}", is_item=True)

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Add a table by its rows of cells."""
        cleaned = [[cell.strip() for cell in row] for row in rows]
        if max((len([cell for cell in row if cell]) for row in cleaned), default=0) <= 1 or any(
            len(cell) > _LONG_CELL for row in cleaned for cell in row
        ):
            for row in cleaned:
                for cell in row:
                    self._add(cell)
            return
        self._add("\n".join(f"| {table_row(row)} |" for row in cleaned if any(row)))

    def mark(self, what: str, number: int) -> None:
        """Say where a page begins."""
        self._add(f"[{what} {number}]")

    def text(self) -> str:
        """Return the whole. Raises Unreadable if there is none, or too much."""
        text = "".join(self._blocks).strip("\n")
        if len(text) * 4 > MAX_TEXT_BYTES and len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
            raise Unreadable("too_long")
        return text

    def _add(self, block: str, *, is_item: bool = False) -> None:
        block = block.rstrip() if is_item else block.strip()
        if not block:
            return
        self._size += len(block) + 2
        if self._size > MAX_TEXT_BYTES:
            raise Unreadable("too_long")
        if self._blocks:
            self._blocks.append("\n" if is_item and self._in_list else "\n\n")
        self._blocks.append(block)
        self._in_list = is_item


def table_row(cells: Sequence[str]) -> str:
    """Return cells in one line. Those of inner tables are in such a line already."""
    return " | ".join(_BAR.sub(r"\\|", " ".join(cell.split())) for cell in cells)
