"""
The schedule: jobs that wait for more than two minutes have no message in the queue, but a row each in order of time.

The host scales by the number of messages, hidden ones included (docs/scale.md). So the message that continues a job
that waits for longer is kept in the job's row (`wakeup`), and an entry in the schedule says when it is due. A timer
sends what is due. An entry is written before the job's row, and a message may be sent twice: the ledger makes sure that
the job runs once. Whoever sends a job's message wakes it before its time. A callback that waits for its next try is
kept in the same way: its job is done by then.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from zlib import crc32

from shared.clock import now
from shared.errors import StorageUnavailable
from shared.event_names import BATCH_UNATTENDED, JOBS_WOKEN, NAMESPACE
from shared.jobs.batch_message import batch_key, encode_batch_message
from shared.jobs.records import State, job_id_of, job_key
from shared.storage.base import MAX_HIDDEN_S, Queues, Row, RowChanged, RowExists, Table
from shared.storage.bulk import delete_rows, gather_limited

PARTITIONS = tuple(f"~schedule-{number}" for number in range(4))
"""No customer's id begins so. All entries of a customer are in one partition."""
BATCHES = "~batches"
"""The partition of the entries of batches: a worker of a version without batches leaves it alone."""
BATCH_AGAIN = timedelta(minutes=5)
"""After a message that has a batch looked at, another one is sent unless that has happened."""
BATCH_UNATTENDED_AFTER = timedelta(minutes=30)
"""A turn takes at most a quarter of an hour, and the messages for the next one come every five minutes."""
SEND_S = 45.0
"""Seconds for which one run sends what is due; the next run, a minute later, continues."""
_KEY_DIGITS = 14
_MILLISECOND = timedelta(milliseconds=1)
Waiting = Literal["job", "callback"]
"""What waits: a job, or the callback of one that is done."""
_STATES: dict[Waiting, frozenset[State]] = {
    "job": frozenset({"queued", "waiting", "cancelled"}),
    "callback": frozenset({"done"}),
}

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class Schedule:
    """When the jobs of all customers continue. Every method raises StorageUnavailable."""

    table: Table
    queues: Queues
    jobs_queue: str
    callbacks_queue: str
    batches_queue: str

    async def send(self, customer: str, job_id: str, message: bytes, *, delay_s: float, waits: Waiting = "job") -> None:
        """Send the message that continues the job after `delay_s`: hidden until then, or by the schedule."""
        if delay_s > MAX_HIDDEN_S:
            await self.add(customer, job_id, now() + timedelta(seconds=delay_s), message, waits=waits)
        else:
            await self.queues.send(self._queue(waits), message, delay_s=delay_s)

    async def send_at(self, customer: str, job_id: str, message: bytes, *, due_at: datetime) -> None:
        """As `send`, at a time. Repeating it leaves one entry."""
        delay_s = max((due_at - now()).total_seconds(), 0)
        if delay_s > MAX_HIDDEN_S:
            await self.add(customer, job_id, due_at, message)
        else:
            await self.queues.send(self.jobs_queue, message, delay_s=delay_s)

    async def add(
        self, customer: str, job_id: str, due_at: datetime, message: bytes, *, waits: Waiting = "job"
    ) -> None:
        """
        Have the job, or its callback, wait until `due_at`, when `message` continues it. Repeating it does no harm.

        A cancelled job continues at once, to end. A job that another message has continued meanwhile does not wait.
        """
        due_at -= timedelta(microseconds=due_at.microsecond % 1000)  # as exact as an entry's key
        while True:
            row = await self.table.read(customer, job_key(job_id))
            if row is None:  # erased: there is nothing to keep the message in
                await self.queues.send(self._queue(waits), message, delay_s=MAX_HIDDEN_S)
                return
            if row.values["state"] not in _STATES[waits]:
                return
            if row.values["state"] == "cancelled":
                await self.queues.send(self.jobs_queue, message)
                return
            await add_entry(self.table, customer, job_id, due_at)
            values = {"waits": waits, "wakeup": message, "due_at": due_at}
            try:
                await self.table.merge(Row(customer, row.key, values, row.etag))
            except RowChanged:  # by a worker that has just claimed it, or by its cancellation
                continue
            break
        if now() >= due_at:  # Storage was slow, and the entry may have been taken already
            await self.wake(customer, job_id)

    async def add_batch(self, customer: str, batch_id: str, due_at: datetime) -> None:
        """Have a batch of jobs be looked at when it is due, unless its row then says a later time."""
        await add_batch_entry(self.table, customer, batch_id, due_at)

    async def wake(self, customer: str, job_id: str, *, due_by: datetime | None = None) -> bool:
        """
        Send the message of what waits in the schedule of a job; with `due_by`, only if it is due by then.

        Return whether it was sent. The job's entry stays, and its time passes without effect.
        """
        row = await self.table.read(customer, job_key(job_id))
        if row is None or not row.values.get("wakeup"):
            return False
        if due_by is not None and row.values["due_at"] > due_by:
            return False
        await self.queues.send(self._queue(row.values["waits"]), row.values["wakeup"])
        return True

    async def send_due(self, at: datetime | None = None, *, seconds: float = SEND_S) -> None:
        """Send the messages of the jobs that are due, the earliest of each partition first."""
        at, deadline = at or now(), time.monotonic() + seconds
        partitions = (*PARTITIONS, BATCHES)
        await gather_limited(self._send_due(partition, at, deadline) for partition in partitions)

    async def wake_overdue(self, customer: str, before: datetime, after: str = "") -> str:
        """
        Wake what was due before a time and still waits of the customer's jobs: its entry or its message got lost.

        Takes one page of jobs, from the continuation token `after`; returns the token of the next one, or "".
        """
        older, where, columns = {"due_at": before}, {"waits ne": ""}, ()
        page = await self.table.page(customer, "j_", "j`", older=older, where=where, columns=columns, after=after)
        overdue = [job_id_of(row) for row in page.rows]
        _log_woken(await gather_limited(self._try_to_wake(customer, job_id, before) for job_id in overdue), "overdue")
        return page.after

    async def _send_due(self, partition: str, at: datetime, deadline: float) -> None:
        after = ""
        while time.monotonic() < deadline:
            page = await self.table.page(partition, "", _key(at + _MILLISECOND), after=after)
            woken = await gather_limited(self._try_to_wake_entry(row, at) for row in page.rows)
            _log_woken(woken, "batches" if partition == BATCHES else "due")
            done = [row for row, sent in zip(page.rows, woken, strict=True) if sent is not None]
            await delete_rows(self.table, [Row(row.partition, row.key, {}) for row in done])
            after = page.after
            if not after:
                return

    async def _try_to_wake_entry(self, row: Row, due_by: datetime) -> bool | None:
        """Wake what an entry names. None if Storage failed, so that one does not hold up the others."""
        customer, name = row.values["customer"], row.values["job_id"]
        if row.partition != BATCHES:
            return await self._try_to_wake(customer, name, due_by)
        try:
            return await self._wake_batch(customer, name, due_by)
        except StorageUnavailable:
            return None

    async def _wake_batch(self, customer: str, batch_id: str, due_by: datetime) -> bool:
        row = await self.table.read(customer, batch_key(batch_id))
        if row is None or row.values["state"] == "done" or row.values["due_at"] > due_by:
            return False
        overdue = due_by - row.values["due_at"]
        if overdue > BATCH_UNATTENDED_AFTER:
            log.warning(
                "%s customer=%s batch=%s overdue_s=%d", BATCH_UNATTENDED, customer, batch_id, overdue.total_seconds()
            )
        await self.add_batch(customer, batch_id, now() + BATCH_AGAIN)  # if the message gets lost
        await self.queues.send(self.batches_queue, encode_batch_message(customer, batch_id))
        return True

    def _queue(self, waits: Waiting) -> str:
        return self.jobs_queue if waits == "job" else self.callbacks_queue

    async def _try_to_wake(self, customer: str, job_id: str, due_by: datetime) -> bool | None:
        """As `wake`; None if Storage failed, so that one job does not hold up the others."""
        try:
            return await self.wake(customer, job_id, due_by=due_by)
        except StorageUnavailable:
            return None


async def add_entry(table: Table, customer: str, job_id: str, due_at: datetime) -> None:
    """Have what waits in the job's row be sent when it is due. Raises StorageUnavailable."""
    await _add_entry(table, _partition(customer), customer, job_id, due_at)


async def oldest_entry(table: Table) -> datetime | None:
    """Return when the first entry of the schedule is due, None if there is none. Raises StorageUnavailable."""
    pages = [await table.page(partition, "", "~", columns=()) for partition in (*PARTITIONS, BATCHES)]
    keys = [page.rows[0].key for page in pages if page.rows]
    return datetime(1970, 1, 1, tzinfo=UTC) + int(min(keys)[:_KEY_DIGITS]) * _MILLISECOND if keys else None


async def add_batch_entry(table: Table, customer: str, batch_id: str, due_at: datetime) -> None:
    """Have a batch of jobs be looked at when it is due. Raises StorageUnavailable."""
    await _add_entry(table, BATCHES, customer, batch_id, due_at)


async def erase_entries(table: Table, customer: str) -> int:
    """Delete the customer's entries; return how many there were. Raises StorageUnavailable."""
    partitions = _partition(customer), BATCHES
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
        await table.insert(Row(partition, f"{_key(due_at)}_{customer}_{name}", values))


def _partition(customer: str) -> str:
    return PARTITIONS[crc32(customer.encode()) % len(PARTITIONS)]


def _key(at: datetime) -> str:
    """Return the beginning of the keys of entries that are due then: milliseconds since 1970."""
    return f"{(at - datetime(1970, 1, 1, tzinfo=UTC)) // _MILLISECOND:0{_KEY_DIGITS}}"


def _log_woken(woken: list[bool | None], reason: str) -> None:
    sent, failed = woken.count(True), woken.count(None)
    if sent or failed:
        log.log(
            logging.WARNING if failed else logging.INFO, "%s %s sent=%d failed=%d", JOBS_WOKEN, reason, sent, failed
        )
