"""
A turn at a poll: one look at all responses of a connection that are due, and their jobs continue (see `jobs.polls`).

It reads the rows of the looks that are due, the earliest first, and replaces each by one of the next look, or deletes
it if the job is woken. What a response has come to is not kept: its job reads it once more. An error ends nothing. One
that all others would meet ends the turn; the next one begins with those that it has not looked at, and what was refused
comes after them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared.batches.look_requests import LookRequests
from shared.batches.parts import BatchParts
from shared.clock import now
from shared.errors import StorageUnavailable
from shared.jobs.batch_message import BatchMessage
from shared.jobs.polls import TIMER, Poll, Polls
from shared.jobs.response_looks import MIN_WAIT_S
from shared.jobs.response_rows import ResponseRows, creation_key, wake
from shared.jobs.waiting_rows import (
    creation_of,
    look_range,
    look_row,
    look_time,
    names_of,
    response_key,
    response_row,
)
from shared.storage.base import MAX_TRANSACTION_ROWS, Row
from shared.storage.bulk import delete_rows, gather_limited, read_pages

_MAX_TASKS = 10_000
"""Looks that one turn makes: each takes memory."""
_PART = MAX_TRANSACTION_ROWS - 1
"""Rows that are inserted at once, beside the poll's own."""
_LIMIT_S = 600.0
"""After which a turn is cut off, whatever it waits for: at host.json's `functionTimeout`, the host ends the worker."""


@dataclass(frozen=True, slots=True)
class ResponsePoll:
    """Takes turns."""

    parts: BatchParts

    async def run(self, message: BatchMessage) -> None:
        """Take a turn, if the message is still meant for one. Raises StorageUnavailable, WorkerStopping."""
        self.parts.drain.check()
        polls = Polls(self.parts.schedule)
        poll = await polls.take(message)
        if poll is None:
            return
        turn = _Turn(self.parts, poll)
        try:
            async with asyncio.timeout(_LIMIT_S):
                if poll.has_looks or await turn.add_looks():
                    await turn.run()
                    await turn.end()
        except (StorageUnavailable, TimeoutError) as exc:  # whoever was not woken is looked at once more
            delay_s = exc.delay_s if isinstance(exc, StorageUnavailable) else MIN_WAIT_S
            due_at = now() + timedelta(seconds=delay_s)
            await polls.rest(turn.poll, due_at, entry_by=due_at)


@dataclass(slots=True)
class _Turn:
    parts: BatchParts
    poll: Poll
    _requests: LookRequests = field(init=False)
    _later: list[Row] = field(default_factory=list)
    """Looks that are still to be made, as they stand: the first of them."""
    _next: list[Row] = field(default_factory=list)
    """Looks after those that were made."""
    _over: list[str] = field(default_factory=list)
    """The keys of the rows that are not needed any more."""
    _is_cut: bool = False
    """Whether more are due than one turn takes."""

    def __post_init__(self) -> None:
        self._requests = LookRequests(self.parts, self.poll)

    async def run(self) -> None:
        """Look, and wake jobs. Raises StorageUnavailable."""
        due, at = await self._read(), now()
        is_ready = await gather_limited(self._is_ready(row) for row in due)
        ready = [row for row, is_one in zip(due, is_ready, strict=True) if is_one]
        others = [row for row, is_one in zip(due, is_ready, strict=True) if not is_one]
        looks = await self._requests.look_at([row for row in others if row.values["response"]])
        ended = [row for row in others if looks.get(row.key)]
        goes_on = await gather_limited(wake(self.parts.schedule, row) for row in (*ready, *ended))
        for row, is_waiting in zip((*ready, *ended), goes_on, strict=True):
            self._over += [row.key, *([] if is_waiting else self._left_by(row))]
        for row in others:
            look = looks.get(row.key, False)
            if look is None:
                self._later.append(row)
            elif not look:
                # After those that were not looked at, if it was refused.
                again_at = now() + timedelta(seconds=self._requests.pause_s or 0)
                self._next.append(self._look_row(creation_of(row), row, at, again_at))
                self._over.append(row.key)

    async def end(self) -> None:
        """Write when the next looks are due. Raises StorageUnavailable."""
        polls, over = Polls(self.parts.schedule), [Row(self.poll.customer, key, {}) for key in self._over]
        rows = [*self._next, *self._later]
        if not rows and not self._is_cut:
            await delete_rows(self.parts.table, over)
            await polls.end(self.poll)
            return
        if not await self._add(self._next[_PART:]):
            return
        at = now()
        soon, wake_at = at + timedelta(seconds=MIN_WAIT_S), min((row.values["wake_at"] for row in rows), default=at)
        look_at = at if self._is_cut else min(map(look_time, rows))
        if self._requests.pause_s is not None:
            look_at = at + timedelta(seconds=self._requests.pause_s)
        entry_by = min(look_at, wake_at - TIMER)  # a job is woken before its deadline even if the timer is late
        due_at, result = max(min(look_at, wake_at), soon), replace(self.poll, looked_until=self.poll.pass_at)
        if await polls.rest(result, due_at, entry_by=max(entry_by, soon), looks=self._next[:_PART]):
            await delete_rows(self.parts.table, over)

    async def add_looks(self) -> bool:
        """
        Add what a worker of version 4 has not written of those that wait. Return whether the turn goes on.

        Raises StorageUnavailable.
        """
        poll, first = self.poll, creation_key(self.poll.connection, "")
        pages = read_pages(self.parts.table, poll.customer, first, f"{first}~", where={"state eq": "waiting"})
        async for page in pages:
            names = poll.customer, poll.connection
            rows = [self._look_row(names_of(row)[1], row, poll.looked_until, poll.looked_until) for row in page]
            rows += [response_row(*names, names_of(row)[1], row.values) for row in page if row.values["response"]]
            if not await self._add(rows):
                return False
        self.poll = replace(self.poll, has_looks=True)
        return True

    async def _read(self) -> list[Row]:
        """Return the looks that are due, of each response one."""
        due, after = dict[str, Row](), ""
        while True:
            page = await self.parts.table.page(self.poll.customer, *look_range(self.poll.connection), after=after)
            for row in page.rows:
                if look_time(row) > self.poll.pass_at or len(due) == _MAX_TASKS:
                    self._later.append(row)
                elif due.setdefault(creation_of(row), row) is not row:
                    self._over.append(row.key)  # its job has waited again
            after = page.after
            self._is_cut = bool(after) and not self._later
            if self._later or not after or len(due) == _MAX_TASKS:
                return [*due.values()]

    async def _is_ready(self, row: Row) -> bool:
        """Return whether a job goes on whatever its response has come to, or if nobody knows which one that is."""
        if row.values["wake_at"] <= now():
            return True
        names = self.poll.customer, self.poll.connection, creation_of(row)
        return not row.values["response"] and bool(await ResponseRows(self.parts.table).candidates(*names))

    async def _add(self, looks: Sequence[Row]) -> bool:
        """Insert rows; return False if the turn is another's, or over."""
        for start in range(0, len(looks), _PART):
            changed = await Polls(self.parts.schedule).add(self.poll, looks[start : start + _PART])
            if changed is None:
                return False
            self.poll = changed
        return True

    def _look_row(self, creation: str, row: Row, after: datetime, not_before: datetime) -> Row:
        return look_row(self.poll.customer, self.poll.connection, creation, row.values, after, not_before)

    def _left_by(self, look: Row) -> list[str]:
        """Return the keys of the other rows of a job that has ended."""
        connection, response = self.poll.connection, look.values["response"]
        return [response_key(connection, response)] if response else [creation_key(connection, creation_of(look))]
