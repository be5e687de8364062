"""
A run's hold on its job: its lease, kept while the run lasts, and its calls that are still to be recorded.

Every change that a run makes in the ledger goes through here, one at a time, because each moves the etag
that fences. A call whose answer the job does not have is recorded with the next change that is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import TypeVar

from shared.billing.usage import Call, total, usage_rows
from shared.clock import now
from shared.contract.result import ConnectionLabel
from shared.errors import LeaseLost, RetryLater, StorageUnavailable, UpstreamRetryLater
from shared.event_names import LEASE_NOT_RENEWED
from shared.jobs.attempt import Run
from shared.jobs.ledger import Ledger
from shared.jobs.step_rows import ROWS_BESIDE, StepRecord, fitting
from shared.storage.base import Row

SAVING_WAITS_S: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Waits of one run, all in all, for a Storage that does not keep what has been paid for."""
_DUE_AT_ONCE = 40
"""Rows for calls without an answer that stand beside steps in one change."""
_DEATH = Call(None, outcome="unanswered")
_T = TypeVar("_T")

log = logging.getLogger("customer_ai_jobs")


@dataclass(slots=True)
class Hold:
    """One run's hold on one job. Use it within `kept`."""

    run: Run
    ledger: Ledger
    taken_over: LeaseLost | None = None
    """Set once another worker has taken the job over: nothing more may be spent on it here."""
    _steps: list[StepRecord] | None = None
    _waiting: list[tuple[StepRecord, Sequence[Call]]] = field(default_factory=list)
    """Steps that are not stored yet, with their calls. One that can't be is tried again with the next change."""
    _due: list[tuple[str, Call, datetime]] = field(default_factory=list)
    _owed: int = 0
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _closed: bool = False
    _waits: Iterator[float] = field(default_factory=lambda: iter(SAVING_WAITS_S))

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renews the lease, every third of its life, as long as the block runs."""
        keeping = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            keeping.cancel()

    async def steps(self) -> list[StepRecord]:
        """What earlier runs of the job have remembered, counted in what it was billed. Raises StorageUnavailable."""
        async with self._changing:
            if self._steps is None:
                self._steps = await self.ledger.steps(self.run.claim)
                self.run.count(self._steps)
                if not any(step.key == ANSWER for step in self._steps):
                    at = now()
                    self._due += [(f"~{attempt}", _DEATH, at) for attempt in self.run.claim.deaths]
            return self._steps

    def owe(self, calls: Sequence[Call]) -> None:
        """Takes note of calls whose answers the job does not have, to be recorded with the next change."""
        at, attempt = now(), self.run.claim.attempt
        for call in calls:
            self._owed += 1
            self._due.append((f"~{attempt}.{self._owed}", call, at))
        self.run.lost += total(calls)

    async def remember(self, step: StepRecord, calls: Sequence[Call]) -> None:
        """
        Stores a step, together with those that wait to be stored: many finish side by side.

        Raises LeaseLost, StorageUnavailable.
        """
        self._waiting.append((step, calls))
        async with self._changing:
            while any(step is one for one, _ in self._waiting):
                await self._write_some()

    async def release(self, because: RetryLater) -> None:
        """Gives the job up, to be run again. Raises as `remember`."""
        retries = because.retries if isinstance(because, UpstreamRetryLater) else self.run.claim.retries
        failed = isinstance(because, StorageUnavailable)
        async with self._changing:
            await self._write_all(room=0)
            await self.ledger.release(
                self.run.claim, because, retries=retries, failed=failed, lost=self.run.lost, rows=self._due_rows()
            )
            self._closed = True

    async def complete(self, told: bytes, status: str, calls: Sequence[Call], at: datetime) -> None:
        """Closes the job with its result, and its calls' usage records. Raises as `remember`."""
        async with self._changing:
            await self._write_all(room=len(calls))
            rows = [*self._due_rows(), *self._rows(calls, at)]
            await self.patiently(partial(self.ledger.complete, self.run.claim, told, status=status, usage=rows))
            self._closed = True

    async def record(self) -> None:
        """
        Writes what is due, paid for though the hold was lost. Raises StorageUnavailable.

        Whoever has taken the job over may record, now or later, that this run has died: one record of its attempt,
        `unanswered`. It has not, and all its calls are known: the first of them stands in that record's place.
        """
        while self._waiting:  # one that seemed to fail may have been stored before the hold was lost
            step, calls = self._waiting[0]
            if await self.ledger.missing(step.rows):
                self.owe(as_lost(calls))
            del self._waiting[0]
        died, taken = f"~{self.run.claim.attempt}", False
        for place, call, at in self._due:
            row = self._row(place, call, at)
            # One that seemed to fail may have been written, too.
            if not taken and place.startswith(f"{died}.") and await self.ledger.missing([row]):
                row, taken = self._row(died, call, at), True
            await self.ledger.record(row)
        if not taken:
            await self.ledger.withdraw(self._row(died, _DEATH, now()))
        self._due.clear()

    async def patiently(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """What `work` gives, tried again while the run has patience and Storage does not answer."""
        while True:
            try:
                return await work()
            except StorageUnavailable:
                wait = next(self._waits, None)
                if wait is None:
                    raise
            await asyncio.sleep(wait)

    def step_rows(self, key: str, calls: Sequence[Call]) -> list[Row]:
        """The usage rows of a step."""
        return self._rows(calls, now(), place=key)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self.ledger.lease_s / 3)
            async with self._changing:
                if self._closed:
                    return
                try:
                    if self._waiting or self._due:  # what seemed to fail may have been written: only it can tell
                        await self._write_some()
                    else:
                        self.run.claim = await self.ledger.renew(self.run.claim)
                except StorageUnavailable as exc:
                    log.warning("%s %s: %s", LEASE_NOT_RENEWED, self.run.named(), exc)
                except LeaseLost as exc:
                    self.taken_over = exc
                    return

    async def _write_all(self, *, room: int) -> None:
        """Leaves nothing to be written but what fits one change beside `room` rows."""
        while self._waiting:
            await self._write_some()
        while self._due and len(self._due) + room > ROWS_BESIDE:
            await self._write_some()

    async def _write_some(self) -> None:
        due = min(len(self._due), _DUE_AT_ONCE)
        batch = fitting([step for step, _ in self._waiting], beside=due)
        rows = self._due_rows(due)
        self.run.claim = await self.patiently(partial(self.ledger.remember, self.run.claim, batch, rows))
        del self._due[:due], self._waiting[: len(batch)]

    def _due_rows(self, count: int | None = None) -> list[Row]:
        return [self._row(*due) for due in self._due[:count]]

    def _row(self, place: str, call: Call, at: datetime) -> Row:
        (row,) = self._rows([call], at, place=place)
        return row

    def _rows(self, calls: Sequence[Call], at: datetime, *, place: str = "") -> list[Row]:
        job = self.run.job
        # Where even the connection is not known any more, the job's own word for it is.
        label = self.run.label or ConnectionLabel(
            name=job.connection, source="key_vault", provider="unknown", billed_to="customer"
        )
        model = self.run.model or job.model or ""
        nonce = self.run.claim.nonce
        return usage_rows(job.customer, job.id, job.action, model, label, calls, at, nonce=nonce, place=place)


def as_lost(calls: Sequence[Call]) -> list[Call]:
    """The calls as those whose answers could not be kept."""
    return [replace(call, outcome="lost") for call in calls]


ANSWER = "answer"
"""The step that holds a job's whole answer while its blob is written; no action has a step of this name."""
