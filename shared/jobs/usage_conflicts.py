"""Usage records that Storage refused to insert, because they or others with their keys exist."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from shared.billing.usage_records import RECORD, is_late, on_time, possible_keys
from shared.clock import now
from shared.errors import StorageUnavailable
from shared.event_names import NAMESPACE, USAGE_RECORD_EXISTS
from shared.jobs.lease import Lease
from shared.storage.base import Row, RowExists, Table

if TYPE_CHECKING:
    from shared.billing.outbox import Outbox

log = logging.getLogger(NAMESPACE)


async def without_conflicts(table: Table, lease: Lease, added: Sequence[Row]) -> list[Row]:
    """
    Return the rows without those that are written already, and under another key those whose key is taken.

    The usage of a stored response that another job has recorded meanwhile is left out. Raises StorageUnavailable.
    """
    existing = [await table.read(row.partition, row.key) for row in added]
    if not any(existing):
        # The lease holds, so its job must not be dropped.
        raise StorageUnavailable(f"Storage refused a change of job {lease.job_id}, although nothing conflicts.")
    metered = _metered(added, existing)
    rows: list[Row] = []
    for row, other in zip(added, existing, strict=True):
        if row.key in metered or row.values.get(RECORD) in metered:
            continue
        if other is None:
            rows.append(row)
        elif not is_same(row, other):  # a fault of ours: the job must end all the same, with all that it has cost
            log.error("%s customer=%s job_id=%s key=%s", USAGE_RECORD_EXISTS, lease.customer, lease.job_id, row.key)
            rows.append(replace(row, key=f"{row.key}_{lease.owner[:8]}"))
    return rows


async def append_usage(
    table: Table, rows: Sequence[Row], outbox: Outbox | None = None, clock: Callable[[], datetime] = now
) -> None:
    """
    Insert usage records one by one, each with the day of its time; those that exist stay as they are.

    Raises StorageUnavailable.
    """
    rows = await without_written(table, rows, clock())
    stored = [row for row in rows if RECORD in row.values]
    metered = _metered(stored, [await table.read(row.partition, row.key) for row in stored])
    rows = [row for row in rows if row.key not in metered and row.values.get(RECORD) not in metered]
    while rows:
        row, *rows = on_time(rows, clock())  # what names a row follows it, so both get the same day
        _, *beside = [row] if outbox is None else await outbox.with_outbox([row])
        with contextlib.suppress(RowExists):
            await table.insert(row, beside=beside)


async def without_written(table: Table, rows: Sequence[Row], at: datetime) -> Sequence[Row]:
    """
    Return the rows as they may be written `at`, without those of an earlier day that are written already.

    Raises StorageUnavailable.
    """
    written = {row.key for row in rows if is_late(row, at) and await is_written(table, row, at)}
    return on_time([row for row in rows if row.key not in written], at)


async def is_written(table: Table, row: Row, at: datetime) -> bool:
    """Return whether the table has this very row, or had it written under a later day. Raises StorageUnavailable."""
    keys = possible_keys(row, at)
    others = [await table.read(row.partition, key) for key in keys]
    changing = () if len(keys) == 1 else ("at", RECORD)
    return any(is_same(row, other, but=changing) for other in others)


def is_same(row: Row, other: Row | None, *, but: Collection[str] = ()) -> bool:
    """Return whether `other` has all values of `row`, except those in the columns `but`."""
    values = {name: value for name, value in row.values.items() if name not in but}
    return other is not None and all(other.values.get(name) == value for name, value in values.items())


def _metered(rows: Sequence[Row], existing: Sequence[Row | None]) -> set[str]:
    """The keys of usage records whose response or batch has another record."""
    return {
        row.values[RECORD]
        for row, other in zip(rows, existing, strict=True)
        if RECORD in row.values and other is not None and other.values[RECORD] != row.values[RECORD]
    }
