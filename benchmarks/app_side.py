"""
This app's side in `warm_job` and `density`: whole jobs of the loaded app on Microsoft's worker engine, each with its
log line, two ledger operations on Azurite and one model call.

    python -m benchmarks.app_side [--jobs N] [--budgeted CUSTOMER]
"""

import argparse
import asyncio
import collections
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from decimal import Decimal
from functools import partial
from types import SimpleNamespace
from typing import Any

import aiohttp
from azure.functions.meta import Datum

from benchmarks.blocks import cpu_ms, serve
from benchmarks.messages import MODEL, conversation, customer, message, result_of
from benchmarks.process import log_as_a_worker
from local.host.trigger_metadata import MessageProperties, queue_metadata
from local.host.worker import Invocation, Worker
from local.paths import PROJECT

COUNTED = 5
STEPS = 100
_ROOM = 16


async def run(jobs: int | None, budgeted: str | None) -> None:
    """Load the app and serve blocks. The worker runs at least so many jobs at once; `budgeted` has a budget."""
    log_as_a_worker()
    worker = await Worker.load(PROJECT)
    if jobs is not None:
        from shared.jobs import admission  # noqa: PLC0415  # the app has imported it already

        # With room for one more, so that the last customer's share is large enough.
        admission.WORKER_CONCURRENCY = max(admission.WORKER_CONCURRENCY, jobs + _ROOM)
    if budgeted is not None:
        await _set_budget(budgeted)

    received: collections.deque[tuple[Datum, Mapping[str, Datum]]] = collections.deque()

    def prepare(customers: Sequence[int]) -> None:
        received.extend(map(_receive, customers))

    async def work(_: int) -> Invocation:
        body, metadata = received.popleft()
        return await worker.invoke("run_job", {"message": body}, metadata)

    async def send(body: bytes) -> None:
        invocation = await worker.invoke_queue("run_job", body, MessageProperties(id=str(uuid.uuid4())))
        if not invocation.ok:
            raise RuntimeError(f"A message failed: {invocation}")

    async def extras() -> dict[str, Any]:
        prepare([0] * COUNTED)
        requests = await _count_requests(work)
        rejected = await cpu_ms(STEPS, partial(send, b"{}"))
        with _no_room():
            throttled = await cpu_ms(STEPS, partial(send, message(0)))
        steps = {"rejected message": rejected, "requeued message": throttled, **await _steps()}
        return {"requests_per_job": requests, "steps_cpu_ms": steps}

    await serve(work, extras, prepare=prepare, read=partial(_read, jobs))


def _read(jobs: int | None, invocation: Invocation) -> float | None:
    if jobs is not None and invocation.ok and "results" not in invocation.outputs:
        return None  # requeued: Storage was busy for a moment, or there was no room
    result = result_of(invocation.outputs.get("results", b"{}"))
    if result.get("status") != "succeeded":
        raise RuntimeError(f"A job failed: {invocation}")
    own_ms: float = result["timings"]["overhead_ms"]
    return own_ms


def _receive(number: int) -> tuple[Datum, Mapping[str, Datum]]:
    """What the host sends to the worker with a message: its body, and the trigger's metadata."""
    return Datum(message(number), "bytes"), queue_metadata(MessageProperties(id=str(uuid.uuid4())), None)


@contextmanager
def _no_room() -> Iterator[None]:
    """Leave no room for the first customer's jobs, neither to run nor to be held."""
    from shared.errors import Throttled  # noqa: PLC0415  # the app has imported it already
    from shared.services import services  # noqa: PLC0415

    limiter = services().limiter
    with ExitStack() as jobs:
        limiter.of(customer(0), "default").job_seconds = 3600
        with suppress(Throttled):
            while True:
                jobs.enter_context(limiter.admit(customer(0), "default"))
        while jobs.enter_context(limiter.held.tried(customer(0))):
            pass
        yield


async def _set_budget(name: str) -> None:
    """Give a customer a budget that is never used up."""
    from shared.contract.budget import Budget  # noqa: PLC0415  # the app has imported most of it already
    from shared.services import services  # noqa: PLC0415

    budgets = {"main": Budget(limit=Decimal(10**9), unit="tokens", period="month")}
    await services().customer_records.change(
        name, lambda record: record.with_budgets(budgets), by="benchmark", subject="budgets"
    )


async def _count_requests(work: Any) -> dict[str, float]:
    """The requests of a job to Storage and Key Vault, by kind: direct ones, and those in the SDKs' shared session."""
    from shared.network.hosts import Host  # noqa: PLC0415
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
    parser = argparse.ArgumentParser(description="This app's side of a benchmark.")
    parser.add_argument("--jobs", type=int, help="jobs that the worker runs at once, if that is more than the app has")
    parser.add_argument("--budgeted", metavar="CUSTOMER", help="a customer that gets a budget")
    asyncio.run(run(**vars(parser.parse_args())))
