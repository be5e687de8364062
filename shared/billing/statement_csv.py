"""Statements as CSV, for HTTP, the command line and closed months. Builds text only: no storage, no network."""

from __future__ import annotations

import csv
import io
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from shared.billing.statement_sums import MEASURES, MONEY
from shared.billing.usage_entries import FIXED_DIMENSIONS
from shared.contract.statement import Statement, UsageOverview

_FORMULA = frozenset("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
"""First characters that make a spreadsheet read a cell as a formula (owasp.org, "CSV Injection")."""


def encode_csv(statement: Statement) -> bytes:
    """Return the statement's lines as CSV."""
    return _encode_lines((*statement.by, *FIXED_DIMENSIONS, "kind", *MEASURES, *MONEY), statement.lines)


def encode_overview_csv(overview: UsageOverview) -> bytes:
    """Return the lines of all customers as CSV."""
    return _encode_lines(("customer", *MEASURES, "lost", "unanswered", *MONEY), overview.lines)


def encode_table(names: Sequence[str], rows: Iterable[Mapping[str, Any]], *, numbers: Container[str]) -> bytes:
    """
    Return rows as RFC 4180 CSV with a header row, in UTF-8. `numbers` are columns of decimal strings.

    A text that a spreadsheet could read as a formula, or that starts with a single quote, gets a single quote in
    front. To restore the original, remove one leading quote.
    """
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(names)
    writer.writerows([row[name] if name in numbers else _cell(row[name]) for name in names] for row in rows)
    return file.getvalue().encode()


def _encode_lines(names: Sequence[str], lines: Iterable[Any]) -> bytes:
    rows = ({name: getattr(line, name) for name in names} for line in lines)
    return encode_table(names, rows, numbers=frozenset(MONEY))


def _cell(value: Any) -> Any:
    if isinstance(value, tuple):
        return " ".join(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value  # None is an empty cell
    # A spreadsheet may skip characters that don't print, such as a byte order mark.
    visible = next((char for char in value if char.isprintable() and not char.isspace()), "")
    needs_quote = value[:1] == "'" or value[:1] in _FORMULA or visible in _FORMULA
    return f"'{value}" if value and needs_quote else value
