"""The terminal: sentences, tables, a progress bar, a confirmation. Reports go to stdout, all else to stderr."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from aijobs.report import Verbatim

MAX_WIDTH = 200
"""Columns of a table in a pipe or a file."""
_STYLES = {
    "succeeded": "green",
    "ok": "green",
    "partial": "yellow",
    "warning": "yellow",
    "failed": "red",
    "error": "red",
    "cancelled": "dim",
}


def print_text(text: Iterable[str | Verbatim | RenderableType]) -> None:
    """Print the text of a report."""
    for part in text:
        if isinstance(part, Verbatim):
            sys.stdout.write(part.text)
        elif isinstance(part, str):
            sys.stdout.write(f"{printable(part)}\n")
        elif isinstance(part, Table):
            print_table(part)
        else:
            stdout_console().print(part)


def warn(sentence: str) -> None:
    """Write a sentence to stderr."""
    sys.stderr.write(f"{printable(sentence)}\n")


def plural(count: int, noun: str) -> str:
    """Return the count and the noun, such as "1 job" or "2 jobs"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def printable(text: str) -> str:
    """Return the text without control characters, which a terminal would obey. Line breaks become blanks."""
    return "".join(char if char.isprintable() else " " if char in "\r\n\t" else "\ufffd" for char in text)


def make_table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, numeric: frozenset[str] = frozenset()
) -> Table:
    """Return a table. A cell is a text, a number or None; the columns in `numeric` are aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        is_numeric = name in numeric
        table.add_column(name, justify="right" if is_numeric else "left", overflow="fold", no_wrap=is_numeric)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    return table


def print_table(table: Table) -> None:
    """Print a table. With numbers, it may be wider than the window: a number that is cut is another number."""
    console = stdout_console()
    if any(column.no_wrap for column in table.columns):
        needed = Measurement.get(console, console.options.update(max_width=MAX_WIDTH), table).minimum
        console = stdout_console(max(console.width, needed))
    console.print(table)


def stdout_console(width: int | None = None) -> Console:
    """Return a console on the current stdout: a terminal's own width and colours, else MAX_WIDTH and no colours."""
    width = width or (None if sys.stdout.isatty() else MAX_WIDTH)
    return Console(file=sys.stdout, width=width, highlight=False, markup=False)


def stderr_console() -> Console:
    """Return a console on the current stderr."""
    return Console(file=sys.stderr, highlight=False, markup=False)


def progress_bar() -> Progress:
    """Return a progress bar on stderr. It shows nothing if stderr is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=stderr_console(),
        disable=not sys.stderr.isatty(),
    )


def confirm(consequence: str, customer: str) -> bool:
    """Print what will happen, and return whether the person types the customer's id."""
    warn(consequence)
    sys.stderr.write("Type the customer's id to continue: ")
    sys.stderr.flush()
    if sys.stdin is None:  # the caller has closed it
        return False
    with interruptible():
        return sys.stdin.readline().strip() == customer


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C end a blocking read at once. asyncio would only act on it after the read."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _cell(value: Any) -> Text:
    text = "" if value is None else f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
    return Text(printable(str(text)), style=_STYLES.get(str(text), ""))
