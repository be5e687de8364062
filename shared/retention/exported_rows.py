"""
Rows as lines of an export, and back. Pure.

A line is `{"key", "values", "types"}`: the row's values by name, as a reader expects them, and in `types` what JSON
can't say of one, `datetime` or `bytes`. `types` is left out if it would be empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from shared.storage.base import Row

_INTEGERS = range(-(2**31), 2**31)
"""Those that the app writes; true and false are among them."""


def encode_row(row: Row) -> dict[str, Any]:
    """Return a row as a line of an export."""
    types = {name: kind for name, value in row.values.items() if (kind := _type(value))}
    line = {"key": row.key, "values": {name: _text(value) for name, value in row.values.items()}}
    return {**line, "types": types} if types else line


def decode_row(customer: str, line: Mapping[str, Any]) -> Row:
    """Return the row of a line. Raises KeyError, TypeError or ValueError if it is none."""
    values = dict(line["values"])
    for name, kind in line.get("types", {}).items():
        values[name] = _READERS[kind](values[name])
    if not all(map(_is_value, values.values())):
        raise ValueError("A table can't hold this.")
    return Row(customer, line["key"], values)


def _is_value(value: Any) -> bool:
    return isinstance(value, str | float | datetime | bytes) or (isinstance(value, int) and value in _INTEGERS)


def _type(value: Any) -> str:
    return "datetime" if isinstance(value, datetime) else "bytes" if isinstance(value, bytes) else ""


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        # The app's own bytes are JSON: a result, a step's value. Bytes that are no text stay bytes.
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"hex": value.hex()}
    return value


def _bytes(value: Any) -> bytes:
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value.encode()


_READERS = {"datetime": datetime.fromisoformat, "bytes": _bytes}
