"""
The terminal: reports, a view that is redrawn, a progress bar, a confirmation.

Reports go to stdout, all else to stderr.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from rich.console import Console
from rich.control import Control
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import ControlType

from aijobs.report import Verbatim
from aijobs.table import Table, height_of, lines_of
from aijobs.wrapping import printable, wrap

_FALLBACK_SIZE = os.terminal_size((80, 24))
_BREAK = "\n"
_MAX_DIGITS = 5
"""Of a size that a variable names: no terminal is as large as a number with more."""


def print_text(text: Iterable[str | Verbatim | Table]) -> None:
    """Print the text of a report: in the width of the terminal, or a line for each sentence and each row."""
    width = terminal_size(sys.stdout).columns if sys.stdout.isatty() else None
    console = Console(file=sys.stdout, highlight=False, markup=False)
    for part in text:
        if isinstance(part, Verbatim):
            sys.stdout.write(part.text if width is None else _without_controls(part.text))
        elif width is None:  # without colours, and without what rich does if nobody reads the pipe
            sys.stdout.write("".join(f"{line.plain}\n" for line in lines_of(part, None)))
        else:
            console.print(*lines_of(part, width), sep="\n", soft_wrap=True)


def verbatim(text: str) -> Verbatim:
    """Return a text of somebody else's whose lines are printed as they are, without control characters."""
    return Verbatim(f"{_without_controls(text.removesuffix(_BREAK))}{_BREAK}")


def _without_controls(text: str) -> str:
    return _BREAK.join(map(printable, text.split(_BREAK)))


def warn(sentence: str) -> None:
    """Write a sentence to stderr."""
    width = terminal_size(sys.stderr).columns if sys.stderr.isatty() else None
    sys.stderr.write("".join(f"{line}\n" for line in wrap(printable(sentence), width)))


def show(text: Iterable[str | Verbatim | Table]) -> None:
    """Write sentences and tables to stderr, such as what a question is about."""
    width = terminal_size(sys.stderr).columns if sys.stderr.isatty() else None
    for part in text:
        lines = (
            [_without_controls(part.text)]
            if isinstance(part, Verbatim)
            else [f"{line.plain}\n" for line in lines_of(part, width)]
        )
        sys.stderr.write("".join(lines))


def plural(count: int, noun: str) -> str:
    """Return the count and the noun, such as "1 job" or "2 jobs"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def terminal_size(stream: TextIO) -> os.terminal_size:
    """Return the size of the terminal behind a stream. COLUMNS and LINES override it."""
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        size = _FALLBACK_SIZE
    columns = _number("COLUMNS") or size.columns or _FALLBACK_SIZE.columns
    return os.terminal_size((columns, _number("LINES") or size.lines or _FALLBACK_SIZE.lines))


def can_redraw(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that can move its cursor. An editor's often can't."""
    return stream.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"}


class Screen:
    """Text at the end of a terminal on stderr that is drawn again and again, and removed at the end."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False, markup=False)
        self._height = 0

    def draw(self, text: Sequence[str | Table], size: os.terminal_size) -> None:
        """Draw the text, which must fit the height, in place of what was drawn before."""
        self.clear()
        lines = [line for part in text for line in lines_of(part, size.columns)]
        self._console.print(*lines, sep="\n", soft_wrap=True)
        self._height = height_of(text, size.columns)

    def clear(self) -> None:
        """Remove what was drawn."""
        for _ in range(self._height):
            self._console.control(Control((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)))
        self._height = 0


def progress_bar() -> Progress:
    """Return a progress bar on stderr. It shows nothing if stderr is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else 0


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
