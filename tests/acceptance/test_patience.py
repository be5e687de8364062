"""
One customer's backlog and hanging receivers beside another customer, on a real worker.

What is compared is the order of events and how many calls run at once, which a busy machine does not change.
`test_fairness` has limits in seconds, of simulated time.
"""

from __future__ import annotations

import asyncio

import pytest

from shared.connections.connection import DEFAULT_CONCURRENCY
from tests.support.busy_stack import open_busy_stack

CALL_S = 1.0
"""Long beside what a worker spends on a job, so that a customer's calls come to its limit on a slow machine too."""


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_a_backlog_drains_and_delays_nobody():
    """200 jobs of one customer use all its concurrency, and another's job behind them ends before most of them."""
    async with open_busy_stack(CALL_S) as stack:
        jobs = [stack.job(stack.heavy, f"job-{number}") for number in range(200)]
        await stack.storage.send(jobs)
        await stack.run(stack.job(stack.quiet, "behind"))
        await stack.results(jobs)
        results, calls = stack.storage.result_at, stack.endpoint.journal.entries

    before = sum(results[job.key] < results[stack.quiet.id, "behind"] for job in jobs)
    assert before <= len(jobs) * 0.75, f"{before} jobs of the backlog ended before the one behind it"
    heavy = [entry for entry in calls if entry.customer == stack.heavy.id]
    at_once = max(sum(other.at <= entry.at < other.ended for other in heavy) for entry in heavy)
    assert at_once == DEFAULT_CONCURRENCY


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_callbacks_come_beside_hanging_receivers():
    """200 callbacks to a receiver that answers come as their jobs end, while another customer's receiver hangs."""
    async with open_busy_stack(0.03) as stack:
        await stack.run(*(stack.job(stack.quiet, f"hang-{number}", callback="/hang") for number in range(100)))
        jobs = [stack.job(stack.heavy, f"job-{number}", callback="/fast") for number in range(200)]
        await stack.run(*jobs)
        async with asyncio.timeout(60):
            while not {job.key for job in jobs} <= stack.received_at.keys():  # noqa: ASYNC110  # a dict has no event
                await asyncio.sleep(0.05)
        seconds = sorted(stack.received_at[job.key] - stack.storage.result_at[job.key] for job in jobs)

    assert seconds[198] <= 30, f"callbacks after the job's end: p50 {seconds[100]:.1f} s, p99 {seconds[198]:.1f} s"
