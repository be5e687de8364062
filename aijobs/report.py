"""What a command returns for stdout: a document for programs, a text for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aijobs.table import Table


@dataclass(frozen=True, slots=True)
class Verbatim:
    """Text that is printed as it is; for a terminal, control characters are removed."""

    text: str


@dataclass(frozen=True, slots=True)
class Report:
    """
    The outcome of a command. With `--json` its document is printed, else its text.

    The document is a Struct, or dictionaries, lists and simple values. The text consists of sentences and tables.
    """

    document: object
    text: Sequence[str | Verbatim | Table]
    exit_code: int = 0


def print_document(document: object) -> None:
    """Print a document as JSON. What a terminal would obey in its texts is escaped."""
    import msgspec  # noqa: PLC0415  # `--help` needs no documents

    _print(msgspec.to_builtins(document))


def print_error(code: str, message: str) -> None:
    """Print the document of a command that failed."""
    _print({"error": {"code": code, "message": message}})


def _print(document: object) -> None:
    text = json.dumps(document, indent=2, ensure_ascii=False)
    # JSON's own characters are printable, so the others are within its strings.
    sys.stdout.write("".join(f"{_escape(line)}\n" for line in text.split("\n")))


def _escape(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line)
