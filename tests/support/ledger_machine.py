"""
The ledger against its model: workers that claim, pay, store, wait, crash and return, and a Storage that fails in
between, in any order that Hypothesis finds. After each use the whole partition must be as the model says.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.contract.job import Job
from shared.contract.result import Usage
from shared.errors import (
    AlreadyRunning,
    JobConflict,
    LeaseLost,
    RateLimited,
    RetryLater,
    StorageUnavailable,
    UpstreamRetryLater,
)
from shared.jobs import job_updates
from shared.jobs import ledger as ledgers
from shared.jobs.job_updates import JobUpdates
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.jobs.records import FinishedJob, JobRecord
from shared.jobs.step_rows import StepRecord
from shared.storage.base import Row, Table
from tests.support.fakes import Fault
from tests.support.ledger_model import (
    LEASE_S,
    START,
    Holder,
    JobModel,
    Partition,
    Write,
    lease_from,
    read_rows,
    usage_keys,
)

JOBS = ("job-1", "job-1.2")
WORKERS = range(3)
T = TypeVar("T")
REASONS: tuple[RetryLater, ...] = (
    StorageUnavailable("Storage was down."),
    UpstreamRetryLater(RateLimited("Slow down."), 60, 2),
)

jobs, workers = st.sampled_from(JOBS), st.sampled_from(WORKERS)
faults = st.lists(st.sampled_from([None, None, *Fault]), max_size=3)
counts = st.integers(0, 3)


class LedgerMachine(RuleBasedStateMachine):
    """Workers on one customer's jobs. `open_table` returns a table, and where its faults are put."""

    open_table: Callable[[], tuple[Table, deque[Fault | None]]]
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def __init__(self) -> None:
        super().__init__()
        self.table, self.faults = type(self).open_table()
        self.ledger = Ledger(self.table, lease_s=LEASE_S)
        self.customer = f"c-{uuid.uuid4().hex}"
        self.time = START
        self.model = Partition()
        self.held: dict[tuple[int, str], Holder] = {}
        self.attempts: dict[str, int] = {}
        self.result_body: dict[str, bytes] = {}
        self.unanswered = False
        self.patch = pytest.MonkeyPatch()

    @initialize()
    def start(self) -> None:
        """The ledger's clock is the machine's."""
        for module in (ledgers, job_updates):
            self.patch.setattr(module, "now", lambda: self.time)

    def teardown(self) -> None:
        """Restore the clock."""
        self.patch.undo()

    # What happens.

    @rule(seconds=st.sampled_from([1, 30, LEASE_S - 1, LEASE_S, LEASE_S + 1]))
    def time_passes(self, seconds: int) -> None:
        """Leases may expire."""
        self.time += timedelta(seconds=seconds)

    @rule(worker=workers, job=jobs)
    def worker_dies(self, worker: int, job: str) -> None:
        """What it had in memory is gone; the row stays as it is."""
        self.held.pop((worker, job), None)

    @rule(worker=workers, job=jobs, fingerprint=st.sampled_from(["same", "same", "same", "other"]), faults=faults)
    def claim(self, worker: int, job: str, fingerprint: str, faults: list[Fault | None]) -> None:
        """A worker gets the job's message, or gets it again."""
        before, row = self.model, self.model.jobs.get(job)
        claim = self.ledger.claim(self.customer, job, fingerprint=fingerprint, submitted_at=START)
        after = self.model.claimed(job, fingerprint, self.time)
        outcome = self._do(claim, faults, before if after is None else after)
        if outcome is None:
            return
        if isinstance(outcome, Lease):
            assert after is not None
            self._hold(worker, job, outcome)
            return
        assert row is not None
        if isinstance(outcome, JobConflict):
            assert fingerprint != row.fingerprint
        elif isinstance(outcome, FinishedJob):
            assert ("done", row.result_body) == (row.state, outcome.result_body)
        else:
            assert isinstance(outcome, AlreadyRunning)
            assert after is None
            assert row.lease_until is not None
            assert 0 < outcome.delay_s <= min(15, (row.lease_until - self.time).total_seconds() + 1)

    @rule(job=jobs, fingerprint=st.sampled_from(["same", "same", "other"]), faults=faults)
    def submit(self, job: str, fingerprint: str, faults: list[Fault | None]) -> None:
        """The job gets its row over HTTP before its message comes, or after that."""
        row, after = self.model.jobs.get(job), self.model.copy()
        if row is None:
            after.jobs[job] = JobModel(fingerprint, "queued", 0)
        message = Job(customer=self.customer, action="chat", job_id=job)
        outcome = self._do(self.ledger.submit(message, fingerprint=fingerprint, submitted_at=START), faults, after)
        if isinstance(outcome, JobConflict):
            assert row is not None
            assert fingerprint != row.fingerprint
        elif outcome is not None:
            assert isinstance(outcome, JobRecord)
            for member in ("state", "attempt", "fingerprint", "result_body"):
                assert getattr(self.model.jobs[job], member) == getattr(outcome, member)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def completion_and_claim_race(self, data: st.DataObject) -> None:
        """A worker completes a job whose lease has expired while another one claims it: one of them succeeds."""
        (worker, job), holder = data.draw(st.sampled_from(sorted(self.held.items(), key=lambda item: item[0])))
        row = self.model.jobs[job]
        if not self._is_valid(job, holder) or row.lease_holds(self.time):
            return
        claimed, completed = self.model.claimed(job, row.fingerprint, self.time), self.model.copy()
        completed.end(job, b"raced", ["raced"])
        holder.unconfirmed = None

        async def race() -> list[Any]:
            usage = self._rows(job, ["raced"])
            return await asyncio.gather(
                self.ledger.complete(holder.lease, b"raced", status="succeeded", usage=usage),
                self.ledger.claim(self.customer, job, fingerprint=row.fingerprint, submitted_at=START),
                return_exceptions=True,
            )

        completion, claim = self.run(race())
        if isinstance(claim, Lease):
            assert isinstance(completion, LeaseLost)
            assert claimed is not None
            self.model = claimed
            self._hold((worker + 1) % len(WORKERS), job, claim)
        else:
            assert completion is None
            assert isinstance(claim, AlreadyRunning | FinishedJob)
            self.model = completed

    @precondition(lambda self: self.held)
    @rule(data=st.data(), faults=faults)
    def renew(self, data: st.DataObject, faults: list[Fault | None]) -> None:
        """A worker renews its lease. That is not repeated: the ledger accepts a row that only this lease changed."""
        job, holder = self._draw(data)
        if holder.unconfirmed is not None and not self._repeat_unconfirmed(job, holder):
            return
        after, valid = self.model.copy(), self._is_valid(job, holder)
        if valid:
            after.jobs[job].lease_until = lease_from(self.time)
        outcome = self._do(self.ledger.renew(holder.lease), faults, after, lost=not valid)
        if isinstance(outcome, Lease):
            holder.lease = outcome

    @precondition(lambda self: self.held)
    @rule(data=st.data(), number=st.integers(1, 3), calls=st.integers(0, 1), faults=faults)
    def save_steps(self, data: st.DataObject, number: int, calls: int, faults: list[Fault | None]) -> None:
        """A worker stores steps with their usage records: those that it could not store before, and new ones."""
        job, holder = self._draw(data)
        if not self._repeat_unconfirmed(job, holder):
            return
        free = [key for key in (f"{n:04}" for n in range(12)) if key not in {*holder.stored, *holder.unsaved}]
        holder.unsaved += free[:number]
        keys, places = list(holder.unsaved), self._add_calls(holder, calls)
        steps = [
            StepRecord(key, f'"{key}"'.encode(), Usage(calls=1), usage_rows=self._rows(job, [key])) for key in keys
        ]

        def apply(after: Partition) -> None:
            after.jobs[job].lease_until = lease_from(self.time)
            after.steps.update(f"s_{job}~{key}" for key in keys)
            after.record(job, holder.lease, [*keys, *places])

        def confirmed() -> None:
            holder.stored.update(keys)
            del holder.unsaved[: len(keys)], holder.unrecorded[: len(places)]

        send = partial(self.ledger.save_steps, steps=steps, usage=self._rows(job, places))
        self._write(job, holder, faults, Write(send, apply, confirmed))

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(), because=st.sampled_from(REASONS), failed=st.booleans(), calls=st.integers(0, 2), faults=faults
    )
    def release(
        self, data: st.DataObject, because: RetryLater, failed: bool, calls: int, faults: list[Fault | None]
    ) -> None:
        """A worker releases its job, with what it has lost; then it does nothing more with it, if it knows that."""
        job, holder = self._draw(data)
        if not self._repeat_unconfirmed(job, holder):
            return
        lease, places = holder.lease, self._add_calls(holder, calls)
        values: dict[str, Any] = {
            "retries": because.retries if isinstance(because, UpstreamRetryLater) else lease.retries,
            "unrecoverable_usage": lease.unrecoverable_usage + Usage(calls=calls),
        }

        def apply(after: Partition) -> None:
            row = after.jobs[job]
            row.state, row.reason, row.failed_attempts = "waiting", str(because), lease.failed_attempts + failed
            row.reason_code = "rate_limited" if isinstance(because, UpstreamRetryLater) else ""
            row.retries, row.unrecoverable_usage = values["retries"], values["unrecoverable_usage"]
            after.record(job, holder.lease, places)

        usage = self._rows(job, places)
        send = partial(self.ledger.release, because=because, failed=failed, usage=usage, **values)
        self._write(job, holder, faults, Write(send, apply))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), calls=counts, faults=faults)
    def complete(self, data: st.DataObject, calls: int, faults: list[Fault | None]) -> None:
        """A worker completes its job."""
        job, holder = self._draw(data)
        if not self._repeat_unconfirmed(job, holder):
            return
        attempt = holder.lease.attempt
        result_body = f"result of attempt {attempt}".encode()
        places = [*holder.unrecorded, *(f"a{attempt}{number:04}" for number in range(calls))]
        usage = self._rows(job, places)
        send = partial(self.ledger.complete, result_body=result_body, status="succeeded", usage=usage)
        self._write(job, holder, faults, Write(send, lambda after: after.end(job, result_body, places)))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), calls=st.integers(1, 2))
    def settle(self, data: st.DataObject, calls: int) -> None:
        """A worker that has lost its lease appends records of its calls, more than once if need be."""
        job, holder = self._draw(data)
        if self.model.jobs[job].holder is holder:
            return
        places = self._add_calls(holder, calls)
        for _ in range(2):
            self.run(self.ledger.append_usage(self._rows(job, places)))
        self.model.usage.update(usage_keys(job, places))

    @rule(job=jobs, faults=faults)
    def cancel(self, job: str, faults: list[Fault | None]) -> None:
        """Somebody cancels the job."""
        row, after = self.model.jobs.get(job), self.model.copy()
        died = row is not None and row.state == "running" and not row.lease_holds(self.time)
        if row is not None and row.state in {"queued", "waiting"}:
            after.jobs[job].state = "cancelled"  # a release that is repeated is recognized all the same
        elif died:
            after.jobs[job].cancelled, after.jobs[job].written_by = True, None
        state = self._do(JobUpdates(self.table).cancel(self.customer, job), faults, after)
        if not any(fault in {Fault.REFUSED, Fault.LOST} for fault in faults):
            assert ("cancelled" if died else after.jobs[job].state if row else None) == state

    # What always holds.

    @invariant()
    def the_table_is_as_the_model(self) -> None:
        """The partition holds what the model says, no row more and none less."""
        assert self.model.rows(self.customer) == self._rows_in_table()

    @invariant()
    def a_finished_job_stays_finished(self) -> None:
        """A job that was done once stays done, with the same result."""
        for name, job in self.model.jobs.items():
            assert self.attempts.get(name, 0) <= job.attempt
            self.attempts[name] = job.attempt
            if name in self.result_body:
                assert ("done", self.result_body[name]) == (job.state, job.result_body)
            if job.result_body is not None:
                self.result_body[name] = job.result_body

    @invariant()
    def each_crash_is_recorded_once(self) -> None:
        """An attempt is at most once among those that crashed, and before the attempt that records it."""
        for job in self.model.jobs.values():
            assert len(job.crashed_attempts) == len(set(job.crashed_attempts))
            assert all(crashed < job.attempt for crashed in job.crashed_attempts)

    # How the ledger is used.

    def _repeat_unconfirmed(self, job: str, holder: Holder) -> bool:
        """Repeat a write whose response got lost, as an attempt does; return whether the holder may go on."""
        if holder.unconfirmed is not None:
            self._write(job, holder, [], holder.unconfirmed)
        return holder.unconfirmed is None and self._is_valid(job, holder)

    def _write(self, job: str, holder: Holder, faults: Sequence[Fault | None], write: Write) -> None:
        holder.unconfirmed = write
        after, row = self.model.copy(), self.model.jobs[job]
        valid, made = self._is_valid(job, holder), row.written_by is write
        if valid and not made:
            write.apply(after)
            after.jobs[job].written_by = write
        outcome = self._do(
            write.send(holder.lease, operation_id=write.operation_id), faults, after, lost=not (valid or made)
        )
        if isinstance(outcome, Lease | None) and not self.unanswered:
            holder.lease, holder.unconfirmed = outcome or holder.lease, None
            write.confirmed()

    def _do(
        self, use: Coroutine[Any, Any, T], faults: Sequence[Fault | None], after: Partition, *, lost: bool = False
    ) -> T | Exception | None:
        """Return what a use of the ledger returns or raises; the model stays as it was, or becomes `after`."""
        before, self.unanswered = self.model, False
        self.faults.extend(faults)
        try:
            outcome: T | Exception = self.run(use)
        except (StorageUnavailable, AlreadyRunning, JobConflict, LeaseLost) as exc:
            outcome = exc
        self.faults.clear()
        self.unanswered = isinstance(outcome, StorageUnavailable)
        if self.unanswered:
            assert {Fault.REFUSED, Fault.LOST} & {*faults}
            if self._rows_in_table() != before.rows(self.customer):
                assert not lost
                self.model = after  # and the invariant checks whether it is
            return None
        assert isinstance(outcome, LeaseLost) == lost
        if not isinstance(outcome, Exception):
            self.model = after
        return outcome

    def _hold(self, worker: int, name: str, lease: Lease) -> None:
        """Give a worker its lease, and let it read the stored steps, as an attempt does."""
        job = self.model.jobs[name]
        members = ("attempt", "failed_attempts", "crashed_attempts", "retries", "unrecoverable_usage", "cancelled")
        for member in (*members, "reason", "reason_code"):
            assert getattr(job, member) == getattr(lease, member)
        assert START == lease.submitted_at
        steps = {step.key for step in self.run(self.ledger.steps(lease))}
        assert {key.partition("~")[2] for key in self.model.steps if key.startswith(f"s_{name}~")} == steps
        job.holder = self.held[worker, name] = Holder(lease, steps)

    def _draw(self, data: st.DataObject) -> tuple[str, Holder]:
        (_, job), holder = data.draw(st.sampled_from(sorted(self.held.items(), key=lambda item: item[0])))
        return job, holder

    def _add_calls(self, holder: Holder, number: int) -> list[str]:
        first = holder.calls + 1
        holder.calls += number
        holder.unrecorded += [f"~{holder.lease.attempt}.{call}" for call in range(first, holder.calls + 1)]
        return list(holder.unrecorded)

    def _rows(self, job: str, places: Sequence[str]) -> list[Row]:
        return [Row(self.customer, key, {"calls": 1}) for key in usage_keys(job, places)]

    def _rows_in_table(self) -> dict[str, Any]:
        async def scan() -> list[Row]:
            return [row async for row in self.table.scan(self.customer, "", "~")]

        return read_rows(self.run(scan()))

    def _is_valid(self, name: str, holder: Holder) -> bool:
        job = self.model.jobs[name]
        return job.holder is holder and job.state == "running"


def run_machine(machine: type[LedgerMachine], *, examples: int, steps: int) -> None:
    """Run so many examples of so many steps each."""
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=steps, suppress_health_check=list(HealthCheck)),
    )
