"""
What one customer's backlog costs a worker, and what it costs the others: how often its messages are requeued before
they run, and how long other customers' jobs wait behind them.

The time is simulated, the admission is the app's. CPU takes time on each worker's one core: `RUN_S` for a job,
`REQUEUED_S` for a message that is requeued (`warm_job` measures both).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.figures import table
from shared.connections.connection import DEFAULT_CONCURRENCY
from shared.errors import Throttled
from shared.jobs.admission import Limiter
from tests.support.simulated_worker import HOST, simulate

JOBS = 20_000
RUN_S, REQUEUED_S = 0.0016, 0.0004
_CALL_S = 0.3
_WORKERS = (1, 10)
_QUIET_EVERY_S = 20.0
_POLL_S, _FETCH_S = 0.5, 0.01
_HEAVY = "heavy"


async def measure(jobs: int = JOBS) -> dict[str, Any]:
    """The figures, for one worker and for ten."""
    return {"jobs": jobs, "sides": [await asyncio.to_thread(_run, jobs, workers) for workers in _WORKERS]}


def report(figures: Mapping[str, Any]) -> str:
    """The figures as text."""
    head = [
        "workers",
        "backlog s",
        "of the shortest",
        "requeued a job",
        "CPU for that",
        "first other s",
        "later others s",
    ]
    rows = [
        [
            str(side["workers"]),
            f"{side['backlog_s']:.0f}",
            f"{side['backlog_s'] / side['shortest_s']:.2f}",
            f"{side['requeued']:.1f}",
            f"{side['requeued_cpu']:.1%}",
            f"{side['first_s']:.1f}",
            f"{side['later_s']:.1f}",
        ]
        for side in figures["sides"]
    ]
    return "\n".join([f"{figures['jobs']} jobs of {_CALL_S} s of one customer", "", table(head, rows, texts=0)])


@dataclass
class _Backlog:
    """The queue of all workers, and what became of its jobs: (customer, when it was sent)."""

    left: int
    requeued: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    chance: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311  # not a secret
    _queue: list[tuple[float, int, tuple[str, float]]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    def put(self, visible_at: float, job: tuple[str, float]) -> None:
        heapq.heappush(self._queue, (visible_at, next(self._order), job))

    def get(self) -> list[tuple[str, float]]:
        jobs = list[tuple[str, float]]()
        while self._queue and self._queue[0][0] <= _now() and len(jobs) < HOST["batchSize"]:
            jobs.append(heapq.heappop(self._queue)[2])
        return jobs

    async def work(self) -> None:
        """One worker and its host, until nothing is left."""
        limiter, core, running = Limiter(clock=_now), asyncio.Lock(), set[asyncio.Task[None]]()
        while self.left:
            jobs = self.get()
            for job in jobs:
                task = asyncio.create_task(self._process(job, limiter, core))
                running.add(task)
                task.add_done_callback(running.discard)
            await asyncio.sleep(_FETCH_S if jobs else _POLL_S)
            while len(running) > HOST["newBatchThreshold"]:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)

    async def send_others(self) -> None:
        """Send a job of another customer now and then."""
        for number in itertools.count():
            self.left += 1
            self.put(_now(), (f"quiet-{number % 3}", _now()))
            await asyncio.sleep(_QUIET_EVERY_S)

    async def _process(self, job: tuple[str, float], limiter: Limiter, core: asyncio.Lock) -> None:
        customer, sent_at = job
        await _use(core, REQUEUED_S / 2)
        await limiter.wait_for_room(customer, "default")
        try:
            with limiter.admit(customer, "default") as limit:
                await _use(core, RUN_S / 2)
                async with limit.calls:
                    await asyncio.sleep(_CALL_S)
                await _use(core, RUN_S / 2)
        except Throttled as throttled:
            self.requeued += 1
            await _use(core, REQUEUED_S / 2)
            self.put(_now() + math.ceil(throttled.delay_s * self.chance.uniform(1, 1.1)), job)
        else:
            self.left -= 1
            self.seconds.setdefault(customer, []).append(_now() - sent_at)


def _run(jobs: int, workers: int) -> dict[str, Any]:
    random.seed(2)  # the limiter spreads long delays
    backlog = _Backlog(jobs)

    async def run() -> None:
        for _ in range(jobs):
            backlog.put(0, (_HEAVY, 0))
        others = asyncio.create_task(backlog.send_others())
        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(backlog.work())
        others.cancel()

    simulate(run())
    backlog_s = max(backlog.seconds.pop(_HEAVY))
    first_s, *later = (seconds - _CALL_S for seconds in itertools.chain(*backlog.seconds.values()))
    return {
        "workers": workers,
        "backlog_s": backlog_s,
        "shortest_s": jobs / workers / DEFAULT_CONCURRENCY * _CALL_S,
        "requeued": backlog.requeued / jobs,
        "requeued_cpu": backlog.requeued * REQUEUED_S / workers / backlog_s,
        "first_s": first_s,
        "later_s": max(later, default=0.0),
    }


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _use(core: asyncio.Lock, seconds: float) -> None:
    async with core:
        await asyncio.sleep(seconds)
