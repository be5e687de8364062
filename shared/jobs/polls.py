"""
The poll of a connection: one look at all responses that its jobs wait for. Its row is `w_{connection}`, in the
customer's partition, while there are any.

A waiting job has no message, and each poll has at most one: it is hidden until the next look, or sent by the schedule
if that is not soon. It has the generation of the row, so that a doubled one ends at one read. The
schedule also has an entry for after each look (`entry_at`), so that a lost message, or a worker that died, costs
minutes; other entries of the poll, which the row does not name, do nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from shared.clock import now
from shared.jobs.batch_message import BatchMessage, encode_poll_message
from shared.jobs.schedule import Schedule
from shared.jobs.schedule_entries import add_poll_entry
from shared.jobs.waiting_rows import PREFIX
from shared.storage.base import MAX_HIDDEN_S, Row, RowChanged
from shared.storage.bulk import missing

TURN_S = 60.0
"""After which a turn begins no request."""
LEASE = timedelta(minutes=3)
"""Of a turn: longer than it and its last requests can take."""
AGAIN_AFTER = timedelta(minutes=5)
"""After a look was due, the schedule has it done if nobody has."""
LOST_AFTER = timedelta(minutes=15)
"""After a look was due, the schedule's entry has got lost, too."""
TIMER = timedelta(minutes=1)
"""By which the schedule may be late."""
HIDDEN_FOR = timedelta(seconds=45)
"""At most, until a look of a young response; the schedule sends the message for a later one."""
_SLACK = timedelta(seconds=1)
"""By which a look may be later than a job asks for."""
_COLUMNS = ("generation", "due_at", "lease_until", "entry_at", "looked_until", "pass_at", "after", "has_looks")


@dataclass(frozen=True, slots=True)
class Poll:
    """A poll's row."""

    customer: str
    connection: str
    generation: int
    due_at: datetime
    """When its message comes; while a turn lasts, its lease's end, unless a job has joined that wants to be earlier."""
    lease_until: datetime
    """The end of the turn that is under way."""
    entry_at: datetime
    """When the schedule sends the message: once more, or, if that is no later than `due_at`, for the first time."""
    looked_until: datetime
    """All looks have been made that were due by then."""
    pass_at: datetime
    """And these are being made that were due by then."""
    after: str = ""
    """As a worker of version 4 reads it, which has no rows of looks."""
    has_looks: bool = False
    """Whether all that is waited for has a look's row (see `jobs.waiting_rows`)."""
    etag: str = ""

    @property
    def key(self) -> str:
        """The key of its row."""
        return poll_key(self.connection)


def poll_key(connection: str) -> str:
    """Return the key of a poll's row."""
    return f"{PREFIX}{connection}"


def read_poll(row: Row) -> Poll:
    """Return the poll in its row."""
    values: dict[str, Any] = {name: row.values[name] for name in _COLUMNS if name in row.values}
    return Poll(row.partition, row.key.removeprefix(PREFIX), **values, etag=row.etag)


@dataclass(frozen=True, slots=True)
class Polls:
    """The polls of all customers. Every method raises StorageUnavailable."""

    schedule: Schedule

    async def join(self, customer: str, connection: str, by: datetime, waiting: str) -> None:
        """
        Have the connection's responses be looked at by a time, at the latest.

        `waiting`: the key of a row that says that one is waited for. If that is gone, because the customer was erased
        or the job has ended, no poll begins.
        """
        while True:
            at, row = now(), await self._read(customer, connection)
            if row is None:
                poll, due_at = Poll(customer, connection, 0, at, at, at, at, at, has_looks=True), max(by, at)
                row = await self.schedule.table.read(customer, waiting)
                if row is None or await self._begin(_next(poll, due_at, due_at - TIMER), at, row):
                    return
                continue
            poll = read_poll(row)
            is_taken = poll.lease_until > at
            is_known = poll.due_at < poll.lease_until if is_taken else poll.due_at > at - LOST_AFTER
            if poll.due_at <= by + _SLACK and is_known:
                return
            if is_taken:  # even if the look is wanted after the lease: the turn may not have read the job's row
                changed = replace(poll, due_at=min(by, poll.lease_until - _SLACK))
            else:
                changed = _next(poll, by, by - TIMER)
            if await self._change(poll, changed) is not None:
                if not is_taken:
                    await self._send(changed)
                return

    async def take(self, message: BatchMessage) -> Poll | None:
        """Return the poll, for a turn at it; None if the message is none of it any more, or a turn is under way."""
        while True:
            at, row = now(), await self._read(message.customer, message.connection)
            if row is None:
                return None
            poll = read_poll(row)
            if poll.generation != message.generation or poll.lease_until > at:
                return None
            ends_at = at + LEASE
            taken = replace(poll, lease_until=ends_at, due_at=ends_at, pass_at=at)
            if (changed := await self._change(poll, taken)) is not None:
                return changed

    async def add(self, poll: Poll, looks: Sequence[Row]) -> Poll | None:
        """Insert rows of looks during a turn. Return the poll as it is then; None if the turn is another's, or over."""
        current: Poll | None = poll
        while current is not None:
            if (changed := await self._change(current, current, looks)) is not None:
                return changed
            current = await self._current(poll)
        return None

    async def rest(self, poll: Poll, due_at: datetime, *, entry_by: datetime, looks: Sequence[Row] = ()) -> bool:
        """
        End a turn, and insert rows of looks. The next look is due then. If the schedule sends the message for it, it
        does by `entry_by`. Return False if the turn is another's, or the poll is gone.
        """
        current: Poll | None = poll
        while current is not None:
            if current.due_at < current.lease_until:  # a job has joined
                due_at = max(min(due_at, current.due_at), now())
                entry_by = min(entry_by, due_at - TIMER)
            kept = replace(poll, etag=current.etag, entry_at=current.entry_at)
            changed = replace(_next(kept, due_at, min(due_at, entry_by)), lease_until=now())
            if await self._change(kept, changed, looks) is not None:
                await self._send(changed)
                return True
            current = await self._current(poll)
        return False

    async def end(self, poll: Poll) -> None:
        """End a turn after which nothing is waited for, and the poll with it."""
        has_joined = poll.due_at < poll.lease_until
        if has_joined or await self.schedule.table.delete([Row(poll.customer, poll.key, {}, poll.etag)]):
            at = now()
            await self.rest(poll, at + TIMER, entry_by=at + TIMER)  # a job has joined, or the schedule was here

    async def _current(self, poll: Poll) -> Poll | None:
        """Return the poll as it is in a turn that has taken it; None if it is another's, or gone."""
        row = await self._read(poll.customer, poll.connection)
        current = None if row is None else read_poll(row)
        taken = poll.generation, poll.lease_until
        return current if current is not None and (current.generation, current.lease_until) == taken else None

    async def send_again(self, customer: str, connection: str, entry_at: datetime) -> bool:
        """Send a poll's message once more, for an entry of the schedule; return whether it was sent."""
        while True:
            at, row = now(), await self._read(customer, connection)
            if row is None:
                return False
            poll = read_poll(row)
            if poll.entry_at != entry_at:
                return False
            changed = replace(poll, entry_at=_exact(max(poll.due_at, at) + AGAIN_AFTER))
            if await self._change(poll, changed) is not None:
                if poll.lease_until > at:
                    return False
                await self._send(changed)
                return True

    async def _read(self, customer: str, connection: str) -> Row | None:
        return await self.schedule.table.read(customer, poll_key(connection))

    async def _begin(self, poll: Poll, at: datetime, waiting: Row) -> bool:
        await add_poll_entry(self.schedule.table, poll.customer, poll.connection, poll.entry_at)
        beside = Row(poll.customer, waiting.key, {}, waiting.etag)
        try:
            await self.schedule.table.merge_and_insert(beside, [Row(poll.customer, poll.key, _values(poll, at))])
        except RowChanged:
            return False
        await self._send(poll)
        return True

    async def _change(self, poll: Poll, changed: Poll, looks: Sequence[Row] = ()) -> Poll | None:
        """Write the poll, and insert rows of looks. Return it as it is then; None if somebody else has changed it."""
        if changed.entry_at != poll.entry_at:
            await add_poll_entry(self.schedule.table, poll.customer, poll.connection, changed.entry_at)
        row = Row(poll.customer, poll.key, _values(changed, now()), poll.etag)
        while True:
            try:
                etag, *_ = await self.schedule.table.merge_and_insert(row, looks)
            except RowChanged as exc:
                if exc.row is None or exc.row.etag != poll.etag:
                    return None
                looks = await missing(self.schedule.table, looks)
            else:
                return replace(changed, etag=etag)

    async def _send(self, poll: Poll) -> None:
        """Send the message, unless the schedule does."""
        if poll.entry_at > poll.due_at:
            delay_s = min(max((poll.due_at - now()).total_seconds(), 0), MAX_HIDDEN_S)
            message = encode_poll_message(poll.customer, poll.connection, poll.generation)
            await self.schedule.queues.send(self.schedule.batches_queue, message, delay_s=delay_s)


def _next(poll: Poll, due_at: datetime, entry_by: datetime) -> Poll:
    """Return the poll with its next generation, which is due then."""
    changed = replace(poll, generation=poll.generation + 1, due_at=due_at)
    if entry_by > now() + HIDDEN_FOR:
        return replace(changed, entry_at=_exact(entry_by))
    if due_at < poll.entry_at <= due_at + 2 * AGAIN_AFTER:
        return changed
    return replace(changed, entry_at=_exact(due_at + AGAIN_AFTER))


def _exact(at: datetime) -> datetime:
    """Return a time as exact as an entry's key."""
    return at - timedelta(microseconds=at.microsecond % 1000)


def _values(poll: Poll, at: datetime) -> dict[str, Any]:
    """Return a poll's columns. `at` is when it was changed, for the sweep."""
    return {**{name: getattr(poll, name) for name in _COLUMNS}, "at": at}
