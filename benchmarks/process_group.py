"""What a group of processes has used so far, as Linux counts it."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True, slots=True)
class Used:
    """CPU seconds, user and system, and the sum of the processes' greatest memory, in MB."""

    cpu_s: float
    memory_mb: float


def used(group: int, *, without: Sequence[str] = ()) -> Used:
    """
    What the processes of a group have used, with their children that have ended. Those with one of `without` in their
    command line don't count.
    """
    processes = [entry for entry in _processes(group) if not any(word in _command(entry) for word in without)]
    return Used(sum(map(_cpu_s, processes)), sum(map(_memory_mb, processes)))


def _processes(group: int) -> Iterator[Path]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int((_fields(entry) or ["", "", "0"])[2]) == group:
            yield entry


def _fields(entry: Path) -> list[str]:
    """The fields of /proc/PID/stat after the command, from the state on; none if the process has ended."""
    try:
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_s(entry: Path) -> float:
    return sum(map(int, _fields(entry)[11:15])) / _TICKS


def _memory_mb(entry: Path) -> float:
    try:
        lines = (entry / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _command(entry: Path) -> str:
    try:
        return (entry / "cmdline").read_text(errors="replace")
    except OSError:
        return ""
