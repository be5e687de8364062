"""
A fresh process that loads an app on Microsoft's worker engine and runs one queue message: what
`cold_start` starts over and over.

    python -m benchmarks.first_job APP_DIR [--steps]

Prints, as JSON, when each phase ended: on the clock that all processes share, and in CPU seconds of
this one. `--steps` takes the project's own app apart; its run counts for nothing else.
"""

import asyncio
import json
import sys
import time
import uuid
from pathlib import Path

from benchmarks.messages import customer, message
from benchmarks.process import log_as_a_worker, peak_memory_mb
from local.host.trigger_metadata import MessageProperties
from local.host.worker import Worker

_marks: list[tuple[str, float, float]] = []


def _mark(phase: str) -> None:
    _marks.append((phase, time.monotonic(), time.process_time()))


async def run(app: Path, *, steps: bool) -> None:
    """Runs one job, or in steps the parts of one."""
    _mark("start")
    log_as_a_worker()
    worker = await Worker.load(app)
    _mark("load")
    if steps:
        from shared.services import services  # noqa: PLC0415  # the app has imported it

        _mark("services")
        await services().connections.resolve(customer(0), "default")
        _mark("connection")
    await _job(worker)
    _mark("job")
    if steps:
        await _job(worker)
        _mark("second job")


async def _job(worker: Worker) -> None:
    ended = await worker.invoke_queue("run_job", message(0), MessageProperties(id=str(uuid.uuid4())))
    if not ended.ok or json.loads(ended.outputs["results"])["status"] != "succeeded":
        raise SystemExit(f"The job did not succeed: {ended}")


def main() -> None:
    """Reads the command line, and prints."""
    asyncio.run(run(Path(sys.argv[1]), steps="--steps" in sys.argv))
    print(json.dumps({"marks": _marks, "memory_mb": peak_memory_mb()}))


if __name__ == "__main__":
    main()
