"""Figures about a process and about many runs, and a table to print them in. Standard library alone."""

import logging
import os
import resource
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's `ru_maxrss` begins with that of the parent a process was forked from.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def log_as_a_worker() -> None:
    """Formats every record from INFO on, as the Functions worker does, and writes it nowhere."""
    handler = logging.StreamHandler(Path(os.devnull).open("w"))  # noqa: SIM115  # until the process ends
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def median(values: Iterable[float]) -> float:
    """The median."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Lowest and highest, for the eye: how noisy the machine was."""
    return f"{min(values):.3g}–{max(values):.3g}"


def percentile(values: Sequence[float], part: float) -> float:
    """The value that `part` (0 to 1) of the values do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, round(part * (len(ranked) - 1)))]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows under their heads as a Markdown table, so that what a run prints can stand in the docs."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            f"{cell:<{width}}" if number == 0 else f"{cell:>{width}}"
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join([first, *others])} |"

    rule = ["-" * width if number == 0 else f"{'-' * (width - 1)}:" for number, width in enumerate(widths)]
    return "\n".join([line(head), line(rule), *map(line, rows)])
