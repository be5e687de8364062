"""
The side of this app in `warm_job`: whole jobs through the loaded app on Microsoft's worker engine, each
with its log line, two ledger operations on Azurite and one model call.
"""

import asyncio
import collections
import json
import uuid
from types import SimpleNamespace
from typing import Any

import aiohttp

from benchmarks.blocks import cpu_ms, serve
from benchmarks.messages import MODEL, conversation, customer, message
from benchmarks.process import log_as_a_worker
from local.host.trigger_metadata import MessageProperties
from local.host.worker import Worker
from local.paths import PROJECT

COUNTED = 5
STEPS = 100


async def run() -> None:
    """Loads the app and serves blocks."""
    log_as_a_worker()
    worker = await Worker.load(PROJECT)

    async def work(number: int) -> None:
        ended = await worker.invoke_queue("run_job", message(number), MessageProperties(id=str(uuid.uuid4())))
        if not ended.ok or b'"status":"succeeded"' not in ended.outputs["results"]:
            raise RuntimeError(f"A job did not succeed: {ended}")

    async def refused() -> None:
        await worker.invoke_queue("run_job", b"{}", MessageProperties(id=str(uuid.uuid4())))

    async def extras() -> dict[str, Any]:
        return {
            "requests_per_job": await _count_requests(work),
            "steps_cpu_ms": {"refused message": await cpu_ms(STEPS, refused), **await _steps()},
        }

    await serve(work, extras)


async def _count_requests(work: Any) -> dict[str, float]:
    """The requests that a job sends to Storage and Key Vault, by kind, seen in the session they share."""
    from shared.services import services  # noqa: PLC0415  # made by the first job, in the app's own import

    seen: collections.Counter[str] = collections.Counter()

    async def note(_: aiohttp.ClientSession, __: SimpleNamespace, sent: aiohttp.TraceRequestStartParams) -> None:
        seen[f"{sent.method} {sent.url.path.rpartition('/')[2].partition('(')[0]}"] += 1

    watch = aiohttp.TraceConfig()
    watch.on_request_start.append(note)
    watch.freeze()
    configs = services().session.trace_configs
    configs.append(watch)
    for _ in range(COUNTED):
        await work(0)
    configs.remove(watch)
    return {kind: count / COUNTED for kind, count in seen.items()}


async def _steps() -> dict[str, float]:
    """The two expensive steps of a job by themselves, one after the other, in CPU milliseconds."""
    from shared.clock import now  # noqa: PLC0415
    from shared.services import services  # noqa: PLC0415
    from shared.upstream.messages import UpstreamRequest  # noqa: PLC0415

    worker = services()
    connection = await worker.connections.resolve(customer(0), "default")
    asked = UpstreamRequest(
        "POST",
        connection.endpoint.url("chat/completions", MODEL),
        json.dumps({"model": MODEL, "messages": conversation()}).encode(),
        {"content-type": "application/json"},
    )

    async def call() -> None:
        await worker.client.send(asked, connection.access, timeout_s=60)

    async def claim() -> None:
        await worker.ledger.claim("bench-steps", uuid.uuid4().hex, fingerprint="", submitted_at=now())

    return {"model call": await cpu_ms(STEPS, call), "claim": await cpu_ms(STEPS, claim)}


if __name__ == "__main__":
    asyncio.run(run())
