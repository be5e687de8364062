"""A measured process about itself. Imports nothing that takes time."""

import logging
import os
import resource
import sys
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
