"""Workers that run many jobs of one customer on a budget, in simulated time: real ledger, attempts and reservations."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import msgspec
import pytest

from shared.billing import budgets as budgets_module
from shared.billing.bookings import Booking, BookingRefused
from shared.billing.bucket_moves import Pool
from shared.billing.bucket_rows import pool_key
from shared.billing.budgets import Budgets
from shared.billing.customer_records import CustomerRecords
from shared.billing.job_budgets import JobBudgets
from shared.billing.outbox import Outbox
from shared.billing.reserved_amounts import read_reserved
from shared.billing.usage import Call, total
from shared.contract.budget import Budget
from shared.contract.job import Job
from shared.contract.usage import Usage
from shared.errors import AlreadyRunning, LeaseLost, RetryLater, StorageUnavailable
from shared.jobs import attempt as attempts
from shared.jobs import attempt_usage, message, time_budget
from shared.jobs import ledger as ledgers
from shared.jobs.attempt import Attempt
from shared.jobs.budget_errors import budget_error
from shared.jobs.lease import Lease, first_lease
from shared.jobs.ledger import Ledger
from shared.jobs.records import FinishedJob
from shared.jobs.step_rows import StepRecord
from shared.storage.base import Row
from tests.support.fakes import MemoryTable, SortedRows

START = datetime(2026, 11, 20, 12, tzinfo=UTC)
CUSTOMER = "contoso"


class Killed(BaseException):
    """The worker is gone."""


class SlowTable(MemoryTable):
    """A table in memory whose requests take 5 ms. Its clock is the loop's."""

    async def _pass(self) -> None:
        self.operations += 1
        await asyncio.sleep(0.005)


@dataclass
class MortalTable:
    """A worker's way to the table: the worker dies at its n-th operation, before it is made or after."""

    table: MemoryTable
    dies_at: float = float("inf")
    made: bool = False
    operations: int = 0
    dead: bool = False

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.table, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            self._check()
            self.operations += 1
            dies = self.operations == self.dies_at
            self.dead = self.dead or (dies and not self.made)
            self._check()
            result = await method(*arguments, **options)
            self.dead = self.dead or dies
            self._check()
            return result

        async def scan(*arguments: Any) -> Any:
            await call_nothing()
            async for row in method(*arguments):
                self._check()
                yield row

        async def call_nothing() -> None:
            self._check()
            self.operations += 1

        return scan if name == "scan" else call

    def _check(self) -> None:
        if self.dead:
            raise Killed


@dataclass
class BudgetedJobs:
    """
    Many jobs of a customer. Each reserves `estimate`, and its call consumes what `consumed` says; every second one
    stores its call as a step before it ends.
    """

    budgets: Mapping[str, Budget]
    estimate: Decimal
    consumed: Callable[[random.Random], int]
    table: SlowTable = field(default_factory=SlowTable)
    chance: random.Random = field(default_factory=lambda: random.Random(7))
    call_s: float = 0.3
    seconds: float = 0
    """How long all jobs took."""
    conflicts: int = 0
    """Transactions that were refused because another worker had changed a bucket."""
    succeeded: int = 0
    refused: int = 0
    requeued: int = 0
    claimed_with: int = 0
    """Jobs whose claim has reserved."""
    false_refusals: list[str] = field(default_factory=list)
    queue: list[tuple[float, int]] = field(default_factory=list)
    failure: Exception | None = None
    in_flight: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)
    patch: pytest.MonkeyPatch = field(default_factory=pytest.MonkeyPatch)

    def time(self) -> float:
        """Return the simulated seconds."""
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        """Return the simulated time."""
        return START + timedelta(seconds=self.time())

    async def run(self, jobs: int, workers: Sequence[MortalTable], *, slots: int = 16) -> None:
        """Run so many jobs, sent at once, until all have ended. A worker that dies has a successor."""
        for module in (ledgers, attempts, attempt_usage, time_budget, message, budgets_module):
            self.patch.setattr(module, "now", self.now)
        await self.table.insert(customer_row(self.budgets))
        self.queue = [(0.0, number) for number in range(jobs)]
        try:
            async with asyncio.TaskGroup() as group:
                for table in workers:
                    group.create_task(self._work(table, slots))
        finally:
            self.patch.undo()
        self.seconds = self.time()

    async def _work(self, table: MortalTable, slots: int) -> None:
        running: set[asyncio.Task[None]] = set()
        worker = _Worker(self, table)
        while self.queue or self.in_flight:
            if self.failure is not None:
                raise self.failure
            if table.dead:
                table = MortalTable(self.table)
                worker = _Worker(self, table)
            while len(running) < slots and (due := self._next()) is not None:
                task = asyncio.create_task(worker.process(due))
                running.add(task)
                task.add_done_callback(running.discard)
            # What is sent meanwhile is due in a second or later.
            until_due_s = min((due_at for due_at, _ in self.queue), default=0) - self.time()
            await asyncio.sleep(min(max(until_due_s, 0.02), 1))
        await asyncio.gather(*running)
        keys = [pool_key(CUSTOMER, name, budget, START) for name, budget in self.budgets.items()]
        self.conflicts += sum(worker.budgets.pool(key).conflicts for key in keys)

    def _next(self) -> int | None:
        at = self.time()
        due = next((entry for entry in self.queue if entry[0] <= at), None)
        if due is not None:
            self.queue.remove(due)
            self.in_flight.add(due[1])
        return None if due is None else due[1]

    def send(self, number: int, delay_s: float) -> None:
        """Send a job's message."""
        self.in_flight.discard(number)
        self.queue.append((self.time() + delay_s, number))

    def end(self, number: int) -> None:
        """A job has its result."""
        self.in_flight.discard(number)
        self.ended.add(number)

    def pool(self, name: str) -> Pool:
        """Return a budget's buckets as they are."""
        key = pool_key(CUSTOMER, name, self.budgets[name], START)
        rows = cast(SortedRows, self.table.rows)
        ids = rows.between(CUSTOMER, key.prefix, f"{key.prefix}\U0010ffff")
        return Pool([key.read(rows[each]) for each in ids], Decimal(1))

    def rows(self, prefix: str) -> list[Row]:
        """Return the rows whose keys begin so."""
        return [row for (_, key), row in sorted(self.table.rows.items()) if key.startswith(prefix)]


def customer_row(budgets: Mapping[str, Budget]) -> Row:
    """Return the row of a customer with these budgets."""
    return Row(CUSTOMER, "customer", {"budgets": msgspec.json.encode(dict(budgets)).decode()})


class _Worker:
    """A worker: what it keeps from job to job, and how it processes one."""

    def __init__(self, jobs: BudgetedJobs, table: Any) -> None:
        self.jobs, self.table = jobs, table
        self.ledger = Ledger(table)
        self.budgets = Budgets(table, CustomerRecords(table, clock=jobs.time), Outbox(table))

    async def process(self, number: int) -> None:
        """Process a job's message. If the worker dies, the message comes again."""
        try:
            await self._run(number)
        except Killed:
            self.jobs.send(number, 30)
        except (AlreadyRunning, LeaseLost, StorageUnavailable):
            self.jobs.send(number, 5)
        except Exception as exc:  # noqa: BLE001  # nobody waits for this task
            self.jobs.failure = exc

    async def _run(self, number: int) -> None:
        jobs = self.jobs
        job = Job(customer=CUSTOMER, action="chat", job_id=f"job-{number:04}")
        bookings = [_booking(name, budget, jobs.estimate) for name, budget in jobs.budgets.items()]
        lease, own = await self._claim(job, bookings)
        if isinstance(lease, FinishedJob):
            jobs.end(number)
            return
        attempt = Attempt(job, lease, Ledger(self.table, write=own.write))
        stored = await attempt.stored_steps()
        try:
            if bookings and not own.held:
                own.request(bookings, jobs.now())
                await attempt.renew()
        except BookingRefused as refused:
            own.requested = []
            if refused.is_reserved:
                jobs.requeued += 1
                later = budget_error(refused, attempt, jobs.now(), fits=lambda _: True)
                assert isinstance(later, RetryLater)
                await attempt.release(later)
                jobs.send(number, later.delay_s * jobs.chance.uniform(1, 1.1))
                return
            pool = jobs.pool(refused.booking.name)
            in_doubt = sum((held.amount for held in own.in_doubt), Decimal(0))
            if pool.spent + in_doubt + refused.booking.amount <= pool.head.terms.limit:
                jobs.false_refusals.append(f"{job.id}: {pool.spent} spent")
            await attempt.complete(b"{}", "failed", (), jobs.now())
            jobs.refused += 1
            jobs.end(number)
            return
        if not stored:
            await asyncio.sleep(jobs.call_s * jobs.chance.uniform(0.5, 1.5))
        if self.table.dead:
            raise Killed
        tokens = jobs.consumed(jobs.chance)
        calls = [Call(Usage(calls=1, input_tokens=tokens, output_tokens=0))]
        if stored:
            calls = []
        elif number % 2:
            step = StepRecord("whole", b"{}", total(calls), usage_rows=attempt.step_usage("whole", calls))
            await attempt.save_step(step, calls)
            calls = []
        await attempt.complete(b"{}", "succeeded", calls, jobs.now())
        jobs.succeeded += 1
        jobs.end(number)

    async def _claim(self, job: Job, bookings: Sequence[Booking]) -> tuple[Lease | FinishedJob, JobBudgets]:
        """Claim a job, with its reservation if that probably fits, as `jobs.claiming`."""
        own = JobBudgets(self.budgets, CUSTOMER)
        own.request(bookings, self.jobs.now())
        members: dict[str, Any] = {"fingerprint": "f", "submitted_at": START}
        if bookings and own.fits():
            first = first_lease(CUSTOMER, job.id, START, self.jobs.now())
            with suppress(BookingRefused):
                lease = await Ledger(self.table, write=own.write).claim(CUSTOMER, job.id, **members, first=first)
                self.jobs.claimed_with += bool(own.held)
                if not isinstance(lease, Lease) or own.held:
                    return lease, own
                return lease, JobBudgets(self.budgets, CUSTOMER, read_reserved(lease.reservation))
        lease = await self.ledger.claim(CUSTOMER, job.id, **members)
        reservation = lease.reservation if isinstance(lease, Lease) else ""
        return lease, JobBudgets(self.budgets, CUSTOMER, read_reserved(reservation))


def _booking(name: str, budget: Budget, estimate: Decimal) -> Booking:
    def measure(values: Mapping[str, Any]) -> Decimal:
        if budget.unit == "jobs":
            return Decimal(values.get("jobs", 0))
        return estimate if values["outcome"] == "unanswered" else Decimal(values.get("input_tokens", 0))

    return Booking(name, budget, Decimal(1) if budget.unit == "jobs" else estimate, measure)
