"""Which usage records of one customer count, by all of its rows; for tests, which look at no day by itself."""

from __future__ import annotations

from collections.abc import Iterable

from shared.billing.usage_records import attempt_of, is_placeholder
from shared.storage.base import Row


def counted(rows: Iterable[Row]) -> list[Row]:
    """Return the records that count of all records and markers of a customer, in the order of their keys."""
    rows = list(rows)
    settled = {attempt_of(row) for row in rows if row.key.startswith("m_")}
    usage = (row for row in rows if row.key.startswith("u_"))
    counting = [row for row in usage if not (is_placeholder(row) and attempt_of(row) in settled)]
    return sorted(counting, key=lambda row: row.key)
