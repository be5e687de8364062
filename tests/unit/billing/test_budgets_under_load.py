"""A thousand jobs at once on a budget for a hundred, on four workers of which one is killed, in simulated time."""

from __future__ import annotations

from decimal import Decimal
from random import Random, seed

import pytest

from shared.contract.budget import Budget
from tests.support.budget_jobs import BudgetedJobs, MortalTable
from tests.support.sampled import Sampled
from tests.support.simulated_worker import simulate

WORKERS = 4


def run(budget: Budget, *, jobs: int, dies_at: float = float("inf"), made: bool = False) -> BudgetedJobs:
    """Run jobs that reserve 10 tokens and use 4 to 10 of them. The first worker dies at its n-th operation."""
    work = BudgetedJobs({"main": budget}, Decimal(10), lambda chance: chance.randint(4, 10))
    workers = [MortalTable(work.table, *((dies_at, made) if number == 0 else ())) for number in range(WORKERS)]
    simulate(work.run(jobs, workers))
    return work


def check(work: BudgetedJobs) -> None:
    """Check what must hold of every run: no overspend, nothing left reserved, and no false refusal."""
    pool = work.pool("main")
    unanswered = sum(row.values["outcome"] == "unanswered" for row in work.rows("u_"))
    assert 0 == pool.reserved
    assert pool.spent <= pool.head.terms.limit + 10 * unanswered
    assert [] == work.false_refusals
    assert pool.head.terms.limit == sum(bucket.share for bucket in pool.buckets)
    reached = [t for t in (50, 80, 100) if pool.spent * 100 >= t * pool.head.terms.limit]
    assert sorted(f"e_2026-11_main_{work.budgets['main'].unit}_{t}" for t in reached) == [
        row.key for row in work.rows("e_")
    ]
    assert not any(row.values.get("reservation") for row in work.rows("j_"))


def test_a_budget_of_jobs_runs_exactly_so_many() -> None:
    """Of 80 jobs at once on a budget for 20, 20 run and 60 are refused."""
    work = run(Budget(limit=Decimal(20), unit="jobs", period="month"), jobs=80)

    check(work)
    assert (20, 60, Decimal(20)) == (work.succeeded, work.refused, work.pool("main").spent)


@pytest.mark.parametrize(
    ("dies_at", "made"),
    [(2, True), *(pytest.param(*each, marks=pytest.mark.long) for each in [(2, False), (60, True)])],
)
def test_a_budget_holds_if_a_worker_dies(dies_at: int, made: bool) -> None:
    """What a worker that died may have consumed is spent; the rest of the budget is used up to less than a job."""
    work = run(Budget(limit=Decimal(200), unit="tokens", period="month"), jobs=100, dies_at=dies_at, made=made)

    check(work)
    assert work.pool("main").spent > 200 - 10


@pytest.mark.parametrize(
    ("dies_at", "made"),
    [(30, False), *(pytest.param(each, each % 2 > 0, marks=pytest.mark.long) for each in range(20, 90, 21))],
)
def test_a_budget_holds_if_a_worker_dies_as_it_claims(dies_at: int, made: bool) -> None:
    """Jobs that reserve with their claims, of which some are refused: as above."""
    work = run(Budget(limit=Decimal(1000), unit="tokens", period="month"), jobs=150, dies_at=dies_at, made=made)

    check(work)
    assert work.pool("main").spent > 1000 - 10
    assert work.claimed_with > 10


@pytest.mark.long
@pytest.mark.parametrize(
    ("dies_at", "made"),
    [(each, number % 2 == 0) for number, each in enumerate([*range(1, 12, 3), *Random(3).sample(range(12, 900), 3)])],
)
def test_a_thousand_jobs_on_a_budget_for_a_hundred(dies_at: int, made: bool) -> None:
    """One of four workers is killed: before its operation or after."""
    work = run(Budget(limit=Decimal(1000), unit="tokens", period="month"), jobs=1000, dies_at=dies_at, made=made)

    check(work)
    assert work.pool("main").spent > 1000 - 10


def check_events(run_number: int) -> None:
    """Check a run of few jobs in which one of the workers dies somewhere."""
    chance = Random(run_number)
    budget = Budget(limit=Decimal(150), unit="tokens", period="month", thresholds=[10, 33, 50, 80, 100])
    work = BudgetedJobs({"main": budget}, Decimal(10), lambda chance: chance.randint(4, 10))
    first = MortalTable(work.table, chance.randint(1, 60), made=chance.random() < 0.5)
    simulate(work.run(30, [first, MortalTable(work.table)], slots=8))
    pool = work.pool("main")
    reached = [t for t in budget.thresholds if pool.spent * 100 >= t * budget.limit]
    assert sorted(f"e_2026-11_main_tokens_{t}" for t in reached) == [row.key for row in work.rows("e_")], run_number
    assert 0 == pool.reserved
    assert [] == work.false_refusals


def test_each_event_has_one_row(sampled: Sampled) -> None:
    """A threshold that is reached has one event, and another none, wherever a worker dies."""
    for run_number in sampled(range(50), share=25):
        check_events(run_number)


@pytest.mark.long
@pytest.mark.parametrize("budgets", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_budget_costs_little_throughput(budgets: int) -> None:
    """
    One customer's 300 jobs a second, on four workers and a table that takes 5 ms a request: at least 0.8 of that with
    budgets, since few transactions are refused because another worker had changed a bucket.
    """
    seed(2)
    applying = {f"b{number}": Budget(limit=Decimal(10**8), unit="tokens", period="month") for number in range(budgets)}
    rates, jobs = [], 900
    for each in ({}, applying):
        work = BudgetedJobs(each, Decimal(10), lambda chance: chance.randint(4, 10), call_s=0.2)
        simulate(work.run(jobs, [MortalTable(work.table) for _ in range(WORKERS)]))
        rates.append(jobs / work.seconds)

    assert rates[0] > 270
    assert rates[1] >= 0.8 * rates[0]
    assert work.conflicts < jobs / 3
