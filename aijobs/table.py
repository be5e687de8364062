"""
Tables that fit a terminal: no cell is folded, and no line is wider than the window unless a single cell is.

Empty columns are left out. A table that is too wide names once what is the same in all rows. If a few cells are too
wide then, their rows take more lines, else all rows do; a single row has a line for each column. Prose is wrapped
between words: in its column if that has room, else below its row and, in the same way, below the header.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from aijobs.wrapping import printable, wrap

_EMPTY = ("", "-")
_GAP = 2
_INDENT = 4
_MIN_PROSE = 24
"""How wide a column of prose has to be, unless all its cells are shorter."""
_MIN_USUAL = 4
"""Rows of a table for each outlier: a row with a cell that is wider than its column, and so has more lines."""
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


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where the cells of a column begin in their line, and how wide they are, but for outliers."""

    column: int
    start: int
    width: int

    @property
    def end(self) -> int:
        """Where the next column may begin."""
        return self.start + self.width + _GAP


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
        if width is None:
            layout, caption = [_slots([(index, self._widths[index]) for index in shown])], ""
        else:
            shown, caption = self._narrowed(shown, width)
            layout = self._layout(shown, width)
            if len(layout) > 1 and len(self.rows) == 1:
                return self._record(shown, width)
        lines = [Text(line) for line in wrap(caption, width)] if caption else []
        header = self._row(self.columns, layout, width)
        for line in header:
            line.stylize("bold")
        lines += header
        for row in self.rows:
            lines += self._row(row, layout, width)
        for line in lines:
            line.rstrip()
        return lines

    @cached_property
    def _has_prose(self) -> bool:
        return bool(self.prose) and any(row[-1] for row in self.rows)

    @cached_property
    def _prose_width(self) -> int:
        return max(cell_len(cell) for cell in (self.columns[-1], *(row[-1] for row in self.rows)))

    @cached_property
    def _widths(self) -> list[int]:
        return [max(map(cell_len, cells)) for cells in zip(self.columns, *self.rows, strict=True)]

    def _narrowed(self, shown: list[int], width: int) -> tuple[list[int], str]:
        """Return the columns that have to be shown in each row, and what the others say if that makes all fit."""
        filled = [index for index in shown if any(row[index] not in _EMPTY for row in self.rows)] or shown[:1]
        shown, caption = filled, []
        while _total(self._widths[index] for index in shown) > width and len(self.rows) > 1 < len(shown):
            same = [index for index in shown if len({row[index] for row in self.rows}) == 1]
            if not same:
                break
            widest = max(same, key=self._widths.__getitem__)
            shown = [index for index in shown if index != widest]
            caption.append(f"{self.columns[widest]}: {self.rows[0][widest]}")
        return (filled, "") if self._usual_widths(shown, width) is None else (shown, "  ".join(caption))

    def _layout(self, shown: Sequence[int], width: int) -> list[list[_Slot]]:
        """Return the columns of each line of a row: one line if that does for most rows."""
        widths = self._usual_widths(shown, width)
        if widths is not None:
            return [_slots([*widths.items()])]
        groups: list[list[tuple[int, int]]] = [[]]
        for index in shown:
            indent = _INDENT if len(groups) > 1 else 0
            column = (index, self._widths[index])
            if groups[-1] and indent + _total(size for _, size in [*groups[-1], column]) > width:
                groups.append([])
            groups[-1].append(column)
        return [_slots(group, _INDENT if number else 0) for number, group in enumerate(groups)]

    def _usual_widths(self, shown: Sequence[int], width: int) -> dict[int, int] | None:
        """Return widths that fit the window and have room for most rows, or None if there are none."""
        widths = {index: self._widths[index] for index in shown}
        words = [index for index in shown if self.columns[index] not in self.numeric]
        outliers: set[int] = set()
        while _total(widths.values()) > width:
            widest = max(words, key=widths.__getitem__, default=shown[0])
            sizes = [cell_len(row[widest]) for row in self.rows]
            outliers |= {number for number, size in enumerate(sizes) if size == widths[widest]}
            if _MIN_USUAL * len(outliers) > len(self.rows) or cell_len(self.columns[widest]) == widths[widest]:
                return None
            smaller = (size for size in sizes if size < widths[widest])
            widths[widest] = max(cell_len(self.columns[widest]), *smaller, 0)
        return widths

    def _record(self, shown: Sequence[int], width: int) -> list[Text]:
        """Return the only row with a line for each column."""
        names = [*(self.columns[index] for index in shown), *([self.prose] if self._has_prose else [])]
        start = max(map(cell_len, names)) + _GAP
        lines = []
        for name, cell in zip(names, [*(self.rows[0][index] for index in shown), self.rows[0][-1]], strict=False):
            name_line = Text(name, "bold")
            first, *rest = wrap(cell, width, indent=start)
            if not first.startswith(" " * start):  # its first word is too wide for this line
                lines += [name_line, *map(Text, wrap(cell, width))]
                continue
            name_line.append(first[len(name) :], _STYLES.get(cell, "not bold"))
            lines += [name_line, *map(Text, rest)]
        return lines

    def _row(self, row: Sequence[str], layout: Sequence[Sequence[_Slot]], width: int | None) -> list[Text]:
        lines = [line for slots in layout for line in self._cells(row, slots, width)]
        prose = row[-1] if self._has_prose or (self.prose and width is None) else ""
        if not prose:
            return lines
        start = layout[-1][-1].end
        if width is None:
            lines[-1].append(" " * (start - lines[-1].cell_len)).append(prose)
            return lines
        if len(layout) > 1 or width - start < min(_MIN_PROSE, self._prose_width):
            return lines + [Text(line) for line in wrap(prose, width, indent=_INDENT)]
        first, *rest = wrap(prose, width, indent=start)
        if lines[-1].cell_len < start and first.startswith(" " * start):
            lines[-1].append(first[lines[-1].cell_len :])
        else:
            rest.insert(0, first)
        return lines + [Text(line) for line in rest]

    def _cells(self, row: Sequence[str], slots: Sequence[_Slot], width: int | None) -> list[Text]:
        """Return the cells in one line, or in more if one of them is an outlier: what follows it has its own line."""
        lines = [Text()]
        for slot in slots:
            cell, start = row[slot.column], slot.start
            size = cell_len(cell)
            if self.columns[slot.column] in self.numeric:
                start += slot.width - size
            if size > slot.width and width is not None:
                start = min(start, max(width - size, 0))
            if lines[-1].cell_len > max(start - _GAP, 0):
                lines.append(Text())
            lines[-1].append(" " * (start - lines[-1].cell_len)).append(cell, _STYLES.get(cell, ""))
        return lines


def _slots(columns: Sequence[tuple[int, int]], indent: int = 0) -> list[_Slot]:
    slots: list[_Slot] = []
    for column, width in columns:
        slots.append(_Slot(column, slots[-1].end if slots else indent, width))
    return slots


def _total(widths: Iterable[int]) -> int:
    return sum(width + _GAP for width in widths) - _GAP


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


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else printable(str(value))
