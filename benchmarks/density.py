"""
How many jobs one worker holds that wait for a slow endpoint: memory, latency and CPU from 64 to 1,000 in flight, and
whether the memory stays flat.

Each level has a worker of its own. Its customers have an address each, over TLS, which is what costs memory. Jobs begin
one after the other, not all at once.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from benchmarks.environment import open_environment
from benchmarks.figures import median, percentile, slope, table
from benchmarks.process import resident_mb
from benchmarks.side import Side, open_side

LEVELS = (64, 128, 256, 500, 1000)
LONG_LEVEL = 500
"""Jobs in flight in the long run."""
DELAY_S = 10.0
"""What the endpoint takes."""
MINUTES = 3
_CUSTOMERS = 100
_SIDE = "benchmarks.app_side"
_WARM_SHARE = 0.2
"""Of a long run, before its memory counts: pools and caches fill."""
_SAMPLED_S = 0.25


async def measure(
    minutes: float = MINUTES, *, levels: Sequence[int] = LEVELS, long_level: int = LONG_LEVEL, delay_s: float = DELAY_S
) -> dict[str, Any]:
    """The figures of a run. Raises RunFailed, NotInstalled, ProcessFailed."""
    customers = min(_CUSTOMERS, max(levels))
    async with open_environment(customers, delay_s=delay_s, tls=True) as environment:
        curve = []
        for level in levels:
            async with open_side(_SIDE, environment, "--jobs", str(level)) as side:
                curve.append(await _level(side, level, customers, delay_s))
        async with open_side(_SIDE, environment, "--jobs", str(long_level)) as side:
            long = await _long_run(side, long_level, customers, delay_s, minutes * 60)
    return {"delay_s": delay_s, "customers": customers, "levels": curve, "long": long}


def report(figures: Mapping[str, Any]) -> str:
    """The figures as text."""
    head = ["in flight", "MB", "peak MB", "p50 ms", "p99 ms", "own p50", "own p99", "per second", "CPU ms"]
    rows = [
        [
            str(level["in_flight"]),
            f"{level['memory_mb']:.0f}",
            f"{level['peak_mb']:.0f}",
            *(f"{level[name]:.0f}" for name in ("p50_ms", "p99_ms", "own_p50_ms", "own_p99_ms")),
            f"{level['per_s']:.1f}",
            f"{level['cpu_ms']:.2f}",
        ]
        for level in figures["levels"]
    ]
    long = figures["long"]
    head_line = (
        f"Jobs of {figures['customers']} customers on one worker. The endpoint takes {figures['delay_s']:g} s, over "
        "TLS; p50 and p99 are beyond that"
    )
    last_line = (
        f"{long['in_flight']} in flight for {long['seconds'] / 60:.0f} minutes, {long['jobs']:,} jobs "
        f"({long['requeued']} requeued): "
        f"{long['first_mb']:.0f} MB after the first fifth, {long['last_mb']:.0f} MB at the end, "
        f"peak {long['peak_mb']:.0f} MB, {long['mb_per_hour']:+.1f} MB an hour, {long['cpu_ms']:.2f} ms of CPU a job"
    )
    return "\n".join([head_line, "", table(head, rows, texts=0), "", last_line])


async def _level(side: Side, in_flight: int, customers: int, delay_s: float) -> dict[str, Any]:
    async with _sampled(side.pid) as samples:
        block = await _block(side, 3 * in_flight, in_flight, customers, delay_s)
    beyond_ms = [(seconds - delay_s) * 1000 for seconds in block["latencies_s"]]
    return {
        "in_flight": in_flight,
        "memory_mb": median(mb for _, mb in samples[len(samples) // 2 :]),
        "peak_mb": block["memory_mb"],
        "p50_ms": percentile(beyond_ms, 0.5),
        "p99_ms": percentile(beyond_ms, 0.99),
        "own_p50_ms": percentile(block["own_ms"], 0.5),
        "own_p99_ms": percentile(block["own_ms"], 0.99),
        "per_s": in_flight * len(beyond_ms) / sum(block["latencies_s"]),
        "cpu_ms": block["cpu_s"] * 1000 / len(beyond_ms),
    }


async def _long_run(side: Side, in_flight: int, customers: int, delay_s: float, seconds: float) -> dict[str, Any]:
    clock = asyncio.get_running_loop().time
    jobs, requeued, cpu_s, start, count = 0, 0, 0.0, clock(), 5 * in_flight
    async with _sampled(side.pid) as samples:
        while not jobs or clock() - start < seconds:
            block = await _block(side, count, in_flight, customers, delay_s)
            jobs, cpu_s = jobs + count, cpu_s + block["cpu_s"]
            requeued += count - len(block["own_ms"])
    counted = samples[int(len(samples) * _WARM_SHARE) :]
    tenth = max(len(counted) // 10, 1)
    return {
        "in_flight": in_flight,
        "seconds": clock() - start,
        "jobs": jobs,
        "requeued": requeued,
        "first_mb": median(mb for _, mb in counted[:tenth]),
        "last_mb": median(mb for _, mb in counted[-tenth:]),
        "peak_mb": block["memory_mb"],
        "mb_per_hour": slope(counted) * 3600,
        "cpu_ms": cpu_s * 1000 / jobs,
    }


async def _block(side: Side, count: int, in_flight: int, customers: int, delay_s: float) -> dict[str, Any]:
    within_s = 60 + (count / in_flight + 4) * delay_s * 2
    scenario = {"count": count, "in_flight": in_flight, "customers": customers, "spread_s": delay_s}
    return await side.request(scenario, within_s=within_s)


@contextlib.asynccontextmanager
async def _sampled(pid: int) -> AsyncIterator[list[tuple[float, float]]]:
    """The memory of a process, sampled while the block runs: seconds and MB."""
    samples: list[tuple[float, float]] = []
    sampler = asyncio.create_task(_sample(pid, samples))
    try:
        yield samples
    finally:
        sampler.cancel()


async def _sample(pid: int, samples: list[tuple[float, float]]) -> None:
    while True:
        samples.append((asyncio.get_running_loop().time(), resident_mb(pid)))
        await asyncio.sleep(_SAMPLED_S)
