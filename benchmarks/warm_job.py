"""
What a job costs a warm worker: a whole job of this app beside the bare model call through OpenAI's own
client, both in processes that stay, in blocks that take turns.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from benchmarks.figures import median, percentile, spread, table
from benchmarks.stage import RunFailed, open_stage
from local.paths import PROJECT

CUSTOMERS = 200
ROUNDS = 5
_SIDES = {"this app, whole job": "benchmarks.warm_ours", "openai, bare call": "benchmarks.warm_client"}
_OURS, _PEER = _SIDES
_SCENES: tuple[dict[str, int], ...] = (
    {"count": 40, "in_flight": 1, "customers": 1},
    {"count": 250, "in_flight": 32, "customers": 1},
    {"count": 250, "in_flight": 32, "customers": CUSTOMERS},
)
_LINE_LIMIT = 1 << 20


class Side:
    """A process that runs blocks on order."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    async def order(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to an order. Raises RunFailed where the process has ended."""
        assert self._child.stdin is not None  # noqa: S101  # a pipe, as `_open_side` has asked for
        self._child.stdin.write(json.dumps(order).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        """The next answer. Raises RunFailed where the process has ended."""
        assert self._child.stdout is not None  # noqa: S101  # as above
        line = await asyncio.wait_for(self._child.stdout.readline(), 60)
        if not line:
            raise RunFailed("A measured process ended; what it said stands above.")
        said: dict[str, Any] = json.loads(line)
        return said


async def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """The figures of one run. Raises RunFailed, NotInstalled, ProcessFailed."""
    async with contextlib.AsyncExitStack() as parts:
        stage = await parts.enter_async_context(open_stage(CUSTOMERS))
        sides = {
            name: await parts.enter_async_context(_open_side(module, stage.environment))
            for name, module in _SIDES.items()
        }
        scenes = []
        for scene in _SCENES:
            blocks: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
            for _ in range(rounds):
                for name, side in sides.items():
                    blocks[name].append(await side.order(scene))
            scenes.append(_summary(scene, blocks))
        inside = await sides[_OURS].order({"extras": True})
    return {"rounds": rounds, "scenes": scenes, "inside": inside}


def report(figures: Mapping[str, Any]) -> str:
    """The figures for people."""
    head = [
        "in flight, customers",
        "side",
        "CPU ms",
        "(range)",
        "p50 ms",
        "p99 ms",
        "a second",
        "MB",
        "CPU ratio",
    ]
    rows = [
        [
            f"{scene['in_flight']}, {scene['customers']}",
            name,
            f"{side['cpu_ms']:.2f}",
            side["cpu_range"],
            f"{side['p50_ms']:.0f}",
            f"{side['p99_ms']:.0f}",
            f"{side['per_s']:.0f}",
            f"{side['memory_mb']:.0f}",
            f"{scene['cpu_ratio']:.2f}" if name == _OURS else "",
        ]
        for scene in figures["scenes"]
        for name, side in scene["sides"].items()
    ]
    inside = figures["inside"]
    requests = ", ".join(f"{count:g} {kind}" for kind, count in inside["requests_per_job"].items())
    steps = ", ".join(f"{name} {value:.2f}" for name, value in inside["steps_cpu_ms"].items())
    return "\n".join(
        [
            f"Warm job, medians of {figures['rounds']} blocks each, in turn",
            "",
            table(head, rows, texts=2),
            "",
            f"{_OURS}: to Storage and Key Vault {requests}",
            f"{_OURS}, steps alone, one at a time, CPU ms: {steps}",
        ]
    )


@contextlib.asynccontextmanager
async def _open_side(module: str, environment: Mapping[str, str]) -> AsyncIterator[Side]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        env=dict(environment),
        cwd=PROJECT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_LIMIT,
    )
    try:
        side = Side(child)
        await side.answer()  # it is loaded
        yield side
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def _summary(scene: Mapping[str, int], blocks: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    cpu = {name: [block["cpu_s"] * 1000 / scene["count"] for block in done] for name, done in blocks.items()}
    sides = {}
    for name, done in blocks.items():
        latencies = [seconds * 1000 for block in done for seconds in block["latencies_s"]]
        sides[name] = {
            "cpu_ms": median(cpu[name]),
            "cpu_range": spread(cpu[name]),
            "p50_ms": percentile(latencies, 0.5),
            "p99_ms": percentile(latencies, 0.99),
            "per_s": median(scene["count"] / block["wall_s"] for block in done),
            "memory_mb": max(block["memory_mb"] for block in done),
        }
    # Round by round: what slowed one round down slowed both sides.
    ratio = median(ours / peer for ours, peer in zip(cpu[_OURS], cpu[_PEER], strict=True))
    return {**scene, "sides": sides, "cpu_ratio": ratio}
