"""How fast a customer's backlog passes a worker, and how little another customer's job behind it notices."""

from __future__ import annotations

import asyncio

import pytest

from shared.connections.connection import DEFAULT_CONCURRENCY
from shared.webhooks.signed_post import TIMEOUT_S
from tests.support.simulated_worker import CPU_S, SimulatedJob, SimulatedWorker, simulate


@pytest.mark.parametrize(
    ("count", "call_s", "customers"),
    [
        *((400, 0.3, 1), (48, 0.3, 1)),
        *(
            pytest.param(*row, marks=pytest.mark.long)
            for row in ((400, 3, 1), (100, 30, 1), (600, 2, 3), (2000, 2, 1), (2000, 0.3, 1))
        ),
    ],
)
def test_a_backlog_uses_its_whole_share_and_delays_nobody(count: int, call_s: float, customers: int):
    """
    A backlog takes 1.25 times as long as if all calls that its connection allows were always in flight, at most.
    The job of another customer, the last message of the queue, comes through in the time that the worker needs to read
    the messages before it: nothing else delays it, least of all what those jobs take.
    """
    worker = SimulatedWorker()
    heavy = [SimulatedJob(f"heavy-{number % customers}", call_s) for number in range(count)]
    quiet = SimulatedJob("quiet", call_s)

    async def run() -> None:
        worker.send(*heavy, quiet)
        await worker.until_empty()

    simulate(run())

    waves = -(-count // customers // DEFAULT_CONCURRENCY)
    backlog_s = max(job.seconds for job in heavy)
    assert backlog_s <= 1.25 * max(waves * call_s, count * CPU_S)
    assert quiet.seconds - call_s <= max(1, 1.25 * count * CPU_S)
    assert worker.requeued <= 4 * count


@pytest.mark.parametrize("is_beside_hanging", [False, True])
def test_a_callback_is_delivered_as_it_comes(is_beside_hanging: bool):
    """
    Callbacks are admitted as jobs are. One to a receiver that answers at once is delivered within two seconds, also
    while another customer's receiver lets very many run into their timeout.
    """
    worker = SimulatedWorker()
    hanging = [SimulatedJob("hanging", TIMEOUT_S) for _ in range(150)]
    quick = [SimulatedJob("quick", 0.03) for _ in range(100)]

    async def run() -> None:
        worker.send(*(hanging if is_beside_hanging else []))
        host = asyncio.create_task(worker.until_empty())
        for job in quick:  # as their jobs end, fifty a second
            worker.send(job)
            await asyncio.sleep(0.02)
        await host

    simulate(run())

    seconds = sorted(job.seconds for job in quick)
    assert seconds[len(seconds) * 99 // 100 - 1] <= 2
    assert seconds[len(seconds) // 2] <= 1
