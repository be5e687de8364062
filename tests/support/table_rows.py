"""Rows of a table, for tests of tables."""

from __future__ import annotations

from typing import Any

from shared.storage.base import Row, Table


async def keys(table: Table, partition: str, first: str = "", last: str = "~") -> list[str]:
    """Return the keys of a scan."""
    return [row.key async for row in table.scan(partition, first, last)]


async def fill(table: Table, partition: str, *row_keys: str, **values: Any) -> None:
    """Insert rows with these keys, each with its key as a value."""
    for key in row_keys:
        await table.insert(Row(partition, key, {"key": key, **values}))
