"""
One customer's backlog and hanging receivers beside another customer, on a real worker.

The limits leave room for a busy machine, on which this stack gets a part of a core. `test_fairness` has the exact ones,
in simulated time.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from shared.connections.connection import DEFAULT_CONCURRENCY
from tests.support.busy_stack import open_busy_stack

CALL_S = 0.3


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_a_backlog_drains_and_delays_nobody():
    """400 jobs of one customer take little more than their calls, and another's job behind them little at all."""
    async with open_busy_stack(CALL_S) as stack:
        jobs = [stack.job(stack.heavy, f"job-{number}") for number in range(400)]
        began = time.monotonic()
        await stack.storage.send(jobs)
        (quiet_s,) = await stack.run(stack.job(stack.quiet, "behind"))
        await stack.results(jobs)
        backlog_s = max(stack.storage.result_at[job.key] for job in jobs) - began

    ideal_s = len(jobs) * CALL_S / DEFAULT_CONCURRENCY
    figures = f"backlog {backlog_s:.1f} s, ideal {ideal_s:.1f} s; the job behind it {quiet_s:.1f} s"
    assert backlog_s <= 4 * ideal_s, figures
    assert quiet_s <= 0.75 * backlog_s, figures


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

    assert seconds[198] <= 10, f"callbacks after the job's end: p50 {seconds[100]:.1f} s, p99 {seconds[198]:.1f} s"
