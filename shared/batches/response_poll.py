"""
A turn at a poll: one look at all responses of a connection that are due, and their jobs continue (see `jobs.polls`).

It reads the rows of what is waited for, and writes none of them unless their job is woken. What a response has come to
is not kept: its job reads it once more. An error ends nothing. One that all others would meet ends the turn, and the
next one goes on where this one was.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice

from shared.actions.respond import ENDED
from shared.batches.parts import BatchParts
from shared.clock import now
from shared.connections.account import is_at
from shared.connections.connection import Connection
from shared.errors import (
    ConnectionFault,
    CredentialRejected,
    JobError,
    RateLimited,
    RetryLater,
    StorageUnavailable,
    UpstreamError,
)
from shared.event_names import NAMESPACE, RESPONSES_DELAYED
from shared.jobs.batch_message import BatchMessage
from shared.jobs.crash_log import log_text
from shared.jobs.drain import WorkerStopping
from shared.jobs.polls import TIMER, TURN_S, Poll, Polls
from shared.jobs.response_context import read_head
from shared.jobs.response_looks import MAX_WAIT_S, MIN_WAIT_S, next_look
from shared.jobs.response_requests import FAULT_WAIT_S, NOT_FOUND, NOT_FOUND_FOR_S, send_request
from shared.jobs.response_rows import State, has_candidate, row_key, wake
from shared.storage.base import Row
from shared.storage.bulk import gather_limited, read_pages

_REFUSED_WAIT_S = 15.0
"""After a refusal for too many requests that names no wait."""
_MAX_TASKS = 10_000
"""Looks that one turn makes, and jobs that it wakes beside those whose response has ended: each takes memory."""
_LIMIT_S = 600.0
"""After which a turn is cut off, whatever it waits for: at host.json's `functionTimeout`, the host ends the worker."""

log = logging.getLogger(NAMESPACE)


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
                waiting = await turn.run()
        except (StorageUnavailable, TimeoutError) as exc:  # whoever was not woken is looked at once more
            delay_s = exc.delay_s if isinstance(exc, StorageUnavailable) else MIN_WAIT_S
            due_at = now() + timedelta(seconds=delay_s)
            await polls.rest(poll, due_at, entry_by=due_at)
            return
        if not waiting:
            await polls.end(poll)
            return
        soon, look_at = now() + timedelta(seconds=MIN_WAIT_S), turn.next_look(waiting)
        wake_at = min(row.values["wake_at"] for row in waiting)
        entry_by = min(look_at, wake_at - TIMER)  # a job is woken before its deadline even if the timer is late
        await polls.rest(turn.result, max(min(look_at, wake_at), soon), entry_by=max(entry_by, soon))


@dataclass(slots=True)
class _Turn:
    parts: BatchParts
    poll: Poll
    _ends_at: float = field(default_factory=lambda: time.monotonic() + TURN_S)
    _pause_s: float | None = None
    """Set once no more requests are made: for so long."""
    _after: str = ""
    """The key of the first row that was due, but not looked at."""

    async def run(self) -> list[Row]:
        """Look, and wake jobs. Return the rows of those that still wait. Raises StorageUnavailable."""
        first = row_key(self.poll.connection, "")
        state: State = "waiting"
        pages = read_pages(self.parts.table, self.poll.customer, first, f"{first}~", where={"state eq": state})
        rows = [row async for page in pages for row in page]
        at = now()
        ready = {row.key for row in rows if has_candidate(row) or row.values["wake_at"] <= at}
        ended = await self._ended([row for row in rows if row.key not in ready and self._is_due(row)])
        # Those that are ready are so in the next turn, too.
        woken = ended.union(islice(ready, _MAX_TASKS))
        await gather_limited(wake(self.parts.schedule, row) for row in rows if row.key in woken)
        return [row for row in rows if row.key not in woken]

    @property
    def result(self) -> Poll:
        """The poll after the turn."""
        if self._after:
            return replace(self.poll, after=self._after)
        return replace(self.poll, looked_until=self.poll.pass_at, after="")

    def next_look(self, waiting: Sequence[Row]) -> datetime:
        """Return when the next look is due."""
        if self._pause_s is not None:
            return now() + timedelta(seconds=self._pause_s)
        return min(next_look(row.values["at"], self.poll.pass_at) for row in waiting)

    def _is_due(self, row: Row) -> bool:
        is_next = row.values["response"] and row.key >= self.poll.after
        return is_next and next_look(row.values["at"], self.poll.looked_until) <= self.poll.pass_at

    async def _ended(self, rows: Sequence[Row]) -> set[str]:
        """Return the keys of those whose response has ended, or is gone."""
        if not rows:
            return set()
        try:
            connection = await self.parts.connections.resolve(self.poll.customer, self.poll.connection)
        except (ConnectionFault, RetryLater) as exc:
            self._after = rows[0].key
            self._pause(exc, exc.delay_s if isinstance(exc, RetryLater) else FAULT_WAIT_S)
            return set()
        rows = [row for row in rows if is_at(connection, row.values["account"])]
        rows, left = rows[:_MAX_TASKS], rows[_MAX_TASKS:]
        looks = await gather_limited(self._look(connection, row) for row in rows)
        not_looked_at = [row for row, look in zip(rows, looks, strict=True) if look is None] + left
        if not_looked_at:
            self._after, self._pause_s = not_looked_at[0].key, self._pause_s or 0
        return {row.key for row, look in zip(rows, looks, strict=True) if look}

    async def _look(self, connection: Connection, row: Row) -> bool | None:
        """Return whether a response has ended, or is gone; None if it was not looked at."""
        if time.monotonic() >= self._ends_at:
            self._pause_s = self._pause_s or 0
        if self._pause_s is not None:
            return None
        client, drain, values = self.parts.client, self.parts.drain, row.values
        try:
            response = await send_request(client, drain, connection, values["model"], values["response"])
        except WorkerStopping as exc:
            self._pause_s = exc.delay_s
        except (CredentialRejected, ConnectionFault) as exc:  # also of an address that may not be called any more
            self._pause(exc, FAULT_WAIT_S)
            if await self._is_rotated(connection):
                self._pause_s = 0
        except UpstreamError as exc:
            wait_s = exc.facts.retry_after_s or (_REFUSED_WAIT_S if isinstance(exc, RateLimited) else 0)
            if wait_s:
                self._pause(exc, min(wait_s, MAX_WAIT_S))
                return None
            is_old = (now() - values["at"]).total_seconds() > NOT_FOUND_FOR_S
            return is_old and exc.facts.status in NOT_FOUND
        else:
            return read_head(response).status in ENDED
        return None

    async def _is_rotated(self, connection: Connection) -> bool:
        try:
            return await self.parts.connections.find_rotated(connection) is not None
        except (JobError, RetryLater):
            return False  # the next turn meets it

    def _pause(self, reason: Exception, seconds: float) -> None:
        self._pause_s = seconds
        names = RESPONSES_DELAYED, self.poll.customer, self.poll.connection
        log.warning("%s customer=%s connection=%s delay_s=%.0f %s", *names, seconds, log_text(reason))
