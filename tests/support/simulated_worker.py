"""A worker, its host and its queue in simulated time: real admission, and no machine whose speed makes a difference."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import Throttled
from shared.jobs.admission import Limiter

HOST = json.loads((Path(__file__).parents[2] / "host.json").read_text(encoding="utf-8"))["extensions"]["queues"]
CPU_S = 0.0025
"""Of the worker's one core, for a message that is run or requeued."""
_PAUSES_S = (0.1, 0.2, 0.4, 0.8)
"""Of a host that finds an empty queue; then its `maxPollingInterval`."""


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer when there is nothing else to do."""

    def __init__(self) -> None:
        super().__init__()
        self._simulated = 0.0

    def time(self) -> float:
        """Return the simulated time."""
        return self._simulated

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self._simulated = max(self._simulated, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def simulate(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` in simulated time."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        runner.run(work)


@dataclass(eq=False)  # one is found in the queue by itself
class SimulatedJob:
    """A message: its customer, what its call takes, and when its result came."""

    customer: str
    call_s: float
    visible_at: float = 0
    sent_at: float = 0
    ended_at: float | None = None

    @property
    def seconds(self) -> float:
        """Return the seconds from its sending to its result."""
        assert self.ended_at is not None
        return self.ended_at - self.sent_at


@dataclass
class SimulatedWorker:
    """A queue with a host and a worker. The host fetches as host.json says (see `local.host.queue_listener`)."""

    queue: list[SimulatedJob] = field(default_factory=list)
    requeued: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(1))

    def __post_init__(self) -> None:
        self.limiter = Limiter(clock=self.now)
        self.cpu = asyncio.Lock()
        self.running = set[asyncio.Task[None]]()

    def now(self) -> float:
        """Return the simulated time."""
        return asyncio.get_running_loop().time()

    def send(self, *jobs: SimulatedJob) -> None:
        """Send jobs."""
        for job in jobs:
            job.sent_at = job.visible_at = self.now()
        self.queue += jobs

    async def until_empty(self) -> None:
        """Run the host until every job has a result."""
        pauses = 0
        while self.queue or self.running:
            visible = [job for job in self.queue if job.visible_at <= self.now()][: HOST["batchSize"]]
            for job in visible:
                self.queue.remove(job)
                task = asyncio.create_task(self.process(job))
                self.running.add(task)
                task.add_done_callback(self.running.discard)
            pauses = 0 if visible else pauses + 1
            longest_s = float(HOST["maxPollingInterval"].rpartition(":")[2])
            await asyncio.sleep(0.01 if visible else min([*_PAUSES_S, longest_s][min(pauses, 5) - 1], longest_s))
            while len(self.running) > HOST["newBatchThreshold"]:
                await asyncio.wait(self.running, return_when=asyncio.FIRST_COMPLETED)

    async def process(self, job: SimulatedJob) -> None:
        """Run a job or requeue it, as `Worker.process` does."""
        async with self.cpu:
            await asyncio.sleep(CPU_S / 2)
        await self.limiter.wait_for_room(job.customer, "default")
        try:
            with self.limiter.admit(job.customer, "default"):
                async with self.limiter.of(job.customer, "default").calls:
                    await asyncio.sleep(job.call_s)
        except Throttled as throttled:
            self.requeued += 1
            async with self.cpu:
                await asyncio.sleep(CPU_S / 2)
            job.visible_at = self.now() + math.ceil(throttled.delay_s * self.chance.uniform(1, 1.1))
            self.queue.append(job)
        else:
            async with self.cpu:
                await asyncio.sleep(CPU_S / 2)
            job.ended_at = self.now()
