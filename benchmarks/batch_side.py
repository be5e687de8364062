"""
This app's side in `batches`: jobs bought in batches on Microsoft's worker engine. What the host does is not measured:
messages are taken from Azurite between the measured phases.

    python -m benchmarks.batch_side
"""

import asyncio
import base64
import json
import os
import sys
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from azure.storage.queue.aio import QueueClient

from benchmarks.messages import PROMPT, customer, result_of
from benchmarks.process import log_as_a_worker, peak_memory_mb
from local.host.trigger_metadata import MessageProperties
from local.host.worker import Worker
from local.paths import PROJECT

_IN_FLIGHT = 256
BOOK = {
    "currency": "USD",
    "prices": [
        {"provider": "openai", "model": "*", "input": "2", "output": "8"},
        {"provider": "openai", "model": "*", "processing": "batch", "input": "1", "output": "4"},
    ],
}
"""The local provider's prices."""


class Run:
    """What a worker runs, and the results."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.results: Counter[str] = Counter()
        self.processing: Counter[str] = Counter()

    async def invoke(self, function: str, bodies: Sequence[bytes], in_flight: int = _IN_FLIGHT) -> float:
        """Run the function with each of these messages; return the CPU seconds."""
        waiting = iter(bodies)

        async def work() -> None:
            for body in waiting:
                properties = MessageProperties(id=str(uuid.uuid4()))
                invocation = await self.worker.invoke_queue(function, body, properties)
                if not invocation.ok:
                    raise RuntimeError(f"A message failed: {invocation}")
                if published := invocation.outputs.get("results"):
                    self._count(result_of(published))

        before = time.process_time()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        return time.process_time() - before

    def _count(self, result: dict[str, Any]) -> None:
        self.results[result["status"]] += 1
        self.processing[result.get("usage", {}).get("processing", "")] += 1


async def run() -> None:
    """Load the app and serve requests: `{"jobs", "customers", "processing"}`."""
    log_as_a_worker()
    worker = await Worker.load(PROJECT)
    print("{}", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await _measure(Run(worker), **json.loads(line)), default=str), flush=True)


async def _measure(run: Run, jobs: int, customers: int, processing: str) -> dict[str, Any]:
    from shared.jobs.batch_message import LAST, PREFIX  # noqa: PLC0415
    from shared.services import services  # noqa: PLC0415  # the app has imported it already

    bodies = [_message(number % customers, processing) for number in range(jobs)]
    phases = {"jobs": await run.invoke("run_job", bodies)}
    app = services()
    opened_at, batches = time.monotonic(), list[bytes]()
    while processing != "standard" and run.results.total() < jobs:
        await asyncio.sleep(1)
        if time.monotonic() - opened_at < app.settings.batch_window_s:
            continue
        batches = [
            _batch(row) for number in range(customers) async for row in app.table.scan(customer(number), PREFIX, LAST)
        ]
        phases["batches"] = phases.get("batches", 0) + await run.invoke("run_batch", batches)
        woken = await take("jobs")
        phases["woken"] = phases.get("woken", 0) + await run.invoke("run_job", woken)
    return {
        "cpu_ms": {name: seconds * 1000 / jobs for name, seconds in phases.items()},
        "memory_mb": peak_memory_mb(),
        "results": run.results,
        "processing": run.processing,
        "batches": len(batches),
        "statements": await _statements(app, customers, processing),
    }


async def _statements(app: Any, customers: int, processing: str) -> dict[str, Any]:
    """What the customers' statements say of calls that were bought so, at the local provider's prices."""
    from shared.billing.customer_pricing import CustomerPricing  # noqa: PLC0415  # as above
    from shared.billing.statements import Statements  # noqa: PLC0415
    from shared.clock import now  # noqa: PLC0415
    from shared.contract.price_book import decode_price_book  # noqa: PLC0415

    if await app.price_books.current() is None:
        await app.price_books.publish(decode_price_book(json.dumps(BOOK).encode()), replaces=None, by="benchmark")
    sums: dict[str, Any] = {"calls": 0, "amount": Decimal(0), "saved": Decimal(0)}
    today = now().date()
    for name in map(customer, range(customers)):
        pricing = await CustomerPricing(app.price_books, app.customer_records).read(name)
        statement = await Statements(app.table).read(name, today - timedelta(days=1), today, pricing=pricing)
        for line in statement.lines:
            if line.kind is None and line.processing == processing:
                sums["calls"] += line.calls
                sums["amount"] += Decimal(line.amount or 0)
                sums["saved"] += Decimal(line.saved or 0)
    return sums


def _message(number: int, processing: str) -> bytes:
    job = {"customer": customer(number), "action": "chat", "input": {"prompt": f"{PROMPT} {uuid.uuid4()}"}}
    return json.dumps({**job, "connection": "patient", "options": {"processing": processing}}).encode()


def _batch(row: Any) -> bytes:
    return json.dumps({"customer": row.partition, "batch": row.key.partition("_")[2]}).encode()


async def take(name: str) -> list[bytes]:
    """Take all messages out of a queue, as the host does."""
    bodies = []
    async with QueueClient.from_connection_string(os.environ["JobStorage"], name) as queue:  # noqa: SIM112
        while messages := [each async for each in queue.receive_messages(max_messages=32)]:
            bodies += [base64.b64decode(each.content) for each in messages]
            await asyncio.gather(*(queue.delete_message(each) for each in messages))
    return bodies


if __name__ == "__main__":
    asyncio.run(run())
