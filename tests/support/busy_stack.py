"""The local stack with one worker, two customers, an endpoint that takes as long as a test says, and a receiver."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from local.paths import PROJECT
from local.soak import endpoint as ai_endpoint
from local.soak.endpoint import FaultyEndpoint
from local.soak.plan import PlannedJob, format_tag, make_customers
from local.soak.storage import Storage, open_storage
from local.stack import azurite, hosts
from local.stack.customers import Customer, onboard, vault_client
from local.stack.stack import app_settings, bypass_proxy_for_loopback, create_storage
from local.vault import server as vault_server
from tests.support.loopback import serve
from tests.support.signatures import new_secret


@dataclass
class BusyStack:
    """A running stack. Every call takes `endpoint.duration_s`."""

    endpoint: FaultyEndpoint
    storage: Storage
    heavy: Customer
    quiet: Customer
    receiver: str = ""
    """The receiver's URL. A path that contains `hang` gets no answer."""
    received_at: dict[tuple[str, str], float] = field(default_factory=dict)
    """When the callback of each job came, on the clock of `Storage.result_at`."""

    def job(self, customer: Customer, job_id: str, *, callback: str = "") -> PlannedJob:
        """Return a chat of the customer; `callback` is a path of the receiver."""
        job = {
            "customer": customer.id,
            "job_id": job_id,
            "action": "chat",
            "input": {"prompt": f"{format_tag((customer.id, job_id, 0))} Hello?"},
            **({"output": {"queue": True, "callback": self.receiver + callback}} if callback else {}),
        }
        return PlannedJob(customer.id, job_id, 1, json.dumps(job).encode())

    async def run(self, *jobs: PlannedJob) -> list[float]:
        """Send jobs and wait for their results; return the seconds from the sending of each to its result."""
        await self.storage.send(jobs)
        await self.results(jobs)
        return [self.storage.result_at[job.key] - self.storage.sent_at[job.key] for job in jobs]

    async def results(self, jobs: Sequence[PlannedJob]) -> None:
        """Wait until each job has a result."""
        await self.storage.wait_until(lambda: all(job.key in self.storage.result_at for job in jobs))

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """Take a callback, or let it hang."""
        if "hang" in request.path:
            await asyncio.sleep(60)
        result = await request.json()
        self.received_at.setdefault((result["customer"], result["job_id"]), time.monotonic())
        return web.Response()


@contextlib.asynccontextmanager
async def open_busy_stack(call_s: float) -> AsyncIterator[BusyStack]:
    """Start the stack; its worker has run a job when the block begins."""
    bypass_proxy_for_loopback()
    heavy, quiet = make_customers(2)
    async with contextlib.AsyncExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="customer-ai-jobs-")))
        account = await parts.enter_async_context(azurite.start())
        vault = await parts.enter_async_context(vault_server.start(folder))
        endpoint = await parts.enter_async_context(ai_endpoint.start(1))
        endpoint.faulty, endpoint.duration_s = False, (call_s, call_s)
        endpoint.accept_key(heavy)
        endpoint.accept_key(quiet)
        await create_storage(account.connection_string)
        await onboard(vault, endpoint.url, heavy, quiet)
        async with vault_client(vault) as client:
            for customer in (heavy, quiet):
                await client.set_secret(f"webhook--{customer.id}", new_secret())
        storage = await parts.enter_async_context(open_storage(account.connection_string))
        stack = BusyStack(endpoint, storage, heavy, quiet)
        stack.receiver = await parts.enter_async_context(serve(stack.receive))
        settings, lines = app_settings(account, vault), list[str]()
        await parts.enter_async_context(hosts.start(1, PROJECT, settings, hosts.free_port(), lines.append))
        collecting = asyncio.create_task(storage.collect())
        try:
            await stack.run(stack.job(quiet, "first"))
            yield stack
        finally:
            collecting.cancel()
            await asyncio.gather(collecting, return_exceptions=True)
