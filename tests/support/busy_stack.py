"""The local stack with one worker, two customers and an endpoint that always takes as long as the test says."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from local.paths import PROJECT
from local.soak import endpoint as ai_endpoint
from local.soak.endpoint import FaultyEndpoint
from local.soak.plan import PlannedJob, format_tag, make_customers
from local.soak.storage import Storage, open_storage
from local.stack import azurite, hosts
from local.stack.customers import Customer, onboard, vault_client
from local.stack.stack import app_settings, bypass_proxy_for_loopback, create_storage
from local.vault import server as vault_server
from tests.support.signatures import new_secret


@dataclass
class BusyStack:
    """A running stack. Every call takes `endpoint.duration_s`."""

    endpoint: FaultyEndpoint
    storage: Storage
    heavy: Customer
    quiet: Customer
    start_worker: Callable[[], Awaitable[None]]

    def job(self, customer: Customer, job_id: str, *, callback: str | None = None) -> PlannedJob:
        """Return a chat of the customer."""
        job = {
            "customer": customer.id,
            "job_id": job_id,
            "action": "chat",
            "input": {"prompt": f"{format_tag((customer.id, job_id, 0))} Hello?"},
            **({"output": {"queue": True, "callback": callback}} if callback else {}),
        }
        return PlannedJob(customer.id, job_id, 1, json.dumps(job).encode())

    async def run(self, *jobs: PlannedJob) -> list[float]:
        """Send jobs and wait for all results; return the seconds from the sending of each to its result."""
        await self.storage.send(jobs)
        await self.results(jobs)
        return [self.seconds(job) for job in jobs]

    async def results(self, jobs: Sequence[PlannedJob]) -> None:
        """Wait until each job has a result."""
        await self.storage.wait_until(lambda: all(job.key in self.storage.result_at for job in jobs))

    def seconds(self, job: PlannedJob) -> float:
        """Return the seconds from the sending of a job to its result."""
        return self.storage.result_at[job.key] - self.storage.sent_at[job.key]


@contextlib.asynccontextmanager
async def open_busy_stack(call_s: float, **settings: str) -> AsyncIterator[BusyStack]:
    """Start the stack; its worker is warm when the block begins."""
    bypass_proxy_for_loopback()
    heavy, quiet, warm = make_customers(3)
    async with contextlib.AsyncExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="customer-ai-jobs-")))
        account = await parts.enter_async_context(azurite.start())
        vault = await parts.enter_async_context(vault_server.start(folder))
        endpoint = await parts.enter_async_context(ai_endpoint.start(1))
        endpoint.faulty, endpoint.duration_s = False, (call_s, call_s)
        for customer in (heavy, quiet, warm):
            endpoint.accept_key(customer)
        await create_storage(account.connection_string)
        await onboard(vault, endpoint.url, heavy, quiet, warm)
        async with vault_client(vault) as client:
            for customer in (heavy, quiet):
                await client.set_secret(f"webhook--{customer.id}", new_secret())
        lines: list[str] = []
        environment = app_settings(account, vault) | settings

        async def start_worker() -> None:
            await parts.enter_async_context(hosts.start(1, PROJECT, environment, hosts.free_port(), lines.append))

        storage = await parts.enter_async_context(open_storage(account.connection_string))
        async with collecting(storage):
            stack = BusyStack(endpoint, storage, heavy, quiet, start_worker)
            yield stack


@contextlib.asynccontextmanager
async def collecting(storage: Storage) -> AsyncIterator[None]:
    """Collect results within the block."""
    import asyncio  # noqa: PLC0415

    task = asyncio.create_task(storage.collect())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def monotonic() -> float:
    """Return the time of `Storage.result_at`."""
    return time.monotonic()
