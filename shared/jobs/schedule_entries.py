"""The entries of the schedule (see `jobs.schedule`): what is due when, in order of time."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from zlib import crc32

from shared.storage.base import Row, RowExists, Table
from shared.storage.bulk import delete_rows

PARTITIONS = tuple(f"~schedule-{number}" for number in range(4))
"""No customer's id begins so. All entries of a customer are in one partition."""
BATCHES = "~batches"
"""The partition of the entries of batches: a worker of a version without batches leaves it alone."""
POLLS = "~polls"
"""That of the entries of polls (see `jobs.polls`)."""
ALL = (*PARTITIONS, BATCHES, POLLS)
KEY_DIGITS = 14
_MILLISECOND = timedelta(milliseconds=1)


async def add_entry(table: Table, customer: str, job_id: str, due_at: datetime) -> None:
    """Have what waits in the job's row be sent when it is due. Raises StorageUnavailable."""
    await _add_entry(table, _partition(customer), customer, job_id, due_at)


async def oldest_entry(table: Table) -> datetime | None:
    """Return when the first entry of the schedule is due, None if there is none. Raises StorageUnavailable."""
    pages = [await table.page(partition, "", "~", columns=()) for partition in ALL]
    keys = [page.rows[0].key for page in pages if page.rows]
    return entry_time(min(keys)) if keys else None


async def add_batch_entry(table: Table, customer: str, batch_id: str, due_at: datetime) -> None:
    """Have a batch of jobs be looked at when it is due. Raises StorageUnavailable."""
    await _add_entry(table, BATCHES, customer, batch_id, due_at)


async def add_poll_entry(table: Table, customer: str, connection: str, due_at: datetime) -> None:
    """Have the message of a connection's poll be sent when it is due. Raises StorageUnavailable."""
    await _add_entry(table, POLLS, customer, connection, due_at)


async def erase_entries(table: Table, customer: str) -> int:
    """Delete the customer's entries; return how many there were. Raises StorageUnavailable."""
    partitions = _partition(customer), BATCHES, POLLS
    return sum([await _erase_entries(table, partition, customer) for partition in partitions])


async def _erase_entries(table: Table, partition: str, customer: str) -> int:
    deleted, after = 0, ""
    while True:
        page = await table.page(partition, "", "~", where={"customer eq": customer}, columns=(), after=after)
        deleted += await delete_rows(table, [Row(row.partition, row.key, {}) for row in page.rows])
        after = page.after
        if not after:
            return deleted


async def _add_entry(table: Table, partition: str, customer: str, name: str, due_at: datetime) -> None:
    values = {"customer": customer, "job_id": name}
    with suppress(RowExists):
        await table.insert(Row(partition, f"{key_at(due_at)}_{customer}_{name}", values))


def _partition(customer: str) -> str:
    return PARTITIONS[crc32(customer.encode()) % len(PARTITIONS)]


def key_at(at: datetime) -> str:
    """Return the beginning of the keys of entries that are due then: milliseconds since 1970."""
    return f"{(at - datetime(1970, 1, 1, tzinfo=UTC)) // _MILLISECOND:0{KEY_DIGITS}}"


def entry_time(key: str) -> datetime:
    """Return when the entry with this key is due."""
    return datetime(1970, 1, 1, tzinfo=UTC) + int(key[:KEY_DIGITS]) * _MILLISECOND
