"""
Blocks of equal work in a process that stays: how a warm side of a benchmark is driven.

Each line on standard input orders a block, as JSON: `{"count", "in_flight", "customers"}`. Each is
answered with a line: the CPU seconds of the process, the seconds on the clock, each latency, and the
greatest memory so far.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.process import peak_memory_mb

Work = Callable[[int], Awaitable[None]]
"""Does one job for the customer of that number. Raises where it does not succeed."""


async def serve(work: Work, extras: Callable[[], Awaitable[dict[str, Any]]] | None = None) -> None:
    """Runs blocks until the input ends; `extras` adds to the answer to the order `{"extras": true}`."""
    _say({})
    # In a thread: the loop must go on noticing connections that a server has closed.
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        if "extras" in order:
            _say(await extras() if extras else {})
        else:
            _say(await _block(work, **order))


async def cpu_ms(count: int, step: Callable[[], Awaitable[object]]) -> float:
    """The CPU milliseconds of one `step`, over `count` of them one after the other."""
    await step()
    before = time.process_time()
    for _ in range(count):
        await step()
    return (time.process_time() - before) * 1000 / count


async def _block(work: Work, *, count: int, in_flight: int, customers: int) -> dict[str, Any]:
    # Not counted: every customer's connection is read and opened, and as many sockets as are needed.
    await _spread(work, max(customers, in_flight), in_flight, customers)
    cpu, began = time.process_time(), time.perf_counter()
    latencies = await _spread(work, count, in_flight, customers)
    return {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - began,
        "latencies_s": latencies,
        "memory_mb": peak_memory_mb(),
    }


async def _spread(work: Work, count: int, in_flight: int, customers: int) -> list[float]:
    numbers = iter(range(count))
    latencies = []

    async def line() -> None:
        for number in numbers:
            began = time.perf_counter()
            await work(number % customers)
            latencies.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(line())
    return latencies


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)
