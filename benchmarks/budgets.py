"""
What budgets cost in throughput: jobs of a customer without a budget, with one, and with two, in one run.

Four workers share a table in memory whose requests take 5 ms, in simulated time: the figures are those of requests and
of transactions that are refused and repeated (412), on any machine. CPU time is not in them.
"""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from typing import Any

from shared.contract.budget import Budget
from tests.support.budget_jobs import BudgetedJobs, MortalTable
from tests.support.simulated_worker import simulate

JOBS = 3000
_WORKERS = 4
_CALL_S = 0.2
_BUDGETS = (0, 1, 2)


async def measure(jobs: int = JOBS) -> dict[str, Any]:
    """Return the figures."""
    sides = {str(budgets): await asyncio.to_thread(_run, budgets, jobs) for budgets in _BUDGETS}
    alone = sides["0"]["jobs_per_s"]
    for side in sides.values():
        side["ratio"] = round(side["jobs_per_s"] / alone, 3)
    return {"jobs": jobs, "workers": _WORKERS, "budgets": sides}


def report(figures: dict[str, Any]) -> str:
    """Return the figures as text."""
    lines = [
        f"{number} budgets: {side['jobs_per_s']} jobs/s, ratio {side['ratio']}, {side['requests']} requests a job, "
        f"{side['refused']} transactions refused (412)"
        for number, side in figures["budgets"].items()
    ]
    return "\n".join([f"{figures['jobs']} jobs of one customer on {figures['workers']} workers", *lines])


def _run(budgets: int, jobs: int) -> dict[str, Any]:
    random.seed(2)  # which buckets a worker prefers is random
    applying = {f"b{number}": Budget(limit=Decimal(10**8), unit="tokens", period="month") for number in range(budgets)}
    work = BudgetedJobs(applying, Decimal(10), lambda chance: chance.randint(4, 10), call_s=_CALL_S)
    simulate(work.run(jobs, [MortalTable(work.table) for _ in range(_WORKERS)]))
    return {
        "jobs_per_s": round(jobs / work.seconds, 1),
        "requests": round(work.table.operations / jobs, 2),
        "refused": work.conflicts,
    }
