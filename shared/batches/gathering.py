"""
Where jobs join batches: lines of one customer, connection, model and operation, whose deadlines are near each other.

A job joins in one transaction: its row waits, its lines are there, and the batch counts them. The jobs of one worker
that come while a transaction is under way, or soon after it, share the next one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from shared.batches.records import (
    DEADLINE_SPREAD,
    MAX_BYTES,
    MAX_LINES,
    BatchRecord,
    Group,
    OpenBatch,
    batch_row,
    new_batch_id,
    open_values,
    read_batch,
    read_open,
)
from shared.clock import now
from shared.errors import LeaseLost, StorageUnavailable
from shared.ids import new_id
from shared.jobs.batch_message import batch_key, encode_batch_message
from shared.jobs.schedule import Schedule
from shared.lru import LRU
from shared.single_flight import Grouped
from shared.storage.base import Queues, Row, RowChanged, RowExists, Table

MAX_JOIN_LINES = 40
"""Lines that a job adds in one transaction."""
_MAX_ROWS = 98
"""Of a transaction, beside the batch's own."""
_MAX_TRANSACTION_BYTES = 2_500_000
"""Of what its lines hold: encoded, they are longer, and it takes 4 MB."""
_RETRY_S = (0.2, 1.0, 4.0)
_MAX_GROUPS = 10_000


@dataclass(slots=True, eq=False)
class Join:
    """What joins a batch together: lines of one job, and the job's row."""

    rows: Callable[[str, int], Sequence[Row]]
    """Returns the rows, that of the job first, for a batch and the number of its first line there."""
    lines: int
    others: int
    """How many of the rows are no lines."""
    bytes: int
    deadline: datetime
    cancel_at: datetime
    joined: asyncio.Future[tuple[str, int, str]] = field(init=False)
    """The batch, the number of the first line, and the new etag of the job's row; empty if it is not named."""

    def __post_init__(self) -> None:
        self.joined = asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class _GroupState:
    """What one group's jobs wait for on this worker."""

    waiting: list[Join] = field(default_factory=list)
    open: list[BatchRecord] = field(default_factory=list)
    """Those that this worker knows, as it last saw them."""


@dataclass(slots=True)
class Gathering:
    """Joins lines and batches of all customers. `window_s`: how long a batch gathers."""

    table: Table
    queues: Queues
    schedule: Schedule
    queue: str
    window_s: float
    _states: LRU[Group, _GroupState] = field(default_factory=lambda: LRU(_MAX_GROUPS))
    _joins: Grouped[Group, Join, tuple[str, int, str]] = field(init=False)

    def __post_init__(self) -> None:
        self._joins = Grouped(self._write_all, limit=_MAX_ROWS, size=lambda join: join.others + join.lines)

    async def join(self, group: Group, join: Join) -> tuple[str, int, str]:
        """Return what `join.joined` holds. Raises LeaseLost if the job's row has changed, StorageUnavailable."""
        return await self._joins.run(group, join)

    async def _write_all(self, group: Group, joins: Sequence[Join]) -> list[tuple[str, int, str] | BaseException]:
        if (state := self._states.get(group)) is None:
            self._states.set(group, state := _GroupState())
        state.waiting[:] = joins
        while state.waiting:
            taken = _take(state.waiting)
            try:
                await self._write(group, state, taken)
            except Exception as exc:  # noqa: BLE001  # whoever waits for it raises it
                for join in (each for each in taken if not each.joined.done()):
                    join.joined.set_exception(exc)
        return [join.joined.exception() or join.joined.result() for join in joins]

    async def _write(self, group: Group, state: _GroupState, joins: Sequence[Join]) -> None:
        """Write joins whose deadlines are near each other. Raises StorageUnavailable, LeaseLost if it is one."""
        while True:
            lines, size = sum(join.lines for join in joins), sum(join.bytes for join in joins)
            batch = await self._find_open(group, state, joins[0].deadline, lines, size)
            others = [join for join in joins if not _is_near(batch, join.deadline)]
            if others:
                state.waiting[:0], joins = others, [join for join in joins if join not in others]
                continue
            rows, firsts, first = list[Row](), list[int](), batch.lines
            for join in joins:
                firsts.append(first)
                rows += join.rows(batch.batch_id, first)
                first += join.lines
            cancel_at = min(batch.cancel_at, *(join.cancel_at for join in joins))
            values: dict[str, Any] = {"lines": batch.lines + lines, "bytes": batch.bytes + size, "cancel_at": cancel_at}
            changed = Row(group.customer, batch_key(batch.batch_id), values, batch.etag)
            state.open.remove(batch)  # until it is certain what its row says now
            try:
                etags = await self._merge(changed, rows)
            except RowChanged as exc:
                if exc.row is None or exc.row.etag != batch.etag:
                    continue  # another worker's jobs have joined it, or it is closed
                if len(joins) == 1:
                    raise LeaseLost("The job's row was changed while it joined a batch.") from None
                await self._write_each(group, state, joins)
                return
            batch = replace(batch, etag=etags[0], **values)
            if batch.is_full:
                await self.queues.send(self.queue, encode_batch_message(batch.customer, batch.batch_id))
            else:
                state.open.append(batch)
            self._resolve(batch, joins, firsts, etags)
            return

    async def _write_each(self, group: Group, state: _GroupState, joins: Sequence[Join]) -> None:
        """One of them can't join: write each by itself."""
        for join in joins:
            try:
                await self._write(group, state, [join])
            except LeaseLost as exc:
                join.joined.set_exception(exc)

    async def _merge(self, changed: Row, rows: Sequence[Row]) -> Sequence[str]:
        operation_id, waits = new_id(), iter(_RETRY_S)
        while True:
            try:
                return await self.table.merge_and_insert(changed, rows, operation_id=operation_id)
            except StorageUnavailable:
                wait_s = next(waits, None)
                if wait_s is None:
                    raise
                await asyncio.sleep(wait_s)

    def _resolve(self, batch: BatchRecord, joins: Sequence[Join], firsts: Sequence[int], etags: Sequence[str]) -> None:
        index = 1
        for join, first in zip(joins, firsts, strict=True):
            etag = etags[index] if index < len(etags) else ""
            index += join.others + join.lines
            join.joined.set_result((batch.batch_id, first, etag))

    async def _find_open(
        self, group: Group, state: _GroupState, deadline: datetime, lines: int, size: int
    ) -> BatchRecord:
        """Return a batch of the group that takes lines: one that is open, or a new one."""
        for own in list(state.open):
            if not self._is_open(own):
                state.open.remove(own)
            elif _takes(own, deadline, lines, size):
                return own
        while True:
            row = await self.table.read(group.customer, group.key)
            named = read_open(row.values) if row else []
            for each in reversed(named):
                if _is_near(each, deadline):
                    batch_id = batch_key(each.batch_id)
                    existing = await self.table.read(group.customer, batch_id)
                    batch = read_batch(existing) if existing else None
                    if batch is not None and self._is_open(batch) and _takes(batch, deadline, lines, size):
                        state.open.append(batch)
                        return batch
            opened = await self._open(group, deadline, row, named)
            if opened is not None:
                state.open.append(opened)
                return opened

    async def _open(
        self, group: Group, deadline: datetime, row: Row | None, named: list[OpenBatch]
    ) -> BatchRecord | None:
        """Open a batch; return it, or None if another worker has just opened one."""
        at = now()
        batch_id, closes_at = new_batch_id(at), at + timedelta(seconds=self.window_s)
        batch = BatchRecord(
            group.customer,
            batch_id,
            "",
            group.connection,
            group.model,
            group.operation,
            at,
            deadline,
            deadline,
            closes_at,
        )
        kept = [each for each in named if not _is_near(each, deadline)]
        values = open_values(group, [*kept, OpenBatch(batch_id, deadline)])
        await self.schedule.add_batch(group.customer, batch_id, closes_at)
        beside = Row(group.customer, group.key, values, row.etag if row else "")
        try:
            etag = await self.table.insert(batch_row(batch), beside=[beside])
        except RowExists:
            return None
        return replace(batch, etag=etag)

    def _is_open(self, batch: BatchRecord) -> bool:
        return batch.state == "gathering" and now() < batch.gathers_until(self.window_s)


def _take(waiting: list[Join]) -> list[Join]:
    """Remove and return the first of those that wait, as many as one transaction takes."""
    taken, rows, lines, size = list[Join](), 0, 0, 0
    for join in list(waiting):
        lines, size = lines + join.lines, size + join.bytes
        rows += join.others + join.lines
        if taken and (rows > _MAX_ROWS or lines > MAX_LINES or size > _MAX_TRANSACTION_BYTES):
            break
        taken.append(join)
        waiting.remove(join)
    return taken


def _is_near(batch: BatchRecord | OpenBatch, deadline: datetime) -> bool:
    return abs(batch.first_deadline - deadline) <= DEADLINE_SPREAD


def _takes(batch: BatchRecord, deadline: datetime, lines: int, size: int) -> bool:
    return (
        _is_near(batch, deadline)
        and batch.lines + lines <= MAX_LINES
        and (not batch.lines or batch.bytes + size <= MAX_BYTES)
    )
