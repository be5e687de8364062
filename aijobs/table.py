"""
Tables that fit a terminal: no cell is folded, and no line is wider than the window unless a single cell is.

A table that is too wide first drops its empty columns and names once what is the same in all rows. What still does not
fit takes more lines a row. Prose that has no room in its line stands below it, wrapped between words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.cells import cell_len
from rich.text import Text

_EMPTY = ("", "-")
_GAP = 2
_INDENT = 4
_STYLES = {
    "succeeded": "green",
    "ok": "green",
    "delivered": "green",
    "partial": "yellow",
    "warning": "yellow",
    "failed": "red",
    "error": "red",
    "not found": "red",
    "cancelled": "dim",
}


@dataclass(frozen=True)
class Table:
    """Rows of printable cells. A column is a word, a number (aligned to the right) or, the last one, prose."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[str] = frozenset()
    prose: str = ""

    def lines(self, width: int | None) -> list[Text]:
        """Return the table's lines for a window of that width; None: each row is one line, however wide."""
        shown = [index for index, name in enumerate(self.columns) if name != self.prose]
        caption: list[str] = []
        if width is not None:
            shown, caption = self._narrowed(shown, width)
        groups = [shown] if width is None else self._packed(shown, width)
        lines = [Text(line) for line in wrap(", ".join(caption), width)] if caption else []
        header = self._row(self.columns, groups, width)
        for line in header:
            line.stylize("bold")
        lines += header
        for row in self.rows:
            lines += self._row(row, groups, width)
        for line in lines:
            line.rstrip()
        return lines

    @cached_property
    def _widths(self) -> list[int]:
        return [max(map(cell_len, cells)) for cells in zip(self.columns, *self.rows, strict=True)]

    def _total(self, shown: Sequence[int]) -> int:
        return sum(self._widths[index] + _GAP for index in shown) - _GAP

    def _narrowed(self, shown: list[int], width: int) -> tuple[list[int], list[str]]:
        """Return the columns that have to be shown in each row, and what the others say."""
        if self._total(shown) > width:
            shown = [index for index in shown if any(row[index] not in _EMPTY for row in self.rows)]
        caption: list[str] = []
        while self._total(shown) > width and len(self.rows) > 1:
            same = [index for index in shown if len({row[index] for row in self.rows}) == 1]
            if not same or len(shown) == 1:
                break
            widest = max(same, key=self._widths.__getitem__)
            shown = [index for index in shown if index != widest]
            caption.append(f"{self.columns[widest]}: {self.rows[0][widest]}")
        return shown, caption

    def _packed(self, shown: Sequence[int], width: int) -> list[list[int]]:
        """Return the columns of each line of a row."""
        groups: list[list[int]] = [[]]
        for index in shown:
            indent = _INDENT if len(groups) > 1 else 0
            if groups[-1] and indent + self._total([*groups[-1], index]) > width:
                groups.append([])
            groups[-1].append(index)
        return groups

    def _cells(self, row: Sequence[str], groups: Sequence[Sequence[int]]) -> list[Text]:
        lines = []
        for number, group in enumerate(groups):
            line = Text(" " * (_INDENT if number else 0))
            for position, index in enumerate(group):
                padding = " " * (self._widths[index] - cell_len(row[index]))
                is_numeric = self.columns[index] in self.numeric
                line.append(" " * _GAP if position else "").append(padding if is_numeric else "")
                line.append(row[index], _STYLES.get(row[index], ""))
                line.append("" if is_numeric else padding)
            lines.append(line)
        return lines

    def _row(self, row: Sequence[str], groups: Sequence[Sequence[int]], width: int | None) -> list[Text]:
        lines = self._cells(row, groups)
        prose = row[-1] if self.prose else ""
        if not prose:
            return lines
        gap = self._prose_gap(lines[-1], groups[-1], len(groups) > 1)
        if width is None or lines[-1].cell_len + gap + cell_len(prose) <= width:
            lines[-1].append(" " * gap).append(prose)
            return lines
        return lines + [Text(line) for line in wrap(prose, width, indent=_INDENT)]

    def _prose_gap(self, line: Text, group: Sequence[int], is_indented: bool) -> int:
        """Return the blanks between the end of a line and its prose, which begins in the same column everywhere."""
        return self._total(group) + (_INDENT if is_indented else 0) + _GAP - line.cell_len


def make_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    numeric: frozenset[str] = frozenset(),
    prose: str = "",
) -> Table:
    """
    Return a table. A cell is a text, a number or None.

    The columns in `numeric` are aligned to the right. The column `prose`, the last one, holds sentences.
    """
    return Table(columns, [[_text(value) for value in row] for row in rows], numeric, prose)


def lines_of(part: str | Table, width: int | None) -> list[Text]:
    """Return the lines of a sentence or a table."""
    return part.lines(width) if isinstance(part, Table) else [Text(line) for line in wrap(printable(part), width)]


def height_of(text: Iterable[str | Table], width: int) -> int:
    """Return the number of a terminal's rows that the text takes. It breaks what is wider than the window."""
    return sum(max(1, -(-line.cell_len // width)) for part in text for line in lines_of(part, width))


def wrap(text: str, width: int | None, *, indent: int = 0) -> list[str]:
    """Return the lines of a text. A word that is wider than the window, such as an id, has a line of its own."""
    lines, blanks = [""], " " * indent
    for word in text.split(" "):
        line = f"{lines[-1]} {word}" if lines[-1] else f"{blanks}{word}"
        if width is not None and cell_len(line) > width and lines[-1]:
            lines.append(f"{blanks}{word}")
        else:
            lines[-1] = line
    return lines


def printable(text: str) -> str:
    """Return the text without control characters, which a terminal would obey. Line breaks become blanks."""
    return "".join(char if char.isprintable() else " " if char in "\r\n\t" else "\ufffd" for char in text)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else printable(str(value))
