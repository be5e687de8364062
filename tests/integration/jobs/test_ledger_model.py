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
from shared.jobs import ledger as module
from shared.jobs.ledger import Ledger
from shared.jobs.records import Done, JobRecord, Lease, time_row
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

    request_hash: str
    state: str = "running"
    attempt: int = 1
    failures: int = 0
    deaths: tuple[int, ...] = ()
    reason: str = ""
    reason_code: str = ""
    cancelled: bool = False
    retries: int = 0
    lost: Usage = field(default_factory=Usage)
    lease_until: datetime | None = None
    told: bytes | None = None
    holder: Holding | None = None
    """Who may change it; None where that worker never heard of it."""


@dataclass(eq=False)
class Holding:
    """What one worker has in hand of a job."""

    claim: Lease
    known: set[str]
    """Steps that it knows to be stored."""
    tried: list[str] = field(default_factory=list)
    """Steps that it could not store; they go along with its next change."""
    due: list[str] = field(default_factory=list)
    """Records of calls without a step, which go along likewise."""
    owed: int = 0


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
    return {} if job.holder is None else {id(job.holder): job.holder}


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
        self.told: dict[str, bytes] = {}
        self.patch = pytest.MonkeyPatch()

    @initialize()
    def start(self) -> None:
        """The ledger's clock is the machine's."""
        self.patch.setattr(module, "now", lambda: self.moment)

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

    @rule(worker=workers, job=jobs, request_hash=st.sampled_from(["same", "same", "same", "other"]), faults=faults)
    def claim(self, worker: int, job: str, request_hash: str, faults: list[Fault | None]) -> None:
        """A worker is given the job's message, or given it again."""
        before, row = self.state, self.state.jobs.get(job)
        coming = self.ledger.claim(self.customer, job, request_hash=request_hash, submitted_at=START)
        after = self._claimed(job, request_hash)
        given = self._do(coming, faults, before if after is None else after)
        if given is None:
            return
        if isinstance(given, JobConflict):
            assert row is not None
            assert request_hash != row.request_hash
        elif isinstance(given, Done):
            assert row is not None
            assert ("done", row.told) == (row.state, given.told)
        elif isinstance(given, AlreadyRunning):
            assert after is None
            assert row is not None
            assert row.lease_until is not None
            assert 0 < given.delay_s <= min(15, (row.lease_until - self.moment).total_seconds() + 1)
        else:
            assert isinstance(given, Lease)
            assert after is not None
            self._hold(worker, job, given)

    @rule(job=jobs, request_hash=st.sampled_from(["same", "same", "other"]), faults=faults)
    def submit(self, job: str, request_hash: str, faults: list[Fault | None]) -> None:
        """The job is put on record, as by HTTP, before its message comes; or again, when it did come."""
        row, after = self.state.jobs.get(job), self.state.copy()
        if row is None:
            after.jobs[job] = Job(request_hash, "queued", 0)
        given = self._do(
            self.ledger.submit(_job(self.customer, job), request_hash=request_hash, submitted_at=START), faults, after
        )
        if isinstance(given, JobConflict):
            assert row is not None
            assert request_hash != row.request_hash
        elif given is not None:
            assert isinstance(given, JobRecord)
            now = self.state.jobs[job]
            assert (now.state, now.attempt, now.request_hash, now.told) == (
                given.state,
                given.attempt,
                given.request_hash,
                given.told,
            )

    @precondition(lambda self: any(self._is_free(job) for job in JOBS))
    @rule(job=jobs, data=st.data())
    def workers_race(self, job: str, data: st.DataObject) -> None:
        """All workers are given the job's message at once: one gets it."""
        if not self._is_free(job):
            return
        after = self._claimed(job, "same")
        given = self._together(
            *(self.ledger.claim(self.customer, job, request_hash="same", submitted_at=START) for _ in WORKERS)
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
        taken, closed = self._claimed(job, row.request_hash), self._closed(job, b"raced", ["raced"])
        done, given = self._together(
            self.ledger.complete(holding.claim, b"raced", status="succeeded", usage=self._rows(job, ["raced"])),
            self.ledger.claim(self.customer, job, request_hash=row.request_hash, submitted_at=START),
        )
        if isinstance(given, Lease):
            assert isinstance(done, LeaseLost)
            assert taken is not None
            self.state = taken
            self._hold((worker + 1) % len(WORKERS), job, given)
        else:
            assert done is None
            assert isinstance(given, AlreadyRunning | Done)
            self.state = closed

    @precondition(lambda self: self.held)
    @rule(data=st.data(), faults=faults)
    def renew(self, data: st.DataObject, faults: list[Fault | None]) -> None:
        """A worker keeps its lease; what it could not store before goes along, as `Hold` sees to."""
        job, holding = self._draw(data)
        if holding.tried or holding.due:
            return
        after = self._changed(job, holding)
        given = self._do(self.ledger.renew(holding.claim), faults, after, lost=not self._is_valid(job, holding))
        if isinstance(given, Lease):
            holding.claim = given

    @precondition(lambda self: self.held)
    @rule(data=st.data(), number=st.integers(1, 3), owed=st.integers(0, 1), faults=faults)
    def remember(self, data: st.DataObject, number: int, owed: int, faults: list[Fault | None]) -> None:
        """A worker stores steps with their usage records: those that it could not store before, and new ones."""
        job, holding = self._draw(data)
        new = [f"{n:04}" for n in range(12) if f"{n:04}" not in {*holding.known, *holding.tried}][:number]
        holding.tried += new
        keys = list(holding.tried)
        rows = self._owe(holding, owed)
        after = self._changed(job, holding, steps=keys, rows=rows)
        steps = [StepRecord(key, f'"{key}"'.encode(), Usage(calls=1), rows=self._rows(job, [key])) for key in keys]
        given = self._do(
            self.ledger.remember(holding.claim, steps, self._rows(job, rows)),
            faults,
            after,
            lost=not self._is_valid(job, holding),
        )
        if isinstance(given, Lease):
            holding.claim = given
            holding.known.update(keys)
            holding.tried.clear()
            holding.due.clear()

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        because=st.sampled_from(REASONS),
        failed=st.booleans(),
        lost=st.integers(0, 2),
        faults=faults,
    )
    def release(
        self, data: st.DataObject, because: RetryLater, failed: bool, lost: int, faults: list[Fault | None]
    ) -> None:
        """A worker gives its job up, with what it has lost; then it does nothing more with it, if it was told so."""
        job, holding = self._draw(data)
        claim, rows = holding.claim, self._owe(holding, lost)
        sum_of_lost = claim.lost + Usage(calls=lost)
        retries = because.retries if isinstance(because, UpstreamRetryLater) else claim.retries
        after, row = self.state.copy(), self.state.jobs[job]
        again = self._is_ours(job, holding) and row.state == "waiting"  # it seemed to fail the last time
        if not again:
            after = self._changed(job, holding, rows=rows, renewed=False)
            given_up = after.jobs[job]
            given_up.state, given_up.retries, given_up.lost = "waiting", retries, sum_of_lost
            given_up.failures = claim.failures + failed
            given_up.reason = str(because)
            given_up.reason_code = "rate_limited" if isinstance(because, UpstreamRetryLater) else ""
        self._do(
            self.ledger.release(
                claim, because, retries=retries, failed=failed, lost=sum_of_lost, rows=self._rows(job, rows)
            ),
            faults,
            after,
            lost=not (again or self._is_valid(job, holding)),
        )

    @precondition(lambda self: self.held)
    @rule(data=st.data(), calls=counts, faults=faults)
    def complete(self, data: st.DataObject, calls: int, faults: list[Fault | None]) -> None:
        """A worker closes its job."""
        job, holding = self._draw(data)
        row = self.state.jobs[job]
        told = f"told in attempt {holding.claim.attempt}".encode()
        places = [*holding.due, *(f"a{holding.claim.attempt}{number:04}" for number in range(calls))]
        again = self._is_ours(job, holding) and row.state == "done"
        after = self.state.copy() if again else self._closed(job, told, places)
        self._do(
            self.ledger.complete(holding.claim, told, status="succeeded", usage=self._rows(job, places)),
            faults,
            after,
            lost=not (again or self._is_valid(job, holding)),
        )

    @precondition(lambda self: self.held)
    @rule(data=st.data(), calls=st.integers(1, 2))
    def record(self, data: st.DataObject, calls: int) -> None:
        """A worker that has lost its job writes what its calls have cost, more than once if need be."""
        job, holding = self._draw(data)
        if self._is_ours(job, holding):
            return
        rows = self._owe(holding, calls)
        for _ in range(2):
            for row in self._rows(job, rows):
                self.run(self.ledger.record(row))
        self.state.usage.update(_keys(job, rows))

    @rule(job=jobs, faults=faults)
    def cancel(self, job: str, faults: list[Fault | None]) -> None:
        """Somebody calls the job off."""
        row, after = self.state.jobs.get(job), self.state.copy()
        died = row is not None and row.state == "running" and not self._lease_holds(row)
        if row is not None and row.state in {"queued", "waiting"}:
            after.jobs[job].state = "cancelled"
        elif died:
            after.jobs[job].cancelled = True
        given = self._do(self.ledger.cancel(self.customer, job), faults, after)
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
            if name in self.told:
                assert ("done", self.told[name]) == (job.state, job.told)
            if job.told is not None:
                self.told[name] = job.told

    @invariant()
    def each_death_is_recorded_once(self) -> None:
        """A death stands among those that are still to be recorded at most once, and before its heir's attempt."""
        for job in self.state.jobs.values():
            assert len(job.deaths) == len(set(job.deaths))
            assert all(death < job.attempt for death in job.deaths)

    # The model.

    def _claimed(self, name: str, request_hash: str) -> State | None:
        """What a claim leaves, or None where there is none to be had."""
        after = self.state.copy()
        job = after.jobs.get(name)
        if job is None:
            after.jobs[name] = Job(request_hash, lease_until=self._lease())
            return after
        if (
            job.request_hash != request_hash
            or job.state == "done"
            or (job.state == "running" and self._lease_holds(job))
        ):
            return None
        if job.state == "running":
            job.failures += 1
            job.deaths = (*job.deaths, job.attempt)
            before = job.reason.removeprefix(DIED).removeprefix(" Before that: ")
            job.reason = f"{DIED} Before that: {before}" if before else DIED
        job.cancelled = job.cancelled or job.state == "cancelled"
        job.state, job.holder, job.lease_until = "running", None, self._lease()
        job.attempt += 1
        return after

    def _changed(
        self,
        name: str,
        holding: Holding,
        *,
        steps: Sequence[str] = (),
        rows: Sequence[str] = (),
        renewed: bool = True,
    ) -> State:
        """What a change of a valid claim's leaves. Whoever writes usage records has written those of the deaths."""
        after = self.state.copy()
        job = after.jobs[name]
        after.steps.update(f"s_{name}~{step}" for step in steps)
        after.usage.update(_keys(name, [*steps, *rows]))
        if renewed:
            job.lease_until = self._lease()
        if (steps or rows) and holding.claim.deaths:
            job.deaths = ()
        return after

    def _closed(self, name: str, told: bytes, places: Sequence[str]) -> State:
        after = self.state.copy()
        job = after.jobs[name]
        job.state, job.told = "done", told
        after.usage.update(_keys(name, places))
        if places:
            job.deaths = ()
        return after

    def _do(
        self,
        coming: Coroutine[Any, Any, T],
        faults: Sequence[Fault | None],
        after: State,
        *,
        lost: bool = False,
    ) -> T | Exception | None:
        """What a use of the ledger gives or raises; it leaves the state as it was, or as `after` says."""
        before = self.state
        self.faults.extend(faults)
        try:
            given: T | Exception = self.run(coming)
        except (StorageUnavailable, AlreadyRunning, JobConflict, LeaseLost) as exc:
            given = exc
        self.faults.clear()
        if isinstance(given, StorageUnavailable):
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
        said = (claim.attempt, claim.failures, claim.deaths, claim.retries, claim.lost, claim.cancelled)
        assert (job.attempt, job.failures, job.deaths, job.retries, job.lost, job.cancelled) == said
        assert (job.reason, job.reason_code) == (claim.reason, claim.reason_code)
        assert START == claim.submitted_at
        steps = {step.key for step in self.run(self.ledger.steps(claim))}
        assert {key.partition("~")[2] for key in self.state.steps if key.startswith(f"s_{name}~")} == steps
        job.holder = self.held[worker, name] = Holding(claim, steps)

    def _draw(self, data: st.DataObject) -> tuple[str, Holding]:
        (_, job), holding = data.draw(st.sampled_from(sorted(self.held.items(), key=lambda one: one[0])))
        return job, holding

    def _owe(self, holding: Holding, number: int) -> list[str]:
        first = holding.owed + 1
        holding.owed += number
        holding.due += [f"~{holding.claim.attempt}.{one}" for one in range(first, holding.owed + 1)]
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
                "failures": job.failures,
                "deaths": ",".join(map(str, job.deaths)),
                "reason": job.reason,
                "reason_code": job.reason_code,
                "cancelled": job.cancelled,
                "retries": job.retries,
                "lost": job.lost,
                "lease_until": job.lease_until,
                "told": job.told,
                "hash": job.request_hash,
            }
        return rows

    def _found(self) -> dict[str, Any]:
        async def scan() -> list[Row]:
            return [row async for row in self.table.scan(self.customer, "", "~")]

        found: dict[str, Any] = {}
        for row in self.run(scan()):
            values, found[row.key] = row.values, {}
            if row.key.startswith("j_"):
                usual = {"failures": 0, "deaths": "", "reason": "", "reason_code": "", "cancelled": False, "retries": 0}
                found[row.key] = {name: values.get(name, other) for name, other in usual.items()} | {
                    **{name: values[name] for name in ("state", "attempt", "hash")},
                    "lease_until": values.get("lease_until"),
                    "lost": msgspec.json.decode(values.get("lost", "{}"), type=Usage),
                    "told": values.get("told"),
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
