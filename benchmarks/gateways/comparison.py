"""
This product beside LiteLLM's proxy, Portkey's gateway and OpenAI's bare client: jobs a second and core, and what each
has on record after it was killed in the middle (docs/gateways.md).

All talk to one endpoint, with the same prompts, and take turns. What can't be had on this machine is left out by name.
"""

import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import aiohttp

from benchmarks.environment import open_environment
from benchmarks.figures import median, percentile, table
from benchmarks.gateways import crashes, installs, litellm, portkey
from benchmarks.gateways.crashes import Journal
from benchmarks.gateways.proxy import Proxy
from benchmarks.messages import ENDPOINTS
from benchmarks.side import open_side
from local.stack.node import NotInstalled
from local.stack.processes import ProcessFailed

CUSTOMERS = 200
ROUNDS = 3
_OURS, _SDK, _LITELLM, _PORTKEY = "this product", "openai, bare client", "LiteLLM proxy", "Portkey gateway"
_TAGS = {_OURS: "ours", _LITELLM: "litellm", _PORTKEY: "portkey", _SDK: "sdk"}
_SCENARIOS: tuple[dict[str, int], ...] = (
    {"count": 300, "in_flight": 32, "customers": 1},
    {"count": 300, "in_flight": 32, "customers": CUSTOMERS},
)
_KILLED_CALLS = 400
_WITHOUT_PEERS = 4
"""Without peers there is nothing to compare: of so many calls, one is made."""
_NOTES = {
    _OURS: "whole jobs: queue message, ledger, usage record, result",
    _SDK: "the call alone, in the caller's own process: it does less",
}
_PEERS = {_LITELLM: litellm.start, _PORTKEY: portkey.start}
Block = Callable[[Mapping[str, int]], Awaitable[dict[str, Any]]]


async def measure(rounds: int = ROUNDS, *, peers: bool = True) -> dict[str, Any]:
    """The figures of a run; without `peers`, of this product and the bare client. Raises RunFailed, ProcessFailed."""
    async with contextlib.AsyncExitStack() as parts:
        environment = await parts.enter_async_context(open_environment(CUSTOMERS))
        urls = environment[ENDPOINTS].split(",")
        connector = aiohttp.TCPConnector(limit=0)
        http = await parts.enter_async_context(aiohttp.ClientSession(connector=connector))
        absent: dict[str, str] = {}
        running: dict[str, Proxy] = {}
        for name, start in _PEERS.items():
            try:
                running[name] = await parts.enter_async_context(_present(peers, start(http, urls)))
            except (installs.Absent, NotInstalled, ProcessFailed) as exc:
                absent[name] = str(exc)
        blocks = await _blocks(parts, environment, running)
        share = 1 if peers else _WITHOUT_PEERS
        chosen = [scenario | {"count": scenario["count"] // share} for scenario in _SCENARIOS]
        scenarios = [await _scenario(scenario, blocks, rounds) for scenario in chosen]

        async def journal() -> Mapping[str, str]:
            async with http.get(f"{urls[0].removesuffix('/openai/v1')}/journal") as response:
                entries: dict[str, str] = await response.json()
                return entries

        killed = await _killed(environment, running, journal, _KILLED_CALLS // share)
    notes = _NOTES | {name: f"{proxy.version}: {proxy.notes}" for name, proxy in running.items()}
    return {"rounds": rounds, "notes": notes, "absent": absent, "scenarios": scenarios, "killed": killed}


def report(figures: Mapping[str, Any]) -> str:
    """The figures as text."""
    head = ["in flight, customers", "side", "jobs/s and core", "ours / its", "p50 ms", "p99 ms", "per second", "MB"]
    rows = [
        [
            f"{scenario['in_flight']}, {scenario['customers']}",
            name,
            f"{side['per_core_s']:.0f}",
            f"{side['ratio']:.1f}",
            f"{side['p50_ms']:.0f}",
            f"{side['p99_ms']:.0f}",
            f"{side['per_s']:.0f}",
            f"{side['memory_mb']:.0f}",
        ]
        for scenario in figures["scenarios"]
        for name, side in scenario["sides"].items()
    ]
    columns = {
        "kills": "kills",
        "calls": "calls",
        "bought": "bought",
        "bought_twice": "bought twice",
        "recorded": "on record",
        "recorded_as_unanswered": "on record as unanswered",
        "unrecorded": "not on record",
        "without_answer": "without an answer",
    }
    killed = [[name, *(str(side[key]) for key in columns)] for name, side in figures["killed"].items()]
    return "\n".join(
        [
            f"Gateways, medians of {figures['rounds']} alternating blocks each",
            "",
            table(head, rows, texts=2),
            "",
            "Killed once in the middle, started again, and used until every call had its answer:",
            "",
            table(["side", *columns.values()], killed),
            "",
            *(f"{name}: {note}" for name, note in figures["notes"].items()),
            *(f"{name}: not measured: {reason}" for name, reason in figures["absent"].items()),
        ]
    )


@contextlib.asynccontextmanager
async def _present(peers: bool, peer: contextlib.AbstractAsyncContextManager[Proxy]) -> AsyncIterator[Proxy]:
    if not peers:
        raise installs.Absent("left out by --without-peers")
    if sys.platform != "linux":
        raise installs.Absent("what its processes use can be read on Linux alone")
    async with peer as proxy:
        yield proxy


async def _blocks(
    parts: contextlib.AsyncExitStack, environment: Mapping[str, str], running: Mapping[str, Proxy]
) -> dict[str, Block]:
    """What runs a block on each side. This product and the bare client run theirs in a process of their own."""
    modules = {_OURS: "benchmarks.app_side", _SDK: "benchmarks.peer_side"}
    sides = {name: await parts.enter_async_context(open_side(module, environment)) for name, module in modules.items()}

    def on(proxy: Proxy) -> Block:
        return lambda scenario: proxy.block(**scenario)

    return {
        _OURS: sides[_OURS].request,
        **{name: on(proxy) for name, proxy in running.items()},
        _SDK: sides[_SDK].request,
    }


async def _scenario(scenario: Mapping[str, int], blocks: Mapping[str, Block], rounds: int) -> dict[str, Any]:
    done: dict[str, list[dict[str, Any]]] = {name: [] for name in blocks}
    for _ in range(rounds):
        for name, block in blocks.items():
            done[name].append(await block(scenario))
    return {**scenario, "sides": {name: _summary(scenario, each, done[_OURS]) for name, each in done.items()}}


def _summary(
    scenario: Mapping[str, int], done: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    latencies = [seconds * 1000 for block in done for seconds in block["latencies_s"]]
    beside = [block["beside_s"] * 1000 / scenario["count"] for block in done if "beside_s" in block]
    return {
        "per_core_s": median(scenario["count"] / block["cpu_s"] for block in done),
        # For each round: what slows a round down slows all sides.
        "ratio": median(its["cpu_s"] / our["cpu_s"] for its, our in zip(done, ours, strict=True)),
        "p50_ms": percentile(latencies, 0.5),
        "p99_ms": percentile(latencies, 0.99),
        "per_s": median(scenario["count"] / block["wall_s"] for block in done),
        "memory_mb": max(block["memory_mb"] for block in done),
        **({"beside_cpu_ms": median(beside)} if beside else {}),
    }


async def _killed(
    environment: Mapping[str, str], running: Mapping[str, Proxy], journal: Journal, count: int
) -> dict[str, Any]:
    figures = {_OURS: await crashes.measure_jobs(_TAGS[_OURS], environment, journal, count)}
    for name, proxy in running.items():
        figures[name] = await crashes.measure_calls(_TAGS[name], proxy, journal, count)
    async with crashes.sdk_process(environment) as process:
        figures[_SDK] = await crashes.measure_calls(_TAGS[_SDK], process, journal, count)
    return figures
