"""
From a fresh process to the first finished chat job: this app, the function that most people would write
(`peer_app`), and a function that does nothing (`empty_app`), each on Microsoft's worker engine.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import median, spread, table
from benchmarks.stage import RunFailed, open_stage
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
    """One process: its phases as (name, wall ms, CPU ms), each from the end of the one before."""

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
    """The figures of one run. Raises RunFailed, NotInstalled, ProcessFailed."""
    async with open_stage(1) as stage:
        for name in _APPS:  # compiles what is not compiled yet, and fills the machine's file cache
            await _start(name, stage.environment)
        runs: dict[str, list[FirstJob]] = {name: [] for name in _APPS}
        for _ in range(rounds):
            for name in _APPS:
                runs[name].append(await _start(name, stage.environment))
        steps = [await _start(_OURS, stage.environment, "--steps") for _ in range(STEP_ROUNDS)]
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
    """The figures for people."""
    head = ["to the first finished job", "wall ms", "(range)", "CPU ms", "memory MB", "start", "load", "job"]
    rows = [
        [
            name,
            f"{one['wall_ms']:.0f}",
            one["wall_range"],
            f"{one['cpu_ms']:.0f}",
            f"{one['memory_mb']:.0f}",
            *(f"{one['phases'][phase]['wall_ms']:.0f}" for phase in ("start", "load", "job")),
        ]
        for name, one in figures["apps"].items()
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
            f"Cold start, medians of {figures['rounds']} fresh processes each, in turn; bytecode compiled",
            "",
            table(head, rows),
            "",
            ratio_line,
            f"{_OURS} in steps, wall ms: {steps}",
        ]
    )


async def _start(name: str, environment: Mapping[str, str], *flags: str) -> FirstJob:
    command = [sys.executable, "-m", "benchmarks.first_job", str(_APPS[name]), *flags]
    began = time.monotonic()
    child = await asyncio.create_subprocess_exec(
        *command,
        env=dict(environment),
        cwd=PROJECT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, errors = await asyncio.wait_for(child.communicate(), 60)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        raise RunFailed(f"The first job of {name} failed:\n{errors.decode(errors='replace')[-2000:]}")
    told = json.loads(said)
    phases, before = [], (began, 0.0)
    for phase, at, cpu in told["marks"]:
        phases.append((phase, (at - before[0]) * 1000, (cpu - before[1]) * 1000))
        before = (at, cpu)
    return FirstJob(phases, told["memory_mb"])


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


def _ratio(runs: Mapping[str, Sequence[FirstJob]], what: str, above: str = "") -> float:
    """The median of the rounds' own ratios: what slowed one round down slowed both sides."""

    def values(name: str) -> list[float]:
        return [getattr(run, what) for run in runs[name]]

    floor = values(above) if above else [0.0] * len(runs[_OURS])
    rounds = zip(values(_OURS), values(_PEER), floor, strict=True)
    return median((ours - least) / (peer - least) for ours, peer, least in rounds)
