"""
The cost of a job on a warm worker: a whole job of this app beside the bare model call of OpenAI's own client, both in
long-running processes, in alternating blocks.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from benchmarks.environment import RunFailed, open_environment
from benchmarks.figures import median, percentile, spread, table
from local.paths import PROJECT

CUSTOMERS = 200
ROUNDS = 5
_SIDES = {"this app, whole job": "benchmarks.app_side", "openai, bare call": "benchmarks.peer_side"}
_OURS, _PEER = _SIDES
_SCENARIOS: tuple[dict[str, int], ...] = (
    {"count": 40, "in_flight": 1, "customers": 1},
    {"count": 250, "in_flight": 32, "customers": 1},
    {"count": 250, "in_flight": 32, "customers": CUSTOMERS},
)
_LINE_LIMIT = 1 << 20


class Side:
    """A process that runs blocks on request."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    async def request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request. Returns the response; raises RunFailed if the process has ended."""
        assert self._child.stdin is not None  # noqa: S101 -- `_open_side` makes it a pipe
        self._child.stdin.write(json.dumps(request).encode() + b"\n")
        return await self.response()

    async def response(self) -> dict[str, Any]:
        """The next response. Raises RunFailed if the process has ended."""
        assert self._child.stdout is not None  # noqa: S101 -- `_open_side` makes it a pipe
        line = await asyncio.wait_for(self._child.stdout.readline(), 60)
        if not line:
            raise RunFailed("A measured process ended. Its output is above.")
        response: dict[str, Any] = json.loads(line)
        return response


async def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """The figures of a run. Raises RunFailed, NotInstalled, ProcessFailed."""
    async with contextlib.AsyncExitStack() as parts:
        environment = await parts.enter_async_context(open_environment(CUSTOMERS))
        sides = {
            name: await parts.enter_async_context(_open_side(module, environment)) for name, module in _SIDES.items()
        }
        scenarios = []
        for scenario in _SCENARIOS:
            blocks: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
            for _ in range(rounds):
                for name, side in sides.items():
                    blocks[name].append(await side.request(scenario))
            scenarios.append(_summary(scenario, blocks))
        inside = await sides[_OURS].request({"extras": True})
    return {"rounds": rounds, "scenarios": scenarios, "inside": inside}


def report(figures: Mapping[str, Any]) -> str:
    """The figures as text."""
    head = [
        "in flight, customers",
        "side",
        "CPU ms",
        "(range)",
        "p50 ms",
        "p99 ms",
        "own p50",
        "own p99",
        "per second",
        "MB",
        "CPU ratio",
    ]
    rows = [
        [
            f"{scenario['in_flight']}, {scenario['customers']}",
            name,
            f"{side['cpu_ms']:.2f}",
            side["cpu_range"],
            f"{side['p50_ms']:.0f}",
            f"{side['p99_ms']:.0f}",
            *(f"{side[name]:.0f}" if name in side else "" for name in ("own_p50_ms", "own_p99_ms")),
            f"{side['per_s']:.0f}",
            f"{side['memory_mb']:.0f}",
            f"{scenario['cpu_ratio']:.2f}" if name == _OURS else "",
        ]
        for scenario in figures["scenarios"]
        for name, side in scenario["sides"].items()
    ]
    inside = figures["inside"]
    requests = ", ".join(f"{count:g} {kind}" for kind, count in inside["requests_per_job"].items())
    steps = ", ".join(f"{name} {value:.2f}" for name, value in inside["steps_cpu_ms"].items())
    return "\n".join(
        [
            f"Warm job, medians of {figures['rounds']} alternating blocks each",
            "",
            table(head, rows, texts=2),
            "",
            f"{_OURS}, requests to Storage and Key Vault: {requests}",
            f"{_OURS}, parts by themselves, in sequence, CPU ms: {steps}",
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
        await side.response()  # it has loaded
        yield side
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def _summary(scenario: Mapping[str, int], blocks: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    cpu = {name: [block["cpu_s"] * 1000 / scenario["count"] for block in done] for name, done in blocks.items()}
    sides = {}
    for name, done in blocks.items():
        latencies = [seconds * 1000 for block in done for seconds in block["latencies_s"]]
        sides[name] = {
            "cpu_ms": median(cpu[name]),
            "cpu_range": spread(cpu[name]),
            "p50_ms": percentile(latencies, 0.5),
            "p99_ms": percentile(latencies, 0.99),
            **_own_time([own_ms for block in done for own_ms in block["own_ms"]]),
            "per_s": median(scenario["count"] / block["wall_s"] for block in done),
            "memory_mb": max(block["memory_mb"] for block in done),
        }
    # For each round: what slows a round down slows both sides.
    ratio = median(ours / peer for ours, peer in zip(cpu[_OURS], cpu[_PEER], strict=True))
    return {**scenario, "sides": sides, "cpu_ratio": ratio}


def _own_time(own_ms: Sequence[float]) -> dict[str, float]:
    """Percentiles of the jobs' `overhead_ms`; none for the peer."""
    return {f"own_p{p:.0f}_ms": percentile(own_ms, p / 100) for p in (50, 99)} if own_ms else {}
