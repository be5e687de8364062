"""A thousand jobs at once on a budget for a hundred, on four workers of which one is killed, in simulated time."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest

from shared.contract.budget import Budget
from tests.support.budget_jobs import BudgetedJobs, MortalTable
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
    assert sorted(f"e_2026-11_main_{t}" for t in reached) == [row.key for row in work.rows("e_")]
    assert not any(row.values.get("reservation") for row in work.rows("j_"))


def test_a_budget_of_jobs_runs_exactly_so_many() -> None:
    """Of 200 jobs at once on a budget for 20, 20 run and 180 are refused."""
    work = run(Budget(limit=Decimal(20), unit="jobs", period="month"), jobs=200)

    check(work)
    assert (20, 180, Decimal(20)) == (work.succeeded, work.refused, work.pool("main").spent)


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("dies_at", [2, 60])
def test_a_budget_holds_if_a_worker_dies(dies_at: int, made: bool) -> None:
    """What a worker that died may have consumed is spent; the rest of the budget is used up to less than a job."""
    work = run(Budget(limit=Decimal(200), unit="tokens", period="month"), jobs=150, dies_at=dies_at, made=made)

    check(work)
    assert work.pool("main").spent > 200 - 10


@pytest.mark.long
@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("dies_at", [*range(1, 12), *Random(3).sample(range(12, 900), 9)])
def test_a_thousand_jobs_on_a_budget_for_a_hundred(dies_at: int, made: bool) -> None:
    """One of four workers is killed at each step: before it or after."""
    work = run(Budget(limit=Decimal(1000), unit="tokens", period="month"), jobs=1000, dies_at=dies_at, made=made)

    check(work)
    assert work.pool("main").spent > 1000 - 10
