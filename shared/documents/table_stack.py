"""The tables that are open while a document is read: they may be within one another. Pure."""

from __future__ import annotations

from shared.documents.text_builder import TextBuilder, table_row


class _Table:
    __slots__ = ("is_in_cell", "rows")

    def __init__(self) -> None:
        self.rows: list[list[list[str]]] = []
        self.is_in_cell = False


class TableStack:
    """Collects cells. The outermost table goes to the builder when it ends, an inner one into its cell."""

    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._tables: list[_Table] = []

    @property
    def is_in_cell(self) -> bool:
        """Whether text belongs to a cell."""
        return bool(self._tables) and self._tables[-1].is_in_cell

    def begin(self) -> None:
        """Begin a table."""
        self._tables.append(_Table())

    def begin_row(self) -> None:
        """Begin a row."""
        if self._tables:
            self._tables[-1].rows.append([])
            self._tables[-1].is_in_cell = False

    def begin_cell(self) -> None:
        """Begin a cell."""
        if self._tables:
            table = self._tables[-1]
            if not table.rows:
                table.rows.append([])
            table.rows[-1].append([])
            table.is_in_cell = True

    def add(self, text: str) -> None:
        """Add text to the cell that was begun last."""
        self._tables[-1].rows[-1][-1].append(text)

    def end(self) -> None:
        """End the innermost table."""
        if not self._tables:
            return
        rows = [["\n".join(cell) for cell in row] for row in self._tables.pop().rows]
        if self.is_in_cell:
            self.add("\n".join(table_row(row) for row in rows))
        else:
            self._builder.table(rows)

    def close_all(self) -> None:
        """End the tables that a document left open."""
        while self._tables:
            self.end()
