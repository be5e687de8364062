"""
An attempt: one run of a job under one lease, and the only writer of the job's rows while it lasts.

Writes are made one at a time, because each moves the etag that fences. A write whose answer got lost is repeated, with
its operation id, before anything else is written. A call without a response is recorded with the next write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Self, TypeVar

from shared.billing.usage import Call, as_lost
from shared.clock import now
from shared.connections.connection import Connection
from shared.contract.job import Job
from shared.contract.usage import Usage
from shared.errors import LeaseLost, RetryLater, StorageUnavailable
from shared.event_names import LEASE_NOT_RENEWED, NAMESPACE
from shared.jobs.attempt_usage import AttemptUsage
from shared.jobs.crash_log import log_crash, log_text
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.jobs.pending_write import PendingWrite
from shared.jobs.step_rows import MAX_ADDED_ROWS, StepRecord, fitting
from shared.jobs.time_budget import TimeBudget
from shared.storage.base import Row

if TYPE_CHECKING:
    from shared.billing.job_budgets import JobBudgets

STORAGE_WAITS_S: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Waits of one attempt, in total, for a Storage that does not keep what was billed."""
OUTCOME_STEP = "outcome"
"""The step that holds a job's whole outcome while its blob is written; no action has a step with this key."""
_MAX_CALLS_BESIDE_STEPS = 20  # calls without a response, of one or two rows each, in one transaction with steps
_T = TypeVar("_T")

log = logging.getLogger(NAMESPACE)


@dataclass(slots=True)
class Attempt:
    """One attempt of one job. `async with` it: the lease is renewed, every third of its life, while the block runs."""

    job: Job
    lease: Lease
    ledger: Ledger
    time: TimeBudget = field(init=False)
    usage: AttemptUsage = field(init=False)
    connection: Connection | None = None
    """The connection, once it is resolved: by the claim if that has reserved."""
    budgets: JobBudgets | None = None
    """What it reserves of the customer's budgets."""
    lease_lost: LeaseLost | None = None
    """Set once another worker has the job: nothing more may be spent on it here."""
    saved: set[str] = field(default_factory=set)
    """The keys of the steps that it has saved."""
    _stored: list[StepRecord] | None = None
    _unsaved: list[tuple[StepRecord, Sequence[Call]]] = field(default_factory=list)
    """Steps that are not stored yet. One that can't be stored goes along with the next write."""
    _unconfirmed: PendingWrite | None = None
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ended: bool = False
    _heartbeat: asyncio.TimerHandle | asyncio.Task[None] | None = None
    _waits: Iterator[float] = field(default_factory=lambda: iter(STORAGE_WAITS_S))

    def __post_init__(self) -> None:
        self.time = TimeBudget(self.job, self.lease.submitted_at, self.lease.budget_wait_s)
        self.usage = AttemptUsage(self.job, self.lease)

    async def __aenter__(self) -> Self:
        due_s = self.ledger.lease_s / 3 - perf_counter() + self.lease.began  # at once if the claim has waited for long
        self._heartbeat = asyncio.get_running_loop().call_later(due_s, self._begin_renewals)  # most end before that
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._heartbeat is not None  # noqa: S101
        self._heartbeat.cancel()
        self._heartbeat = None  # the task's error refers to this attempt

    def __str__(self) -> str:
        """The job, for a log line."""
        return f"customer={self.job.customer} job_id={self.job.id}"

    def use(self, connection: Connection, *, needs_model: bool) -> None:
        """Continue with this connection. Raises InvalidJob if a model is needed and none follows from it."""
        self.connection, self.usage.label = connection, connection.label()
        self.usage.deployment_scope = connection.deployment_scope
        self.usage.model = connection.model_for(self.job.model, needed=needs_model)

    async def stored_steps(self) -> list[StepRecord]:
        """Return the steps that earlier attempts have stored, and count them as billed. Raises StorageUnavailable."""
        if self._stored is None:
            async with self._writing:
                if self._stored is None:
                    self._stored = await self.ledger.steps(self.lease)
                    self.usage.billed = sum((step.usage for step in self._stored), Usage())
                    if not any(step.key == OUTCOME_STEP for step in self._stored):
                        self.usage.add_crashed_attempts()
        return self._stored

    async def save_step(self, step: StepRecord, calls: Sequence[Call]) -> None:
        """Store a step, together with those that wait to be stored. Raises LeaseLost, StorageUnavailable."""
        self._unsaved.append((step, calls))
        self.saved.add(step.key)
        async with self._writing:
            while any(step is unsaved for unsaved, _ in self._unsaved):
                await self._write_some()
        self.usage.billed += step.usage

    async def renew(self, *, skipped: str = "") -> None:
        """Write what its ledger reserves, and `skipped` (see Lease). Raises as `save_step`, and what that raises."""
        async with self._writing:
            await self._repeat_unconfirmed()
            await self._write(partial(self.ledger.renew, skipped=skipped))

    async def release(self, because: RetryLater) -> None:
        """Give the job up, to be run again: it has failed if Storage kept none of its calls. Raises as `save_step`."""
        async with self._writing:
            await self._write_all(room=0)
            await self._write(
                partial(
                    self.ledger.release,
                    because=because,
                    retries=getattr(because, "retries", self.lease.retries),
                    failed=isinstance(because, StorageUnavailable) and self.usage.has_lost,
                    unrecoverable_usage=self.usage.unrecoverable,
                    skipped=self.usage.skipped,
                    usage=self.usage.rows(),
                ),
                usage=len(self.usage),
            )
            self._ended = True

    async def end_with(self, write: Callable[[Lease], Awaitable[None]]) -> None:
        """End it by a write of the job's row that also changes a batch. Raises as `save_step`, and what that raises."""
        async with self._writing:
            await self._write_all(room=MAX_ADDED_ROWS)
            await write(self.lease)
            self._ended = True

    async def complete(self, result_body: bytes, status: str, calls: Sequence[Call], at: datetime) -> None:
        """End the job with its result and its calls' usage records. Raises as `save_step`."""
        async with self._writing:
            rows = self.usage.closing_rows(calls, status, at)
            await self._write_all(room=len(rows))
            usage = [*self.usage.rows(at=at), *rows]
            complete = partial(self.ledger.complete, result_body=result_body, status=status, usage=usage)
            await self._write(complete, usage=len(self.usage))
            self._ended = True

    async def settle(self) -> None:
        """
        Record what this attempt has consumed, after it has lost its lease. Raises StorageUnavailable.

        The marker that is written last supersedes the placeholder of the attempt that took over.
        """
        write = self._unconfirmed
        usage = next((row for row in write.rows if row.key.startswith("u_")), None) if write else None
        if write is not None and usage is not None and await self.ledger.is_written(usage):
            self._confirm(write)  # it was made before the lease was lost
        for _, calls in self._unsaved:
            self.usage.add_unsettled_calls(as_lost(calls))
        self._unsaved.clear()
        await self.ledger.append_usage(self.usage.settlement())

    async def with_retries(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Return what `work` returns, repeated while Storage does not answer and the attempt has waits left."""
        while True:
            try:
                return await work()
            except StorageUnavailable:
                if (wait_s := next(self._waits, None)) is None:
                    raise
            await asyncio.sleep(wait_s)

    def step_usage(self, key: str, calls: Sequence[Call]) -> list[Row]:
        """Return the usage records of a step's calls."""
        return self.usage.rows_of(calls, now(), suffix=key)

    def _begin_renewals(self) -> None:
        self._heartbeat = asyncio.create_task(self._keep_lease())

    async def _keep_lease(self) -> None:
        while True:
            async with self._writing:
                if self._ended:
                    return
                try:
                    await self._write_some()
                except StorageUnavailable as exc:
                    log.warning("%s %s: %s", LEASE_NOT_RENEWED, self, log_text(exc))
                except LeaseLost as exc:
                    self.lease_lost = exc
                    return
                except Exception as exc:  # noqa: BLE001  # nobody waits for the task; the next renewal may succeed
                    log_crash(exc, str(self))
            await asyncio.sleep(self.ledger.lease_s / 3)

    async def _write_all(self, *, room: int) -> None:
        """Leave to be written only what fits one write beside `room` rows."""
        await self._repeat_unconfirmed()
        while self._unsaved or (len(self.usage) and 2 * len(self.usage) + room > MAX_ADDED_ROWS):
            await self._write_some()

    async def _write_some(self) -> None:
        """Write as many steps and usage records as fit; if there are none, only renew the lease."""
        await self._repeat_unconfirmed()
        calls = min(len(self.usage), _MAX_CALLS_BESIDE_STEPS)
        usage = self.usage.rows(calls)
        steps = fitting([step for step, _ in self._unsaved], beside=len(usage))
        if not (steps or usage):
            # Not repeated if its answer gets lost: the ledger accepts a row that only this lease has changed.
            self.lease = await self.ledger.renew(self.lease)
            return
        rows = [*usage, *(row for step in steps for row in step.usage_rows)]
        save = partial(self.ledger.save_steps, steps=steps, usage=usage)
        await self._write(save, steps=len(steps), usage=calls, rows=rows)

    async def _write(
        self, send: Callable[..., Awaitable[Lease | None]], *, steps: int = 0, usage: int = 0, rows: Sequence[Row] = ()
    ) -> None:
        await self.with_retries(partial(self._send, PendingWrite(send, steps, usage, rows)))

    async def _repeat_unconfirmed(self) -> None:
        if self._unconfirmed is not None:
            await self.with_retries(partial(self._send, self._unconfirmed))

    async def _send(self, write: PendingWrite) -> None:
        self._unconfirmed = write
        try:
            self.lease = await write.send(self.lease, operation_id=write.operation_id) or self.lease
        except (StorageUnavailable, LeaseLost):
            raise  # whether it was made is not known
        except Exception:
            self._unconfirmed = None  # it was never sent
            raise
        self._confirm(write)

    def _confirm(self, write: PendingWrite) -> None:
        self._unconfirmed = None
        del self._unsaved[: write.steps]
        self.usage.remove(write.usage)
