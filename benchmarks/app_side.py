"""
This app's side in `warm_job`: whole jobs of the loaded app on Microsoft's worker engine, each with its log line, two
ledger operations on Azurite and one model call.
"""

import asyncio
import collections
import json
import uuid
from types import SimpleNamespace
from typing import Any

import aiohttp

from benchmarks.blocks import cpu_ms, serve
from benchmarks.messages import MODEL, conversation, customer, message, result_of
from benchmarks.process import log_as_a_worker
from local.host.trigger_metadata import MessageProperties
from local.host.worker import Worker
from local.paths import PROJECT

COUNTED = 5
STEPS = 100


async def run() -> None:
    """Load the app and serve blocks."""
    log_as_a_worker()
    worker = await Worker.load(PROJECT)

    async def work(number: int) -> float:
        invocation = await worker.invoke_queue("run_job", message(number), MessageProperties(id=str(uuid.uuid4())))
        result = result_of(invocation.outputs["results"]) if invocation.ok else {}
        if result.get("status") != "succeeded":
            raise RuntimeError(f"A job failed: {invocation}")
        own_ms: float = result["timings"]["overhead_ms"]
        return own_ms

    async def rejected() -> None:
        await worker.invoke_queue("run_job", b"{}", MessageProperties(id=str(uuid.uuid4())))

    async def extras() -> dict[str, Any]:
        return {
            "requests_per_job": await _count_requests(work),
            "steps_cpu_ms": {"rejected message": await cpu_ms(STEPS, rejected), **await _steps()},
        }

    await serve(work, extras)


async def _count_requests(work: Any) -> dict[str, float]:
    """The requests of a job to Storage and Key Vault, by kind: direct ones, and those in the SDKs' shared session."""
    from shared.network.idle import Host  # noqa: PLC0415
    from shared.network.response import Response  # noqa: PLC0415
    from shared.services import services  # noqa: PLC0415  # the app has imported it already

    counts: collections.Counter[str] = collections.Counter()
    pool = services().pool
    exchange = pool.exchange

    async def count_direct(host: Host, request: bytes) -> Response:
        method, target, _ = request.decode().split(" ", 2)
        counts[f"{method} {target.rpartition('/')[2].partition('(')[0]}"] += 1
        return await exchange(host, request)

    async def count(_: aiohttp.ClientSession, __: SimpleNamespace, started: aiohttp.TraceRequestStartParams) -> None:
        counts[f"{started.method} {started.url.path.rpartition('/')[2].partition('(')[0]}"] += 1

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(count)
    trace.freeze()
    configs = services().sdk.session.trace_configs
    configs.append(trace)
    pool.exchange = count_direct  # type: ignore[method-assign]
    for _ in range(COUNTED):
        await work(0)
    configs.remove(trace)
    pool.exchange = exchange  # type: ignore[method-assign]
    return {kind: number / COUNTED for kind, number in counts.items()}


async def _steps() -> dict[str, float]:
    """The CPU milliseconds of the two expensive parts of a job, each by itself, in sequence."""
    from shared.clock import now  # noqa: PLC0415
    from shared.services import services  # noqa: PLC0415
    from shared.upstream.messages import UpstreamRequest  # noqa: PLC0415

    worker = services()
    connection = await worker.connections.resolve(customer(0), "default")
    request = UpstreamRequest(
        "POST",
        connection.endpoint.url("chat/completions", MODEL),
        json.dumps({"model": MODEL, "messages": conversation()}).encode(),
        {"content-type": "application/json"},
    )

    async def call() -> None:
        await worker.client.send(request, connection.access, customer=customer(0), timeout_s=60)

    async def claim() -> None:
        await worker.ledger.claim("bench-steps", uuid.uuid4().hex, fingerprint="", submitted_at=now())

    return {"model call": await cpu_ms(STEPS, call), "claim": await cpu_ms(STEPS, claim)}


if __name__ == "__main__":
    asyncio.run(run())
