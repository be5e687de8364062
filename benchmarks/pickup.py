"""
How long a job waits that is sent to an idle queue: from its sending to its start, on the local host, which polls as
Azure's does.

The pauses between messages are random, and long enough for the host to have slowed down to its `maxPollingInterval`.
"""

import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from azure.storage.queue.aio import QueueClient

from benchmarks.environment import JOBS_QUEUE, RESULTS_QUEUE, open_environment
from benchmarks.figures import median, percentile
from benchmarks.messages import message, result_of
from local.host.host_json import load_host_json
from local.paths import PROJECT
from local.stack.processes import running

MESSAGES = 40
_PAUSES_S = (3.0, 5.0)
_RESULTS_S = 60


async def measure(messages: int = MESSAGES, *, pauses_s: Sequence[float] = _PAUSES_S) -> dict[str, Any]:
    """The figures of a run. Raises NotInstalled, ProcessFailed, TimeoutError if a job has no result."""
    host = [sys.executable, "-m", "local.host", "--app", str(PROJECT)]
    sent_at: dict[str, float] = {}
    async with contextlib.AsyncExitStack() as parts:
        environment = await parts.enter_async_context(open_environment(1))
        jobs, results = [
            await parts.enter_async_context(QueueClient.from_connection_string(environment["JobStorage"], name))
            for name in (JOBS_QUEUE, RESULTS_QUEUE)
        ]
        await parts.enter_async_context(running("Host", host, ready=["^host ready"], env=environment, cwd=PROJECT))
        for number in range(messages + 1):
            await asyncio.sleep(random.uniform(*pauses_s))  # noqa: S311  # not a secret
            job = json.loads(message(0)) | {"job_id": f"pickup-{number}"}
            sent_at[job["job_id"]] = time.time()
            await jobs.send_message(json.dumps(job))
        started_at = await _starts(results, len(sent_at))
    del sent_at["pickup-0"]  # its worker was cold
    return {
        "messages": messages,
        "max_polling_s": load_host_json(PROJECT / "host.json", {}).queues.max_polling_interval,
        "waits_s": sorted(started_at[job_id] - at for job_id, at in sent_at.items()),
    }


def report(figures: Mapping[str, Any]) -> str:
    """The figures as text."""
    waits = figures["waits_s"]
    return (
        f"Idle queue, {figures['messages']} messages, maxPollingInterval {figures['max_polling_s']:g} s: from sending "
        f"to start, median {median(waits):.2f} s, p90 {percentile(waits, 0.9):.2f} s, greatest {waits[-1]:.2f} s"
    )


async def _starts(results: QueueClient, count: int) -> dict[str, float]:
    """When the jobs started, by the time of their results."""
    started_at: dict[str, float] = {}
    async with asyncio.timeout(_RESULTS_S):
        while len(started_at) < count:
            async for received in results.receive_messages(messages_per_page=32):
                result = result_of(received.content.encode())
                started_at[result["job_id"]] = datetime.fromisoformat(result["started_at"]).timestamp()
            await asyncio.sleep(0.1)
    return started_at
