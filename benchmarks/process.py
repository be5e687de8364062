"""What a measured process does for its own measurement. Imports only quick modules."""

import logging
import os
import resource
import sys
from pathlib import Path

_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


def peak_memory_mb() -> float:
    """The peak memory of this process so far, in MB."""
    status = Path("/proc/self/status")
    if status.exists():
        # Linux's `ru_maxrss` starts with that of the parent process.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def resident_mb(pid: int) -> float:
    """The memory of a process now, in MB. On Linux."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_MB


def log_as_a_worker() -> None:
    """Format every record of level INFO and above, as the Functions worker does, and discard it."""
    handler = logging.StreamHandler(Path(os.devnull).open("w"))  # noqa: SIM115  # until the process ends
    logging.basicConfig(level=logging.INFO, handlers=[handler])
