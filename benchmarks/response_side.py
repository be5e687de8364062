"""
This app's side in `responses`: jobs of `respond` on Microsoft's worker engine, and the messages that look at what they
wait for, which are taken from Azurite as soon as they are visible.

    python -m benchmarks.response_side
"""

import asyncio
import json
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from azure.storage.queue.aio import QueueClient

from benchmarks.batch_side import Run, take
from benchmarks.environment import BATCHES_QUEUE, JOBS_QUEUE
from benchmarks.messages import PROMPT, customer
from benchmarks.process import log_as_a_worker, resident_mb
from local.host.worker import Worker
from local.paths import PROJECT

_IN_FLIGHT = 16
_SAMPLED_S = 0.25


async def run() -> None:
    """Load the app and serve requests: `{"jobs", "customers", "seconds"}`."""
    log_as_a_worker()
    worker = await Worker.load(PROJECT)
    print("{}", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await _measure(Run(worker), **json.loads(line))), flush=True)


async def _measure(run: Run, jobs: int, customers: int, seconds: float) -> dict[str, Any]:
    waiting = [_message(number % customers) for number in range(jobs)]
    turns, messages = 0, 0
    async with _sampled() as samples:
        ends_at = float("inf")
        while time.monotonic() < ends_at:
            if waiting:
                part, waiting = waiting[: 8 * _IN_FLIGHT], waiting[8 * _IN_FLIGHT :]
                await run.invoke("run_job", part, _IN_FLIGHT)
            elif ends_at == float("inf"):
                ends_at = time.monotonic() + seconds
            messages = max(messages, await _length(JOBS_QUEUE) + await _length(BATCHES_QUEUE))
            due = await take(BATCHES_QUEUE)
            await run.invoke("run_batch", due, _IN_FLIGHT)
            turns += len(due)
            await run.invoke("run_job", await take(JOBS_QUEUE), _IN_FLIGHT)
            await asyncio.sleep(_SAMPLED_S)
    return {
        "memory_mb": resident_mb(os.getpid()),
        "peak_mb": max(samples),
        "waiting": await _waiting(customers),
        "turns": turns,
        "messages": messages,
    }


async def _waiting(customers: int) -> int:
    from shared.services import services  # noqa: PLC0415  # the app has imported it already

    rows = [
        row.values for number in range(customers) async for row in services().table.scan(customer(number), "j_", "j`")
    ]
    return sum(row["state"] == "waiting" for row in rows)


async def _length(name: str) -> int:
    async with QueueClient.from_connection_string(os.environ["JobStorage"], name) as queue:  # noqa: SIM112
        return (await queue.get_queue_properties()).approximate_message_count or 0


@asynccontextmanager
async def _sampled() -> AsyncIterator[list[float]]:
    """The memory of this process, sampled while the block runs, in MB."""
    samples = [resident_mb(os.getpid())]

    async def sample() -> None:
        while True:
            samples.append(resident_mb(os.getpid()))
            await asyncio.sleep(_SAMPLED_S)

    sampler = asyncio.create_task(sample())
    try:
        yield samples
    finally:
        sampler.cancel()


def _message(number: int) -> bytes:
    job = {"customer": customer(number), "action": "respond", "input": {"input": f"{PROMPT} {uuid.uuid4()}"}}
    options = {"deadline_s": 7200, "processing": "standard"}
    return json.dumps({**job, "connection": "patient", "options": options}).encode()


if __name__ == "__main__":
    asyncio.run(run())
