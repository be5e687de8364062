"""
The process that `cold_start` measures: it loads an app on Microsoft's worker engine and runs one queue message.

    python -m benchmarks.first_job APP_DIR [--steps]

Prints, as JSON, when each phase ended: on the clock that all processes share, and in CPU seconds of this one.
`--steps` measures the parts of this project's own job; the run is not used for anything else.
"""

import asyncio
import json
import sys
import time
import uuid
from pathlib import Path

from benchmarks.messages import customer, message, result_of
from benchmarks.process import log_as_a_worker, peak_memory_mb
from local.host.trigger_metadata import MessageProperties
from local.host.worker import Worker

_marks: list[tuple[str, float, float]] = []
_TOOLS = ("click", "rich", "pygments")
"""Tools of development, which httpx imports if it can. Where an app is deployed, it can't."""


def _mark(phase: str) -> None:
    _marks.append((phase, time.monotonic(), time.process_time()))


async def run(app: Path, *, steps: bool) -> None:
    """Run one job, or the parts of one."""
    _mark("start")
    log_as_a_worker()
    worker = await Worker.load(app)
    _mark("load")
    if steps:
        from shared.services import services  # noqa: PLC0415  # the app has imported it already

        connections = services().connections
        _mark("services")
        await connections.resolve(customer(0), "default")
        _mark("connection")
    await _job(worker)
    _mark("job")
    if steps:
        await _job(worker)
        _mark("second job")


async def _job(worker: Worker) -> None:
    invocation = await worker.invoke_queue("run_job", message(0), MessageProperties(id=str(uuid.uuid4())))
    if not invocation.ok or result_of(invocation.outputs["results"])["status"] != "succeeded":
        raise SystemExit(f"The job did not succeed: {invocation}")


def main() -> None:
    """Run the command line."""
    for name in _TOOLS:
        sys.modules[name] = None  # type: ignore[assignment]  # its import fails
    asyncio.run(run(Path(sys.argv[1]), steps="--steps" in sys.argv))
    print(json.dumps({"marks": _marks, "memory_mb": peak_memory_mb()}))


if __name__ == "__main__":
    main()
