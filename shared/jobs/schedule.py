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
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from shared.clock import now
from shared.errors import StorageUnavailable
from shared.event_names import BATCH_UNATTENDED, JOBS_WOKEN, NAMESPACE
from shared.jobs.batch_message import batch_key, encode_batch_message
from shared.jobs.records import State, job_id_of, job_key
from shared.jobs.schedule_entries import (
    ALL,
    BATCHES,
    PARTITIONS,
    POLLS,
    add_batch_entry,
    add_entry,
    entry_time,
    key_at,
)
from shared.storage.base import MAX_HIDDEN_S, Queues, Row, RowChanged, Table
from shared.storage.bulk import delete_rows, gather_limited, missing

BATCH_AGAIN = timedelta(minutes=5)
"""After a message that has a batch looked at, another one is sent unless that has happened."""
BATCH_UNATTENDED_AFTER = timedelta(minutes=30)
"""A turn takes at most a quarter of an hour, and the messages for the next one come every five minutes."""
SEND_S = 45.0
"""Seconds for which one run sends what is due; the next run, a minute later, continues."""
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
        self,
        customer: str,
        job_id: str,
        due_at: datetime,
        message: bytes,
        *,
        waits: Waiting = "job",
        beside: Sequence[Row] = (),
    ) -> bool:
        """
        Have the job, or its callback, wait until `due_at`, when `message` continues it. Repeating it does no harm.

        Return whether it waits: a cancelled job continues at once, to end, and one that another message has continued
        meanwhile does not wait. Only if it does, the rows `beside` are inserted of which none exists.
        """
        due_at -= timedelta(microseconds=due_at.microsecond % 1000)  # as exact as an entry's key
        while True:
            row = await self.table.read(customer, job_key(job_id))
            if row is None:  # erased: there is nothing to keep the message in
                await self.queues.send(self._queue(waits), message, delay_s=MAX_HIDDEN_S)
                return False
            if row.values["state"] not in _STATES[waits]:
                return False
            if row.values["state"] == "cancelled":
                await self.queues.send(self.jobs_queue, message)
                return False
            await add_entry(self.table, customer, job_id, due_at)
            values = {"waits": waits, "wakeup": message, "due_at": due_at}
            try:
                await self.table.merge_and_insert(Row(customer, row.key, values, row.etag), beside)
            except RowChanged as exc:  # by a worker that has just claimed it, or by its cancellation
                if exc.row is not None and exc.row.etag == row.etag:
                    beside = await missing(self.table, beside)
                continue
            break
        if now() >= due_at:  # Storage was slow, and the entry may have been taken already
            await self.wake(customer, job_id)
        return True

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
        await gather_limited(self._send_due(partition, at, deadline) for partition in ALL)

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
            page = await self.table.page(partition, "", key_at(at + timedelta(milliseconds=1)), after=after)
            woken = await gather_limited(self._try_to_wake_entry(row, at) for row in page.rows)
            _log_woken(woken, {BATCHES: "batches", POLLS: "polls"}.get(partition, "due"))
            done = [row for row, sent in zip(page.rows, woken, strict=True) if sent is not None]
            await delete_rows(self.table, [Row(row.partition, row.key, {}) for row in done])
            after = page.after
            if not after:
                return

    async def _try_to_wake_entry(self, row: Row, due_by: datetime) -> bool | None:
        """Wake what an entry names. None if Storage failed, so that one does not hold up the others."""
        customer, name = row.values["customer"], row.values["job_id"]
        if row.partition in PARTITIONS:
            return await self._try_to_wake(customer, name, due_by)
        try:
            if row.partition == BATCHES:
                return await self._wake_batch(customer, name, due_by)
            from shared.jobs.polls import Polls  # noqa: PLC0415  # few customers have any

            return await Polls(self).send_again(customer, name, entry_time(row.key))
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


def _log_woken(woken: list[bool | None], reason: str) -> None:
    sent, failed = woken.count(True), woken.count(None)
    if sent or failed:
        log.log(
            logging.WARNING if failed else logging.INFO, "%s %s sent=%d failed=%d", JOBS_WOKEN, reason, sent, failed
        )
