"""Many requests to Storage: a few at a time, deletions in transactions, and queries to their end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from typing import TypeVar

from shared.storage.base import MAX_TRANSACTION_ROWS, Row, Table

_MAX_REQUESTS = 16
"""Requests to Storage at the same time."""
_T = TypeVar("_T")


async def delete_rows(table: Table, rows: Sequence[Row]) -> int:
    """Delete any number of rows of one partition; return how many were deleted. Raises StorageUnavailable."""
    batches = [rows[start : start + MAX_TRANSACTION_ROWS] for start in range(0, len(rows), MAX_TRANSACTION_ROWS)]
    changed = await gather_limited(table.delete(batch) for batch in batches)
    return len(rows) - sum(map(len, changed))


async def missing(table: Table, rows: Sequence[Row]) -> Sequence[Row]:
    """Return those of the rows that the table does not have. Raises StorageUnavailable."""
    rows_now = await gather_limited(table.read(row.partition, row.key) for row in rows)
    return [row for row, existing in zip(rows, rows_now, strict=True) if existing is None]


async def read_pages(
    table: Table,
    partition: str,
    first: str,
    last: str,
    *,
    where: Mapping[str, str] | None = None,
    columns: Sequence[str] | None = None,
) -> AsyncIterator[Sequence[Row]]:
    """Yield the rows of all pages of a query (see `Table.page`), page by page. Raises StorageUnavailable."""
    after = ""
    while True:
        page = await table.page(partition, first, last, where=where, columns=columns, after=after)
        yield page.rows
        after = page.after
        if not after:
            return


async def gather_limited(awaitables: Iterable[Awaitable[_T]]) -> list[_T]:
    """Await all, a few at a time; return their results. Raises the first exception after all have ended."""
    outcomes = await gather_outcomes(awaitables)
    error = next((outcome for outcome in outcomes if isinstance(outcome, BaseException)), None)
    if error is not None:
        raise error
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]


async def gather_outcomes(awaitables: Iterable[Awaitable[_T]]) -> list[_T | BaseException]:
    """Await all, a few at a time; return the result of each, or its exception."""
    waiting = list(awaitables)
    if len(waiting) <= 1:  # the usual case needs no task
        try:
            return [await each for each in waiting]
        except Exception as exc:  # noqa: BLE001  # the caller decides
            return [exc]
    semaphore = asyncio.Semaphore(_MAX_REQUESTS)

    async def run(awaitable: Awaitable[_T]) -> _T:
        async with semaphore:
            return await awaitable

    try:
        return await asyncio.gather(*map(run, waiting), return_exceptions=True)
    finally:
        for each in waiting:
            if asyncio.iscoroutine(each):
                each.close()  # it was cut off before its turn, or has ended
