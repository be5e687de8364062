"""A worker that runs the jobs in a harness's queue, as the host's trigger does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from shared.errors import JobError
from tests.support.harness import Harness


@contextlib.asynccontextmanager
async def queue_worker(harness: Harness) -> AsyncIterator[None]:
    """A worker that runs queued jobs until the block ends, and completes the last one: nobody else would."""
    stopped = asyncio.Event()
    queue = harness.environment["JOBS_QUEUE"]

    async def work() -> None:
        while not stopped.is_set():
            for body in await harness.messages(queue):
                try:
                    await harness.deliver(body)
                except JobError:
                    await harness.services.queues.send(queue, body)
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        try:
            yield
        finally:
            stopped.set()
