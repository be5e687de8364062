"""Sentences that fit a terminal, and have nothing that it would obey."""

from __future__ import annotations

from rich.cells import cell_len


def wrap(text: str, width: int | None, *, indent: int = 0) -> list[str]:
    """
    Return the lines of a text, broken between words. A command in backticks stays in one line if it has room in it.

    A word that has no room in any line, such as an id or a URL, has one of its own.
    """
    blanks = " " * indent
    first, *words = _words(text.lstrip(" "), None if width is None else width - indent)
    lines = [f"{blanks}{' ' * (len(text) - len(text.lstrip(' ')))}{first}"]
    if width is not None and cell_len(lines[0]) > width:
        lines = [f"{blanks[: max(width - cell_len(first), 0)]}{first}"]
    for word in words:
        line = f"{lines[-1]} {word}"
        if width is not None and cell_len(line) > width:
            lines.append(f"{blanks[: max(width - cell_len(word), 0)]}{word}")
        else:
            lines[-1] = line
    return lines


def _words(text: str, room: int | None) -> list[str]:
    words: list[str] = []
    is_open = False  # between backticks
    for word in text.split(" "):
        if is_open and (room is None or cell_len(words[-1]) + 1 + cell_len(word) <= room):
            words[-1] += f" {word}"
        else:
            words.append(word)
        is_open ^= word.count("`") % 2 == 1
    return words


def printable(text: str) -> str:
    """Return the text without control characters, which a terminal would obey. Line breaks become blanks."""
    return "".join(char if char.isprintable() else " " if char in "\r\n\t" else "\ufffd" for char in text)
