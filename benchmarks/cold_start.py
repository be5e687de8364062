"""
The cold start, from a new process to the first finished chat job: of this app, of the function that most people would
write (`peer_app`), and of a function that does nothing (`empty_app`), each on Microsoft's worker engine.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.environment import RunFailed, open_environment
from benchmarks.figures import median, spread, table
from local.paths import PROJECT

ROUNDS = 11
STEP_ROUNDS = 5
_APPS = {
    "this app": PROJECT,
    "openai + SDKs": PROJECT / "benchmarks" / "peer_app",
    "empty function": PROJECT / "benchmarks" / "empty_app",
}
_OURS, _PEER, _EMPTY = _APPS


@dataclass(frozen=True, slots=True)
class FirstJob:
    """One process: its phases as (name, wall ms, CPU ms), each from the end of the previous one."""

    phases: Sequence[tuple[str, float, float]]
    memory_mb: float

    @property
    def wall_ms(self) -> float:
        """From the start of the process to the result."""
        return sum(wall for _, wall, _ in self.phases)

    @property
    def cpu_ms(self) -> float:
        """User and system time up to the result."""
        return sum(cpu for _, _, cpu in self.phases)


async def measure(rounds: int = ROUNDS) -> dict[str, Any]:
    """The figures of a run. Raises RunFailed, NotInstalled, ProcessFailed."""
    async with open_environment(1) as environment:
        for name in _APPS:  # compiles bytecode, and fills the file cache
            await _start(name, environment)
        runs: dict[str, list[FirstJob]] = {name: [] for name in _APPS}
        for _ in range(rounds):
            for name in _APPS:
                runs[name].append(await _start(name, environment))
        steps = [await _start(_OURS, environment, "--steps") for _ in range(STEP_ROUNDS)]
    return {
        "rounds": rounds,
        "apps": {name: _summary(done) for name, done in runs.items()},
        "ratios": {
            "wall": _ratio(runs, "wall_ms"),
            "cpu": _ratio(runs, "cpu_ms"),
            "memory": _ratio(runs, "memory_mb"),
            "wall_above_empty": _ratio(runs, "wall_ms", above=_EMPTY),
            "cpu_above_empty": _ratio(runs, "cpu_ms", above=_EMPTY),
        },
        "steps": _phases(steps),
    }


def report(figures: Mapping[str, Any]) -> str:
    """The figures as text."""
    head = ["to the first finished job", "wall ms", "(range)", "CPU ms", "memory MB", "start", "load", "job"]
    rows = [
        [
            name,
            f"{app['wall_ms']:.0f}",
            app["wall_range"],
            f"{app['cpu_ms']:.0f}",
            f"{app['memory_mb']:.0f}",
            *(f"{app['phases'][phase]['wall_ms']:.0f}" for phase in ("start", "load", "job")),
        ]
        for name, app in figures["apps"].items()
    ]
    ratios = figures["ratios"]
    steps = ", ".join(f"{name} {step['wall_ms']:.0f}" for name, step in figures["steps"].items())
    ratio_line = (
        f"{_OURS} / {_PEER}: wall {ratios['wall']:.2f}, CPU {ratios['cpu']:.2f}, "
        f"memory {ratios['memory']:.2f}; above the {_EMPTY}: "
        f"wall {ratios['wall_above_empty']:.2f}, CPU {ratios['cpu_above_empty']:.2f}"
    )
    return "\n".join(
        [
            f"Cold start, medians of {figures['rounds']} new processes each, in turn; bytecode compiled",
            "",
            table(head, rows),
            "",
            ratio_line,
            f"{_OURS} in steps, wall ms: {steps}",
        ]
    )


async def _start(name: str, environment: Mapping[str, str], *flags: str) -> FirstJob:
    command = [sys.executable, "-m", "benchmarks.first_job", str(_APPS[name]), *flags]
    start = time.monotonic()
    child = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        cwd=PROJECT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(child.communicate(), 60)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        raise RunFailed(f"The first job of {name} failed:\n{errors.decode(errors='replace')[-2000:]}")
    result = json.loads(output)
    phases, previous = [], (start, 0.0)
    for phase, at, cpu in result["marks"]:
        phases.append((phase, (at - previous[0]) * 1000, (cpu - previous[1]) * 1000))
        previous = (at, cpu)
    return FirstJob(phases, result["memory_mb"])


def _summary(runs: Sequence[FirstJob]) -> dict[str, Any]:
    return {
        "wall_ms": median(run.wall_ms for run in runs),
        "wall_range": spread([run.wall_ms for run in runs]),
        "cpu_ms": median(run.cpu_ms for run in runs),
        "memory_mb": median(run.memory_mb for run in runs),
        "phases": _phases(runs),
    }


def _phases(runs: Sequence[FirstJob]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "wall_ms": median(run.phases[number][1] for run in runs),
            "cpu_ms": median(run.phases[number][2] for run in runs),
        }
        for number, (name, _, _) in enumerate(runs[0].phases)
    }


def _ratio(runs: Mapping[str, Sequence[FirstJob]], figure: str, above: str = "") -> float:
    """The median of the ratios of all rounds: what slows a round down slows both sides."""

    def values(name: str) -> list[float]:
        return [getattr(run, figure) for run in runs[name]]

    baseline = values(above) if above else [0.0] * len(runs[_OURS])
    rounds = zip(values(_OURS), values(_PEER), baseline, strict=True)
    return median((ours - base) / (peer - base) for ours, peer, base in rounds)
