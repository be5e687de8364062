"""
Blocks of equal work in a long-running process, for the warm sides of a benchmark.

Each line of standard input requests a block, as JSON: `{"count", "in_flight", "customers"}`; `first`, the number of the
first customer, if that is not 0; `spread_s`, the time within which the first jobs begin. The response is a line: the
CPU seconds of the process, the wall seconds, each latency and each job's own time, and the peak memory so far.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.process import peak_memory_mb

Work = Callable[[int], Awaitable[Any]]
"""Runs one job for the customer with this number. Raises if it fails."""
Prepare = Callable[[Sequence[int]], None]
"""Makes what the jobs of these customers begin with, such as messages, before a block is measured."""
Read = Callable[[Any], float | None]
"""Returns a job's `overhead_ms`, if it has one, from what its work returned, after a block. Raises if it failed."""
Extras = Callable[[], Awaitable[dict[str, Any]]]
"""Responds to the request `{"extras": true}`."""


async def serve(
    work: Work, extras: Extras | None = None, *, prepare: Prepare | None = None, read: Read | None = None
) -> None:
    """Run blocks until the input ends."""
    _respond({})
    # In a thread, so that the event loop notices connections that a server has closed.
    while line := await asyncio.to_thread(sys.stdin.readline):
        request = json.loads(line)
        if "extras" in request:
            _respond(await extras() if extras else {})
        else:
            _respond(await _block(work, prepare, read, **request))


async def cpu_ms(count: int, step: Callable[[], Awaitable[object]]) -> float:
    """The mean CPU milliseconds of a `step` that runs `count` times in sequence."""
    await step()
    before = time.process_time()
    for _ in range(count):
        await step()
    return (time.process_time() - before) * 1000 / count


async def spread(
    work: Work, count: int, in_flight: int, customers: int, spread_s: float = 0
) -> tuple[list[float], list[Any]]:
    """
    Run `count` jobs of the customers in turn, `in_flight` at a time; the first ones begin within `spread_s`. Returns
    their latencies, and what they returned.
    """
    numbers = iter(range(count))
    latencies, ended = [], []

    async def worker(begins_s: float) -> None:
        await asyncio.sleep(begins_s)
        for number in numbers:
            start = time.perf_counter()
            ended.append(await work(number % customers))
            latencies.append(time.perf_counter() - start)

    async with asyncio.TaskGroup() as group:
        for number in range(in_flight):
            group.create_task(worker(spread_s * number / in_flight))
    return latencies, ended


async def _block(
    work: Work,
    prepare: Prepare | None,
    read: Read | None,
    *,
    count: int,
    in_flight: int,
    customers: int,
    first: int = 0,
    spread_s: float = 0,
) -> dict[str, Any]:
    async def run(jobs: int) -> dict[str, Any]:
        if prepare is not None:
            prepare([first + number % customers for number in range(jobs)])
        cpu, start = time.process_time(), time.perf_counter()
        latencies, ended = await spread(lambda number: work(first + number), jobs, in_flight, customers, spread_s)
        figures = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - start, "latencies_s": latencies}
        own_ms = [] if read is None else [own for own in map(read, ended) if own is not None]
        return {**figures, "own_ms": own_ms}

    await run(max(customers, in_flight))  # not counted: this reads every customer's connection and opens the sockets
    return {
        **await run(count),
        "memory_mb": peak_memory_mb(),
    }


def _respond(response: dict[str, Any]) -> None:
    print(json.dumps(response), flush=True)
