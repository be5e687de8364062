"""
The ends of jobs that a batch has woken: those of one customer that come while one is written share a transaction.

Hundreds of them come at once, and a request costs more than the rows that it writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from shared.single_flight import Grouped
from shared.storage.base import MAX_TRANSACTION_ROWS, Row, Table
from shared.storage.bulk import gather_outcomes

MAX_RESULT_BYTES = 16_384
"""Of a result that is written with others: with all that they have beside it, so many as fit are 1 MB, encoded."""
_MAX_ROWS = 10
"""Of a write that shares a transaction."""


class _Change(NamedTuple):
    changed: Row
    added: Sequence[Row]
    operation_id: str


class SharedWrites:
    """Writes jobs' rows as `Table.merge_and_insert`. If they can't be written together, each is by itself."""

    def __init__(self, table: Table) -> None:
        self._table = table
        limit = MAX_TRANSACTION_ROWS
        self._grouped = Grouped[str, _Change, Sequence[str]](self._write_together, limit=limit, size=_rows)

    async def write(self, changed: Row, added: Sequence[Row], *, operation_id: str = "") -> Sequence[str]:
        """Return the etags of all rows, or only that of `changed`. Raises as `Table.merge_and_insert`."""
        is_small = len(added) < _MAX_ROWS and len(changed.values.get("result_body", b"")) <= MAX_RESULT_BYTES
        if not is_small or changed.values.get("state") != "done":
            return await self._table.merge_and_insert(changed, added, operation_id=operation_id)
        return await self._grouped.run(changed.partition, _Change(changed, added, operation_id))

    async def _write_together(self, _: str, changes: Sequence[_Change]) -> Sequence[Sequence[str] | BaseException]:
        first, *rows = (row for each in changes for row in (each.changed, *each.added))
        if len(changes) > 1 and len({first.key, *(row.key for row in rows)}) == 1 + len(rows):
            try:
                etags = await self._table.merge_and_insert(first, rows, operation_id=changes[0].operation_id)
            except Exception:  # noqa: BLE001  # one is in the way, or it is not known whether it was made
                etags = ()
            if len(etags) == 1 + len(rows):
                sizes = list(map(_rows, changes))
                return [etags[end - size : end] for end, size in zip(accumulate(sizes), sizes, strict=True)]
        # What was made all the same is then refused: its row has the owner of this lease, and is done.
        write = self._table.merge_and_insert
        return await gather_outcomes(write(row, added, operation_id=own_id) for row, added, own_id in changes)


def _rows(change: _Change) -> int:
    return 1 + len(change.added)
