"""
The cost of a job on a warm worker: a whole job of this app beside the bare model call of OpenAI's own client, both in
long-running processes, in alternating blocks.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.environment import open_environment
from benchmarks.figures import median, percentile, spread, table
from benchmarks.messages import customer
from benchmarks.side import Side, open_side

CUSTOMERS = 200
ROUNDS = 5
_BUDGETED = CUSTOMERS
"""The number of the customer that has a budget."""
_SIDES = {
    "this app, whole job": ("benchmarks.app_side", "--budgeted", customer(_BUDGETED)),
    "openai, bare call": ("benchmarks.peer_side",),
}
_OURS, _PEER = _SIDES
_SCENARIOS: tuple[dict[str, int], ...] = (
    {"count": 40, "in_flight": 1, "customers": 1},
    {"count": 250, "in_flight": 32, "customers": 1},
    {"count": 250, "in_flight": 32, "customers": CUSTOMERS},
)


async def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """The figures of a run. Raises RunFailed, NotInstalled, ProcessFailed."""
    async with contextlib.AsyncExitStack() as parts:
        environment = await parts.enter_async_context(open_environment(CUSTOMERS + 1))
        sides = {
            name: await parts.enter_async_context(open_side(module, environment, *arguments))
            for name, (module, *arguments) in _SIDES.items()
        }
        scenarios = []
        for scenario in _SCENARIOS:
            blocks: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
            for _ in range(rounds):
                for name, side in sides.items():
                    blocks[name].append(await side.request(scenario))
            scenarios.append(_summary(scenario, blocks))
        budgeted = [await _budgeted(sides[_OURS], scenario, rounds) for scenario in _SCENARIOS[:2]]
        inside = await sides[_OURS].request({"extras": True})
    return {"rounds": rounds, "scenarios": scenarios, "budgeted": budgeted, "inside": inside}


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
            *(
                f"{_OURS}, {each['in_flight']} in flight: with a budget {each['budgeted_cpu_ms']:.2f} ms of CPU, "
                f"without {each['cpu_ms']:.2f}, ratio {each['cpu_ratio']:.2f}"
                for each in figures["budgeted"]
            ),
            f"{_OURS}, requests to Storage and Key Vault: {requests}",
            f"{_OURS}, parts by themselves, in sequence, CPU ms: {steps}",
        ]
    )


async def _budgeted(side: Side, scenario: Mapping[str, int], rounds: int) -> dict[str, Any]:
    """The CPU of a job of a customer without a budget, and with one, in alternating blocks."""
    cpu: dict[int, list[float]] = {0: [], _BUDGETED: []}
    for _ in range(rounds):
        for first, blocks in cpu.items():
            block = await side.request({**scenario, "first": first})
            blocks.append(block["cpu_s"] * 1000 / scenario["count"])
    ratio = median(with_one / without for without, with_one in zip(cpu[0], cpu[_BUDGETED], strict=True))
    return {
        "in_flight": scenario["in_flight"],
        "cpu_ms": median(cpu[0]),
        "budgeted_cpu_ms": median(cpu[_BUDGETED]),
        "cpu_ratio": ratio,
    }


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
