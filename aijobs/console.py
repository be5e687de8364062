"""What a person sees: sentences, tables, a progress bar. Results go to stdout, progress to stderr."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

WIDE = 200
"""Columns of a table that goes into a pipe or a file."""
_STYLES = {
    "succeeded": "green",
    "fine": "green",
    "ok": "green",
    "partial": "yellow",
    "warning": "yellow",
    "failed": "red",
    "wrong": "red",
    "cancelled": "dim",
}


def tell(sentence: str) -> None:
    """Writes a sentence to stdout."""
    sys.stdout.write(f"{plain(sentence)}\n")


def warn(sentence: str) -> None:
    """Writes a sentence to stderr."""
    sys.stderr.write(f"{plain(sentence)}\n")


def plain(text: str) -> str:
    """Text from elsewhere without what a terminal would obey; line breaks become blanks."""
    return "".join(one if one.isprintable() else " " if one in "\r\n\t" else "\ufffd" for one in text)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: frozenset[str] = frozenset()) -> Table:
    """A table; the columns in `right` hold numbers. A cell is a text, a number or None."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in right)
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def show(shown: Table) -> None:
    """Prints a table; one with numbers as wide as it needs to be, since cut ones would be other numbers."""
    on = console()
    if any(column.no_wrap for column in shown.columns):
        needed = Measurement.get(on, on.options.update(max_width=WIDE), shown).minimum
        on = console(max(on.width, needed))
    on.print(shown)


def console(width: int | None = None) -> Console:
    """The console on stdout as it is now: colours and width are a terminal's, or none and WIDE."""
    width = width or (None if sys.stdout.isatty() else WIDE)
    return Console(file=sys.stdout, width=width, highlight=False, markup=False)


def progress() -> Progress:
    """A progress bar on stderr, which shows nothing where that is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        disable=not sys.stderr.isatty(),
    )


def confirmed(what: str, name: str) -> bool:
    """Says what is about to happen, and whether the person typed the name to go on."""
    tell(what)
    sys.stdout.write("Type the customer's name to go on: ")
    sys.stdout.flush()
    with interruptible():
        return sys.stdin is not None and sys.stdin.readline().strip() == name  # None: closed by whoever started this


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Lets Ctrl-C end what waits for a person at once; asyncio would only note it until the person has answered."""
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
    return Text(plain(str(text)), style=_STYLES.get(str(text), ""))
