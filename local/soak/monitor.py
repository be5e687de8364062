"""What a soak watches while it runs: the memory of the workers, and how late it is itself."""

import asyncio
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from local.stack.hosts import Hosts

_POLL_S = 0.1
_SIZES = re.compile(r"^Vm(HWM|RSS):\s+(\d+) kB", re.MULTILINE)


class Monitor:
    """
    The greatest memory of each worker, in MiB, and the greatest of a worker together with the processes beside it. Both
    are empty but on Linux. `late_s` is the longest that this process waited beyond its turn: if it is long, the machine
    was too busy to measure anything.
    """

    def __init__(self, hosts: Hosts) -> None:
        self.worker_mib: dict[int, float] = {}
        """By process, as the kernel counts it."""
        self.together_mib: dict[int, float] = {}
        """By the worker's process, as often as it was looked at."""
        self.late_s = 0.0
        self._hosts = hosts

    async def run(self) -> None:
        """Monitor until cancelled."""
        while True:
            began = time.monotonic()
            for process in self._hosts.processes.values():
                self._read(process.pid)
            await asyncio.sleep(_POLL_S)
            self.late_s = max(self.late_s, time.monotonic() - began - _POLL_S)

    def _read(self, pid: int) -> None:
        sizes = _sizes(pid)
        if sizes:
            together = sizes["RSS"] + sum(_sizes(child).get("RSS", 0) for child in _children(pid))
            self.worker_mib[pid] = sizes["HWM"]
            self.together_mib[pid] = max(together, self.together_mib.get(pid, 0))


def _sizes(pid: int) -> dict[str, float]:
    text = _read_text(Path(f"/proc/{pid}/status"))
    return {name: int(size) / 1024 for name, size in _SIZES.findall(text)}


def _children(pid: int) -> Iterator[int]:
    yield from map(int, " ".join(map(_read_text, _children_files(pid))).split())


def _children_files(pid: int) -> Iterable[Path]:
    return Path(f"/proc/{pid}/task").glob("*/children")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
