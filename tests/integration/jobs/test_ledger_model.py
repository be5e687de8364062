"""
The ledger against a model of it: workers that claim, pay, remember, wait, die and come back, a Storage that
fails in between, in any order that Hypothesis thinks of; in memory and on Azurite.

What a use of the ledger may leave behind is worked out beforehand: all of it where it succeeds, nothing where it
is refused, and all or nothing where Storage gave no answer. After each use the whole partition must be just that.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import msgspec
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

from shared.contract.job import Job as JobMessage
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
from shared.jobs import ledger as module
from shared.jobs.job_updates import JobUpdates
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.jobs.records import FinishedJob, JobRecord, time_row
from shared.jobs.step_rows import StepRecord
from shared.storage.base import Row, Table
from tests.support.fakes import Fault, MemoryTable
from tests.support.faulty_tables import faulty_table
from tests.support.harness import World

LEASE_S = 90
START = datetime(2026, 11, 20, 13, 12, tzinfo=UTC)
JOBS = ("job-1", "job-1.2")
WORKERS = range(3)
T = TypeVar("T")
DIED = "The worker that ran it died."
REASONS: tuple[RetryLater, ...] = (
    StorageUnavailable("Storage was down."),
    UpstreamRetryLater(RateLimited("Slow down."), 60, 2),
)

jobs, workers = st.sampled_from(JOBS), st.sampled_from(WORKERS)
faults = st.lists(st.sampled_from([None, None, *Fault]), max_size=3)
counts = st.integers(0, 3)


@dataclass
class Job:
    """What the ledger knows of a job, as the model has it."""

    fingerprint: str
    state: str = "running"
    attempt: int = 1
    failed_attempts: int = 0
    crashed_attempts: tuple[int, ...] = ()
    reason: str = ""
    reason_code: str = ""
    cancelled: bool = False
    retries: int = 0
    unrecoverable_usage: Usage = field(default_factory=Usage)
    lease_until: datetime | None = None
    result_body: bytes | None = None
    holder: Holding | None = None
    """Who may change it; None if that worker never heard of it."""
    written_by: Write | None = None
    """The holder's write that changed the row last; None if somebody else's did."""


@dataclass(eq=False)
class Write:
    """One write of a holder, which it repeats under the same id until it knows that it was made."""

    send: Callable[[Lease, str], Coroutine[Any, Any, Lease | None]]
    apply: Callable[[State], None]
    """What it changes in the model."""
    confirmed: Callable[[], None] = lambda: None
    operation_id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(eq=False)
class Holding:
    """What one worker has in hand of a job."""

    claim: Lease
    known: set[str]
    """Steps that it knows to be stored."""
    pending: list[str] = field(default_factory=list)
    """Steps that it has not stored; they go along with its next write."""
    due: list[str] = field(default_factory=list)
    """Usage records of calls without a step, which go along likewise."""
    calls: int = 0
    unconfirmed: Write | None = None


@dataclass
class State:
    """All that one partition holds: jobs, and the keys of steps and usage records."""

    jobs: dict[str, Job] = field(default_factory=dict)
    steps: set[str] = field(default_factory=set)
    usage: set[str] = field(default_factory=set)

    def copy(self) -> State:
        """A copy that is changed by itself; holders stay who they are."""
        return State(
            {name: deepcopy(job, _keeping(job)) for name, job in self.jobs.items()}, {*self.steps}, {*self.usage}
        )


def _keeping(job: Job) -> dict[int, Any]:
    kept = (job.holder, job.written_by)
    return {id(each): each for each in kept if each is not None}


class LedgerMachine(RuleBasedStateMachine):
    """Workers on one customer's jobs. `open_table` gives a table, and where its faults are put."""

    open_table: Callable[[], tuple[Table, deque[Fault | None]]]
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def __init__(self) -> None:
        super().__init__()
        self.table, self.faults = type(self).open_table()
        self.ledger = Ledger(self.table, lease_s=LEASE_S)
        self.customer = f"c-{uuid.uuid4().hex}"
        self.moment = START
        self.state = State()
        self.held: dict[tuple[int, str], Holding] = {}
        self.numbers: dict[str, int] = {}
        self.attempts: dict[str, int] = {}
        self.result_body: dict[str, bytes] = {}
        self.unanswered = False
        self.patch = pytest.MonkeyPatch()

    @initialize()
    def start(self) -> None:
        """The ledger's clock is the machine's."""
        for each in (module, job_updates):
            self.patch.setattr(each, "now", lambda: self.moment)

    def teardown(self) -> None:
        """Gives the clock back."""
        self.patch.undo()

    # What happens.

    @rule(seconds=st.sampled_from([1, 30, LEASE_S - 1, LEASE_S, LEASE_S + 1]))
    def time_passes(self, seconds: int) -> None:
        """Leases may end."""
        self.moment += timedelta(seconds=seconds)

    @rule(worker=workers, job=jobs)
    def worker_dies(self, worker: int, job: str) -> None:
        """What it had in hand is gone; the row stays as it is."""
        self.held.pop((worker, job), None)

    @rule(worker=workers, job=jobs, fingerprint=st.sampled_from(["same", "same", "same", "other"]), faults=faults)
    def claim(self, worker: int, job: str, fingerprint: str, faults: list[Fault | None]) -> None:
        """A worker is given the job's message, or given it again."""
        before, row = self.state, self.state.jobs.get(job)
        coming = self.ledger.claim(self.customer, job, fingerprint=fingerprint, submitted_at=START)
        after = self._claimed(job, fingerprint)
        given = self._do(coming, faults, before if after is None else after)
        if given is None:
            return
        if isinstance(given, JobConflict):
            assert row is not None
            assert fingerprint != row.fingerprint
        elif isinstance(given, FinishedJob):
            assert row is not None
            assert ("done", row.result_body) == (row.state, given.result_body)
        elif isinstance(given, AlreadyRunning):
            assert after is None
            assert row is not None
            assert row.lease_until is not None
            assert 0 < given.delay_s <= min(15, (row.lease_until - self.moment).total_seconds() + 1)
        else:
            assert isinstance(given, Lease)
            assert after is not None
            self._hold(worker, job, given)

    @rule(job=jobs, fingerprint=st.sampled_from(["same", "same", "other"]), faults=faults)
    def submit(self, job: str, fingerprint: str, faults: list[Fault | None]) -> None:
        """The job is put on record, as by HTTP, before its message comes; or again, when it did come."""
        row, after = self.state.jobs.get(job), self.state.copy()
        if row is None:
            after.jobs[job] = Job(fingerprint, "queued", 0)
        given = self._do(
            self.ledger.submit(_job(self.customer, job), fingerprint=fingerprint, submitted_at=START), faults, after
        )
        if isinstance(given, JobConflict):
            assert row is not None
            assert fingerprint != row.fingerprint
        elif given is not None:
            assert isinstance(given, JobRecord)
            now = self.state.jobs[job]
            assert (now.state, now.attempt, now.fingerprint, now.result_body) == (
                given.state,
                given.attempt,
                given.fingerprint,
                given.result_body,
            )

    @precondition(lambda self: any(self._is_free(job) for job in JOBS))
    @rule(job=jobs, data=st.data())
    def workers_race(self, job: str, data: st.DataObject) -> None:
        """All workers are given the job's message at once: one gets it."""
        if not self._is_free(job):
            return
        after = self._claimed(job, "same")
        given = self._together(
            *(self.ledger.claim(self.customer, job, fingerprint="same", submitted_at=START) for _ in WORKERS)
        )
        claims = [one for one in given if isinstance(one, Lease)]
        assert 1 == len(claims)
        assert len(WORKERS) - 1 == sum(isinstance(one, AlreadyRunning) for one in given)
        assert after is not None
        self.state = after
        self._hold(data.draw(workers), job, claims[0])

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def holder_and_heir_race(self, data: st.DataObject) -> None:
        """A worker closes a job whose lease has ended while another takes it over: one of them succeeds."""
        (worker, job), holding = data.draw(st.sampled_from(sorted(self.held.items(), key=lambda one: one[0])))
        row = self.state.jobs[job]
        if not self._is_valid(job, holding) or self._lease_holds(row):
            return
        taken, closed = self._claimed(job, row.fingerprint), self.state.copy()
        self._ended(closed, name=job, body=b"raced", places=["raced"])
        holding.unconfirmed = None
        done, given = self._together(
            self.ledger.complete(holding.claim, b"raced", status="succeeded", usage=self._rows(job, ["raced"])),
            self.ledger.claim(self.customer, job, fingerprint=row.fingerprint, submitted_at=START),
        )
        if isinstance(given, Lease):
            assert isinstance(done, LeaseLost)
            assert taken is not None
            self.state = taken
            self._hold((worker + 1) % len(WORKERS), job, given)
        else:
            assert done is None
            assert isinstance(given, AlreadyRunning | FinishedJob)
            self.state = closed

    @precondition(lambda self: self.held)
    @rule(data=st.data(), faults=faults)
    def renew(self, data: st.DataObject, faults: list[Fault | None]) -> None:
        """A worker keeps its lease. A renewal is not repeated: the ledger accepts what only this lease has changed."""
        job, holding = self._draw(data)
        after, valid = self.state.copy(), self._is_valid(job, holding)
        if valid:
            self._renewed(after, job)
        given = self._do(self.ledger.renew(holding.claim), faults, after, lost=not valid)
        if isinstance(given, Lease):
            holding.claim = given

    @precondition(lambda self: self.held)
    @rule(data=st.data(), number=st.integers(1, 3), calls=st.integers(0, 1), faults=faults)
    def save_steps(self, data: st.DataObject, number: int, calls: int, faults: list[Fault | None]) -> None:
        """A worker stores steps with their usage records: those that it could not store before, and new ones."""
        job, holding = self._draw(data)
        if not self._repeat_unconfirmed(job, holding):
            return
        holding.pending += [f"{n:04}" for n in range(12) if f"{n:04}" not in {*holding.known, *holding.pending}][
            :number
        ]
        keys, rows = list(holding.pending), self._add_calls(holding, calls)
        steps = [
            StepRecord(key, f'"{key}"'.encode(), Usage(calls=1), usage_rows=self._rows(job, [key])) for key in keys
        ]

        def apply(after: State) -> None:
            self._renewed(after, job)
            after.steps.update(f"s_{job}~{key}" for key in keys)
            self._billed(after, job, holding, [*keys, *rows])

        def confirmed() -> None:
            holding.known.update(keys)
            del holding.pending[: len(keys)], holding.due[: len(rows)]

        usage = self._rows(job, rows)
        self._write(job, holding, faults, Write(partial(self._save_steps, steps, usage), apply, confirmed))

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        because=st.sampled_from(REASONS),
        failed=st.booleans(),
        calls=st.integers(0, 2),
        faults=faults,
    )
    def release(
        self, data: st.DataObject, because: RetryLater, failed: bool, calls: int, faults: list[Fault | None]
    ) -> None:
        """A worker gives its job up, with what it has lost; then it does nothing more with it, if it knows that."""
        job, holding = self._draw(data)
        if not self._repeat_unconfirmed(job, holding):
            return
        claim, rows = holding.claim, self._add_calls(holding, calls)
        unrecoverable = claim.unrecoverable_usage + Usage(calls=calls)
        retries = because.retries if isinstance(because, UpstreamRetryLater) else claim.retries

        def apply(after: State) -> None:
            row = after.jobs[job]
            row.state, row.retries, row.unrecoverable_usage = "waiting", retries, unrecoverable
            row.failed_attempts = claim.failed_attempts + failed
            row.reason = str(because)
            row.reason_code = "rate_limited" if isinstance(because, UpstreamRetryLater) else ""
            self._billed(after, job, holding, rows)

        async def send(lease: Lease, operation_id: str) -> None:
            await self.ledger.release(
                lease,
                because,
                retries=retries,
                failed=failed,
                unrecoverable_usage=unrecoverable,
                usage=self._rows(job, rows),
                operation_id=operation_id,
            )

        self._write(job, holding, faults, Write(send, apply))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), calls=counts, faults=faults)
    def complete(self, data: st.DataObject, calls: int, faults: list[Fault | None]) -> None:
        """A worker ends its job."""
        job, holding = self._draw(data)
        if not self._repeat_unconfirmed(job, holding):
            return
        body = f"result of attempt {holding.claim.attempt}".encode()
        places = [*holding.due, *(f"a{holding.claim.attempt}{number:04}" for number in range(calls))]

        async def send(lease: Lease, operation_id: str) -> None:
            usage = self._rows(job, places)
            await self.ledger.complete(lease, body, status="succeeded", usage=usage, operation_id=operation_id)

        self._write(job, holding, faults, Write(send, partial(self._ended, name=job, body=body, places=places)))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), calls=st.integers(1, 2))
    def record(self, data: st.DataObject, calls: int) -> None:
        """A worker that has lost its job writes what its calls have cost, more than once if need be."""
        job, holding = self._draw(data)
        if self._is_ours(job, holding):
            return
        rows = self._add_calls(holding, calls)
        for _ in range(2):
            self.run(self.ledger.append_usage(self._rows(job, rows)))
        self.state.usage.update(_keys(job, rows))

    @rule(job=jobs, faults=faults)
    def cancel(self, job: str, faults: list[Fault | None]) -> None:
        """Somebody calls the job off."""
        row, after = self.state.jobs.get(job), self.state.copy()
        died = row is not None and row.state == "running" and not self._lease_holds(row)
        if row is not None and row.state in {"queued", "waiting"}:
            after.jobs[job].state = "cancelled"  # a release that is repeated is recognized all the same
        elif died:
            after.jobs[job].cancelled, after.jobs[job].written_by = True, None
        else:
            after = self.state.copy()
        given = self._do(JobUpdates(self.table).cancel(self.customer, job), faults, after)
        if not any(fault in {Fault.REFUSED, Fault.LOST} for fault in faults):
            assert ("cancelled" if died else after.jobs[job].state if row else None) == given

    # What always holds.

    @invariant()
    def storage_is_as_the_model_has_it(self) -> None:
        """The partition holds what the model says, no row more and none less."""
        assert self._expected(self.state) == self._found()

    @invariant()
    def what_is_done_stays_done(self) -> None:
        """A job that was done once is done for good, and is told alike."""
        for name, job in self.state.jobs.items():
            assert self.attempts.get(name, 0) <= job.attempt
            self.attempts[name] = job.attempt
            if name in self.result_body:
                assert ("done", self.result_body[name]) == (job.state, job.result_body)
            if job.result_body is not None:
                self.result_body[name] = job.result_body

    @invariant()
    def each_death_is_recorded_once(self) -> None:
        """A death stands among those that are still to be recorded at most once, and before its heir's attempt."""
        for job in self.state.jobs.values():
            assert len(job.crashed_attempts) == len(set(job.crashed_attempts))
            assert all(death < job.attempt for death in job.crashed_attempts)

    # The model.

    def _claimed(self, name: str, fingerprint: str) -> State | None:
        """What a claim leaves, or None where there is none to be had."""
        after = self.state.copy()
        job = after.jobs.get(name)
        if job is None:
            after.jobs[name] = Job(fingerprint, lease_until=self._lease())
            return after
        if job.fingerprint != fingerprint or job.state == "done" or (job.state == "running" and self._lease_holds(job)):
            return None
        if job.state == "running":
            job.failed_attempts += 1
            job.crashed_attempts = (*job.crashed_attempts, job.attempt)
            before = job.reason.removeprefix(DIED).removeprefix(" Before that: ")
            job.reason = f"{DIED} Before that: {before}" if before else DIED
        job.cancelled = job.cancelled or job.state == "cancelled"
        job.state, job.holder, job.written_by, job.lease_until = "running", None, None, self._lease()
        job.attempt += 1
        return after

    def _renewed(self, after: State, name: str) -> None:
        after.jobs[name].lease_until = self._lease()

    def _billed(self, after: State, name: str, holding: Holding, places: Sequence[str]) -> None:
        """What usage records leave. Whoever writes any has written those of crashed attempts."""
        after.usage.update(_keys(name, places))
        if places and holding.claim.crashed_attempts:
            after.jobs[name].crashed_attempts = ()

    def _ended(self, after: State, *, name: str, body: bytes, places: Sequence[str]) -> None:
        job = after.jobs[name]
        job.state, job.result_body = "done", body
        after.usage.update(_keys(name, places))
        if places:
            job.crashed_attempts = ()

    async def _save_steps(
        self, steps: Sequence[StepRecord], usage: Sequence[Row], lease: Lease, operation_id: str
    ) -> Lease:
        return await self.ledger.save_steps(lease, steps, usage, operation_id=operation_id)

    def _repeat_unconfirmed(self, job: str, holding: Holding) -> bool:
        """Repeat a write whose answer got lost, as an attempt does before others; return whether it may go on."""
        if holding.unconfirmed is not None:
            self._write(job, holding, [], holding.unconfirmed)
        return holding.unconfirmed is None and self._is_valid(job, holding)

    def _write(self, job: str, holding: Holding, faults: Sequence[Fault | None], write: Write) -> None:
        holding.unconfirmed = write
        after, row = self.state.copy(), self.state.jobs[job]
        valid, made = self._is_valid(job, holding), row.written_by is write
        if valid and not made:
            write.apply(after)
            after.jobs[job].written_by = write
        lost = not (valid or made)
        given = self._do(write.send(holding.claim, write.operation_id), faults, after, lost=lost)
        if isinstance(given, Lease | None) and not self.unanswered:
            holding.claim, holding.unconfirmed = given or holding.claim, None
            write.confirmed()

    def _do(
        self,
        coming: Coroutine[Any, Any, T],
        faults: Sequence[Fault | None],
        after: State,
        *,
        lost: bool = False,
    ) -> T | Exception | None:
        """What a use of the ledger gives or raises; it leaves the state as it was, or as `after` says."""
        before, self.unanswered = self.state, False
        self.faults.extend(faults)
        try:
            given: T | Exception = self.run(coming)
        except (StorageUnavailable, AlreadyRunning, JobConflict, LeaseLost) as exc:
            given = exc
        self.faults.clear()
        self.unanswered = isinstance(given, StorageUnavailable)
        if self.unanswered:
            assert {Fault.REFUSED, Fault.LOST} & {*faults}
            if self._found() != self._expected(before):
                assert not lost
                self.state = after  # and the invariant looks whether it is
            return None
        assert isinstance(given, LeaseLost) == lost
        if not isinstance(given, Exception):
            self.state = after
        return given

    def _together(self, *coming: Coroutine[Any, Any, Any]) -> list[Any]:
        async def gathered() -> list[Any]:
            return await asyncio.gather(*coming, return_exceptions=True)

        return self.run(gathered())

    def _hold(self, worker: int, name: str, claim: Lease) -> None:
        """Gives a worker its claim, and lets it read what was remembered, as a run does."""
        job = self.state.jobs[name]
        said = (
            claim.attempt,
            claim.failed_attempts,
            claim.crashed_attempts,
            claim.retries,
            claim.unrecoverable_usage,
            claim.cancelled,
        )
        assert (
            job.attempt,
            job.failed_attempts,
            job.crashed_attempts,
            job.retries,
            job.unrecoverable_usage,
            job.cancelled,
        ) == said
        assert (job.reason, job.reason_code) == (claim.reason, claim.reason_code)
        assert START == claim.submitted_at
        steps = {step.key for step in self.run(self.ledger.steps(claim))}
        assert {key.partition("~")[2] for key in self.state.steps if key.startswith(f"s_{name}~")} == steps
        job.holder = self.held[worker, name] = Holding(claim, steps)

    def _draw(self, data: st.DataObject) -> tuple[str, Holding]:
        (_, job), holding = data.draw(st.sampled_from(sorted(self.held.items(), key=lambda one: one[0])))
        return job, holding

    def _add_calls(self, holding: Holding, number: int) -> list[str]:
        first = holding.calls + 1
        holding.calls += number
        holding.due += [f"~{holding.claim.attempt}.{one}" for one in range(first, holding.calls + 1)]
        return list(holding.due)

    def _rows(self, job: str, places: Sequence[str]) -> list[Row]:
        return [Row(self.customer, key, {"calls": 1}) for key in _keys(job, places)]

    def _is_ours(self, name: str, holding: Holding) -> bool:
        return self.state.jobs[name].holder is holding

    def _is_valid(self, name: str, holding: Holding) -> bool:
        return self._is_ours(name, holding) and self.state.jobs[name].state == "running"

    def _is_free(self, name: str) -> bool:
        return self._claimed(name, "same") is not None

    def _lease(self) -> datetime:
        return self.moment + timedelta(seconds=LEASE_S)

    def _lease_holds(self, job: Job) -> bool:
        return job.lease_until is not None and job.lease_until > self.moment

    # What is there.

    def _expected(self, state: State) -> dict[str, Any]:
        places = {time_row(self.customer, name, START).key for name in state.jobs}
        rows: dict[str, Any] = {key: {} for key in state.steps | state.usage | places}
        for name, job in state.jobs.items():
            rows[f"j_{name}"] = {
                "state": job.state,
                "attempt": job.attempt,
                "failed_attempts": job.failed_attempts,
                "crashed_attempts": ",".join(map(str, job.crashed_attempts)),
                "reason": job.reason,
                "reason_code": job.reason_code,
                "cancelled": job.cancelled,
                "retries": job.retries,
                "unrecoverable_usage": job.unrecoverable_usage,
                "lease_until": job.lease_until,
                "result_body": job.result_body,
                "fingerprint": job.fingerprint,
            }
        return rows

    def _found(self) -> dict[str, Any]:
        async def scan() -> list[Row]:
            return [row async for row in self.table.scan(self.customer, "", "~")]

        found: dict[str, Any] = {}
        for row in self.run(scan()):
            values, found[row.key] = row.values, {}
            if row.key.startswith("j_"):
                usual = {
                    "failed_attempts": 0,
                    "crashed_attempts": "",
                    "reason": "",
                    "reason_code": "",
                    "cancelled": False,
                    "retries": 0,
                }
                found[row.key] = {name: values.get(name, other) for name, other in usual.items()} | {
                    **{name: values[name] for name in ("state", "attempt", "fingerprint")},
                    "lease_until": values.get("lease_until"),
                    "unrecoverable_usage": msgspec.json.decode(values.get("unrecoverable_usage", "{}"), type=Usage),
                    "result_body": values.get("result_body"),
                }
        return found


def _job(customer: str, job_id: str) -> JobMessage:
    return JobMessage(customer=customer, action="chat", job_id=job_id)


def _keys(job: str, places: Sequence[str]) -> list[str]:
    return [f"u_2026-11_{job}_{place}" for place in places]


def test_the_ledger_in_memory_is_as_its_model() -> None:
    """Whatever happens in whatever order, the ledger's rows in memory are those that the model has."""
    with asyncio.Runner() as runner:

        class InMemory(LedgerMachine):
            """Each time on a table of its own."""

            run = staticmethod(runner.run)

            @staticmethod
            def open_table() -> tuple[Table, deque[Fault | None]]:
                table = MemoryTable()
                return table, table.faults

        few = settings(max_examples=120, stateful_step_count=30, suppress_health_check=list(HealthCheck))
        run_state_machine_as_test(InMemory, settings=few)


async def test_the_ledger_on_azurite_is_as_its_model(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same on Azurite, with fewer examples. The machine runs beside the loop that the sockets belong to."""
    faulty, loop = faulty_table("azure", world, monkeypatch), asyncio.get_running_loop()

    class OnAzurite(LedgerMachine):
        """Each time in a partition of its own."""

        @staticmethod
        def run(coming: Coroutine[Any, Any, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(coming, loop).result(timeout=60)

        @staticmethod
        def open_table() -> tuple[Table, deque[Fault | None]]:
            return faulty.table, faulty.faults

    few = settings(max_examples=8, stateful_step_count=15, suppress_health_check=list(HealthCheck))
    await asyncio.to_thread(run_state_machine_as_test, OnAzurite, settings=few)
