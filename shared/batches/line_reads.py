"""Single lines of a batch, read for the jobs that it has woken: those that are wanted at once share a query."""

from __future__ import annotations

from collections.abc import Sequence

from shared.jobs.lines import TAKEN_OUT, line_key
from shared.single_flight import Grouped
from shared.storage.base import Row, Table
from shared.storage.bulk import gather_outcomes, read_pages

COLUMNS = (
    *("job_id", "key", "digest", "label", TAKEN_OUT),
    *("status", "request_id", "error_code", "error", "answer", "in_blob"),
)
"""Of a line, what its job has to know."""
MAX_LINES = 32
MAX_SPREAD = 3
"""
Lines that a query reads for each that is wanted: other workers have the jobs between. Even if all have the longest
answers that a row holds, they are no more than a direct request returns (`network.pool`).
"""
_Batch = tuple[str, str]


class LineReads:
    """Reads lines by their customer, batch and number."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._grouped = Grouped[_Batch, int, Row | None](self._read, limit=MAX_LINES)

    async def read(self, customer: str, batch: str, number: int) -> Row | None:
        """Return a line as it is now, or None. Raises StorageUnavailable."""
        return await self._grouped.run((customer, batch), number)

    async def _read(self, of: _Batch, numbers: Sequence[int]) -> Sequence[Row | BaseException | None]:
        (customer, batch), first, end = of, min(numbers), max(numbers) + 1
        if len(numbers) == 1 or end - first > MAX_SPREAD * len(numbers):
            return await gather_outcomes(self._table.read(customer, line_key(batch, number)) for number in numbers)
        pages = read_pages(self._table, customer, line_key(batch, first), line_key(batch, end), columns=COLUMNS)
        rows = {row.key: row async for page in pages for row in page}
        return [rows.get(line_key(batch, number)) for number in numbers]
