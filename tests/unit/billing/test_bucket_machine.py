"""
A budget against its model: jobs of several workers that reserve, settle, end, wait, crash and are taken over, side by
side, while the budget is changed and Storage loses answers, in any order that Hypothesis finds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from shared.billing.bookings import Booking, BookingRefused
from shared.billing.bucket_moves import Pool
from shared.billing.bucket_rows import pool_key
from shared.billing.buckets import BUCKETS, percent_of, quantum_of
from shared.billing.budgets import Budgets
from shared.billing.customer_records import CustomerRecords
from shared.billing.job_budgets import JobBudgets
from shared.billing.outbox import Outbox
from shared.billing.reserved_amounts import read_reserved
from shared.clock import now
from shared.contract.budget import Budget
from shared.errors import StorageUnavailable
from shared.storage.base import Row
from tests.support.fakes import Fault, MemoryTable

CUSTOMER, BUDGET = "contoso", "main"
WORKERS = 3
workers = st.integers(0, WORKERS - 1)
limits = st.sampled_from(["0", "1", "10", "100.5", "1000"])
amounts = st.decimals(min_value=0, max_value=60, places=3)
shares = st.sampled_from([0, 0.3, 1, 1, 1.5])
faults = st.lists(st.sampled_from([None, None, None, *Fault]), max_size=3)


def cost(values: Mapping[str, Any]) -> Decimal:
    """Return what a usage record of these tests counts."""
    return Decimal(values["cost"])


class RunningJob:
    """A job that has a reservation."""

    def __init__(self, key: str, budgets: JobBudgets, etag: str, records: int = 0) -> None:
        self.key, self.budgets, self.etag, self.records = key, budgets, etag, records
        self.reserved = Decimal(0)

    def __repr__(self) -> str:
        return f"{self.key} with {self.reserved}"


class BucketMachine(RuleBasedStateMachine):
    """One customer's jobs on one monthly budget."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.table = MemoryTable()
        self.workers = [Budgets(self.table, CustomerRecords(self.table), Outbox(self.table)) for _ in range(WORKERS)]
        self.budget = Budget(limit=Decimal(100), unit="USD", period="month")
        self.key = pool_key(CUSTOMER, BUDGET, self.budget, now())
        self.run(self.table.insert(Row(CUSTOMER, "customer", self.record())))
        self.jobs: list[RunningJob] = []
        self.crashed: list[RunningJob] = []
        self.number = self.operations = 0
        self.spent = self.reserved = Decimal(0)
        self.exceeded = False
        """Whether more may be spent than the limit: it was lowered, or a job has cost more than it had reserved."""
        self.passed: set[int] = set()

    def teardown(self) -> None:
        """Close the loop."""
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what `work` returns."""
        return self.loop.run_until_complete(work)

    def record(self) -> dict[str, Any]:
        """Return the customer's columns."""
        return {"budgets": msgspec.json.encode({BUDGET: self.budget}).decode()}

    # What happens.

    @rule(worker=workers, amount=amounts, faults=faults)
    def begin(self, worker: int, amount: Decimal, faults: list[Fault | None]) -> None:
        """A job reserves an amount, or is refused for the right reason."""
        job = self.new_job(worker, amount)
        outcome = self.run(self.write(job, "running", [], faults))
        left = self.budget.limit - self.spent
        if amount and amount > left - self.reserved and self.budget.enforce == "hard":
            assert isinstance(outcome, BookingRefused)
            assert (left, amount <= left) == (outcome.left, outcome.is_reserved)
        else:
            assert outcome is None, outcome
            self.began(job, amount)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), share=shares, faults=faults)
    def settle(self, data: st.DataObject, share: float, faults: list[Fault | None]) -> None:
        """A job stores a step, whose cost it has reserved, or more."""
        job = data.draw(st.sampled_from(self.jobs))
        amount = self.cost_of(job, share)
        assert self.run(self.write(job, "running", [amount], faults)) is None
        self.paid(job, amount)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), share=shares, state=st.sampled_from(["done", "waiting"]), faults=faults)
    def end(self, data: st.DataObject, share: float, state: str, faults: list[Fault | None]) -> None:
        """A job ends, or is released to wait: nothing of it stays reserved."""
        job = data.draw(st.sampled_from(self.jobs))
        amount = self.cost_of(job, share)
        assert self.run(self.write(job, state, [amount], faults)) is None
        self.paid(job, amount)
        self.ended(job)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """A job's worker dies. What is reserved stays so."""
        job = data.draw(st.sampled_from(self.jobs))
        self.jobs.remove(job)
        self.crashed.append(job)

    @precondition(lambda self: self.crashed)
    @rule(data=st.data(), worker=workers, amount=st.none() | amounts, faults=faults)
    def take_over(self, data: st.DataObject, worker: int, amount: Decimal | None, faults: list[Fault | None]) -> None:
        """The next attempt ends the job or reserves anew. What was in doubt is spent then."""
        old = data.draw(st.sampled_from(self.crashed))
        row = self.table.rows[CUSTOMER, old.key]
        job = self.new_job(worker, amount, old)
        job.budgets.in_doubt = read_reserved(row.values["reservation"])
        left = self.budget.limit - self.spent - old.reserved
        outcome = self.run(self.write(job, "running" if amount is not None else "done", [], faults))
        if isinstance(outcome, BookingRefused):
            assert amount is not None
            assert amount > left - (self.reserved - old.reserved)
            return
        assert outcome is None
        self.crashed.remove(old)
        self.spent += old.reserved
        self.reserved -= old.reserved
        if amount is not None:
            self.began(job, amount)

    @precondition(lambda self: len(self.jobs) > 1)
    @rule(data=st.data())
    def many_end_side_by_side(self, data: st.DataObject) -> None:
        """Jobs of several workers end at the same time, each with a cost, while others begin."""
        jobs = data.draw(st.lists(st.sampled_from(self.jobs), unique_by=id, min_size=2))
        costs = [self.cost_of(job, 1) for job in jobs]
        new = [self.new_job(number % WORKERS, Decimal(1)) for number in range(3)]

        async def all_of_them() -> list[Any]:
            ends = [self.write(job, "done", [amount], []) for job, amount in zip(jobs, costs, strict=True)]
            return await asyncio.gather(*ends, *(self.write(job, "running", [], []) for job in new))

        outcomes = self.run(all_of_them())
        assert [None] * len(jobs) == outcomes[: len(jobs)]
        for job, amount in zip(jobs, costs, strict=True):
            self.paid(job, amount)
            self.ended(job)
        for job, outcome in zip(new, outcomes[len(jobs) :], strict=True):
            if outcome is None:
                self.began(job, Decimal(1))

    @rule(
        limit=limits,
        thresholds=st.lists(st.integers(1, 120), unique=True, max_size=3),
        enforce=st.sampled_from(["hard", "hard", "soft"]),
    )
    def change(self, limit: str, thresholds: list[int], enforce: Literal["hard", "soft"]) -> None:
        """The budget gets another limit and other thresholds, or becomes a soft one, or a hard one again."""
        self.exceeded = self.exceeded or Decimal(limit) < self.budget.limit or enforce == "soft"
        self.budget = msgspec.structs.replace(
            self.budget, limit=Decimal(limit), thresholds=sorted(thresholds), enforce=enforce
        )
        row = self.table.rows[CUSTOMER, "customer"]
        self.run(self.table.merge(Row(CUSTOMER, "customer", self.record(), row.etag)))

    # What always holds.

    @invariant()
    def sums_are_conserved(self) -> None:
        """What is spent and reserved is what jobs have spent and reserved, and shares and alerts sum up."""
        pool = self.pool()
        if pool is None:
            assert (0, 0) == (self.spent, self.reserved)
            return
        assert (self.spent, self.reserved) == (pool.spent, pool.reserved)
        assert pool.head.terms.limit == sum(bucket.share for bucket in pool.buckets)
        assert pool.head.armed == sum(bucket.alert for bucket in pool.buckets)
        assert all(bucket.spent >= 0 and bucket.reserved >= 0 for bucket in pool.buckets)

    @invariant()
    def the_limit_holds(self) -> None:
        """No more is spent and reserved than the limit, in the whole and in each bucket's share."""
        pool = self.pool()
        if pool is not None and not self.exceeded:
            assert pool.spent + pool.reserved <= pool.head.terms.limit
            assert all(bucket.free >= 0 for bucket in pool.buckets)

    @invariant()
    def each_threshold_has_one_event(self) -> None:
        """A threshold whose event does not exist is not reached; one that is has one row."""
        pool = self.pool()
        if pool is None:
            return
        head = pool.head
        for threshold in head.terms.thresholds:
            if threshold not in head.passed and head.terms.limit:
                assert pool.spent < percent_of(head.terms.limit, threshold)
        assert self.passed <= set(head.passed)
        self.passed = set(head.passed)
        rows = [key for _, key in self.table.rows if key.startswith("e_")]
        assert sorted(
            f"e_{self.key.period}_{BUDGET}_{self.key.unit}_{threshold}" for threshold in head.passed
        ) == sorted(rows)

    # How a budget is used.

    def new_job(self, worker: int, amount: Decimal | None, old: RunningJob | None = None) -> RunningJob:
        """Return a job that wants to reserve an amount, if any."""
        budgets = JobBudgets(self.workers[worker], CUSTOMER)
        if amount is not None:
            budgets.request([Booking(BUDGET, self.budget, amount, cost)], now())
        if old is None:
            self.number += 1
            key = f"j_{self.number}"
            return RunningJob(key, budgets, self.run(self.table.insert(Row(CUSTOMER, key, {}))))
        return RunningJob(old.key, budgets, self.table.rows[CUSTOMER, old.key].etag, old.records)

    async def write(self, job: RunningJob, state: str, costs: Sequence[Decimal], faults: list[Fault | None]) -> Any:
        """Write a job's row and usage records, as often as Storage fails; return how a budget refuses it, or None."""
        records = []
        for amount in costs:
            job.records += 1
            records.append(Row(CUSTOMER, f"u_{job.key}_{job.records}", {"cost": str(amount)}))
        row = Row(CUSTOMER, job.key, {"state": state}, job.etag)
        self.table.faults.extend(faults)
        self.operations += 1
        id_ = f"operation-{self.operations}"
        try:
            while True:
                try:
                    job.etag = (await job.budgets.write(row, records, operation_id=id_))[0]
                except StorageUnavailable:
                    continue
                except BookingRefused as refused:
                    return refused
                return None
        finally:
            self.table.faults.clear()

    def cost_of(self, job: RunningJob, share: float) -> Decimal:
        """Return a share of what a job has reserved."""
        amount = (job.reserved * Decimal(str(share))).quantize(Decimal("0.001"))
        self.exceeded = self.exceeded or amount > job.reserved
        return amount

    def began(self, job: RunningJob, amount: Decimal) -> None:
        """A job has reserved an amount."""
        job.reserved = amount
        self.reserved += amount
        self.jobs.append(job)

    def paid(self, job: RunningJob, amount: Decimal) -> None:
        """A job has settled an amount."""
        self.spent += amount
        self.reserved -= min(amount, job.reserved)
        job.reserved -= min(amount, job.reserved)

    def ended(self, job: RunningJob) -> None:
        """A job has freed what it had reserved."""
        self.reserved -= job.reserved
        self.jobs.remove(job)

    def pool(self) -> Pool | None:
        """Return the buckets as the table has them."""
        rows = sorted(
            (row for (_, key), row in self.table.rows.items() if key.startswith(self.key.prefix)),
            key=lambda row: row.key,
        )
        assert len(rows) in {0, BUCKETS}
        return Pool([self.key.read(row) for row in rows], quantum_of("USD")) if rows else None


def run_machine(*, examples: int) -> None:
    """Run so many examples."""
    run_state_machine_as_test(
        BucketMachine,
        settings=settings(max_examples=examples, stateful_step_count=25, suppress_health_check=list(HealthCheck)),
    )


def test_a_budget_is_as_its_model() -> None:
    """Whatever happens, sums are conserved, the limit holds, and each threshold has one event."""
    run_machine(examples=6)


@pytest.mark.long
def test_a_budget_is_as_its_model_in_many_examples() -> None:
    """As above."""
    run_machine(examples=150)
