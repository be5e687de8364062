"""What a job at the price of a batch costs its worker: requests to Storage, and calls of the app's functions."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

import pytest

from shared import clock
from tests.support.called_functions import profiled
from tests.support.patience import MINUTE, PatientApp, patient_app

JOBS = 20


class Cost(NamedTuple):
    """Of a part of all jobs' way."""

    requests: int
    """To the table and the queues."""
    calls: int


@pytest.fixture
async def at(client, monkeypatch) -> AsyncIterator[PatientApp]:
    """The patient_app."""
    async with patient_app(client, monkeypatch) as made:
        yield made


class Way:
    """The way of JOBS jobs, in its parts."""

    def __init__(self, app: PatientApp) -> None:
        self.app = app
        self.costs: dict[str, Cost] = {}
        self.calls: dict[str, Counter[str]] = {}

    async def run(self, part: str, queue: str, messages: list[tuple[str, bytes]]) -> None:
        """Process messages of a queue at once, as a part of the way."""
        app, sent = self.app, self._sent()
        before = app.memory.table.operations
        run: Callable[[bytes], Awaitable[None]] = {"jobs": app._run_job, "batches": app._run_batch}[queue]
        with profiled() as calls:
            await asyncio.gather(*(run(body) for _, body in messages))
        requests: int = app.memory.table.operations - before + self._sent() - sent
        own, (old_requests, old_calls) = self.calls.setdefault(part, Counter()), self.costs.get(part, Cost(0, 0))
        own.update(name for _, name in calls)
        self.costs[part] = Cost(old_requests + requests, old_calls + len(calls))

    def _sent(self) -> int:
        return sum(map(len, self.app.memory.queues.sent.values()))


async def go(app: PatientApp, jobs: int) -> Way:
    """Bring jobs of one customer from the queue to their results; the first one is not measured."""
    customer, way = app.customer(), Way(app)
    await app.finish([await app.send(customer)])
    for _ in range(jobs):
        await app.send(customer)
    await way.run("join", "jobs", app.take())
    woken: list[tuple[str, bytes]] = []
    while len(woken) < jobs:
        app.clock.advance(MINUTE)
        await app.provider.settle()
        await app.worker.services.schedule.send_due(clock.now())
        messages = app.take()
        woken += [each for each in messages if each[0] == "jobs"]
        if turns := [each for each in messages if each[0] == "batches"]:
            await way.run("batch", "batches", turns)
            woken += [each for each in app.take() if each[0] == "jobs"]
    await way.run("end", "jobs", woken)
    assert len(app.results) == 1 + jobs
    return way


async def test_a_patient_job_takes_few_requests_and_calls(at: PatientApp) -> None:
    """
    Of 20 jobs of one batch that come at once, each takes so many at most. A change that needs more of them is a reason
    to look for what it could do without.
    """
    way = await go(at, JOBS)
    limits = {"join": (0.3, 224), "batch": (2, 62), "end": (1.15, 345)}
    assert limits.keys() == way.costs.keys()
    for part, (requests, calls) in limits.items():
        cost = way.costs[part]
        assert round(cost.requests / JOBS, 2) <= requests, part
        assert round(cost.calls / JOBS) <= calls, (part, way.calls[part].most_common())
