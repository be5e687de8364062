"""The stack of a soak: Storage, the vault, the endpoint that fails, and workers; and all evidence of what they did."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from local.paths import PROJECT
from local.soak import endpoint as ai_endpoint
from local.soak.endpoint import FaultyEndpoint
from local.soak.evidence import Evidence, blobs_of, counted_records
from local.soak.log import Log
from local.soak.plan import PlannedJob
from local.soak.storage import Storage, open_storage
from local.stack import azurite, hosts
from local.stack.customers import Customer, onboard
from local.stack.stack import NAMES, app_settings, bypass_proxy_for_loopback, create_storage
from local.vault import server as vault_server
from local.vault.server import Vault

LEASE_S = 10
"""The shortest lease that the app accepts: after this time another worker takes over a dead worker's job."""
VISIBILITY_TIMEOUT_S = 8
"""Seconds after which a dead host's messages are visible again; Azure has 600."""
_SETTINGS = {
    "LEASE_SECONDS": str(LEASE_S),
    "AzureFunctionsJobHost__extensions__queues__visibilityTimeout": "00:00:05",
}
_QUEUES = (NAMES["JOBS_QUEUE"], f"{NAMES['JOBS_QUEUE']}-poison", NAMES["RESULTS_QUEUE"])


@dataclass(slots=True)
class SoakStack:
    """A running stack, with the customers in its vault. Results are collected as they come."""

    endpoint: FaultyEndpoint
    vault: Vault
    workers: hosts.Hosts
    storage: Storage
    http: aiohttp.ClientSession
    log: Log
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    async def drained(self) -> None:
        """Wait until duplicates are processed, too, and the endpoint has ended every request."""
        while await self.storage.count_messages(*_QUEUES) or self.endpoint.journal.in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0.2)

    async def evidence(self, planned: Sequence[PlannedJob], kills: Sequence[float] = ()) -> Evidence:
        """All evidence until now."""
        messages = list(self.storage.messages)
        blobs = await self.storage.read_blobs(blob for each in messages for blob in blobs_of(each.result))
        usage = counted_records(await self.storage.rows("u"), await self.storage.rows("m"))
        jobs = await self.storage.rows("j")
        statements = await self._statements(sorted({job.customer for job in planned if job.in_ledger}))
        entries = list(self.endpoint.journal.entries)
        return Evidence(planned, messages, entries, usage, jobs, blobs, statements, list(kills), self.log.errors)

    async def _statements(self, customers: Sequence[str]) -> list[dict[str, Any]]:
        """Each customer's statements, as the app's route returns them."""
        months = sorted({f"{at:%Y-%m}" for at in (self.started, datetime.now(UTC))})
        statements = []
        for customer in customers:
            for month in months:
                url = f"{self.workers.url}/api/customers/{customer}/usage?month={month}&by=month"
                async with self.http.get(url, raise_for_status=True) as response:
                    statements.append(await response.json())
        return statements


@contextlib.asynccontextmanager
async def open_stack(seed: int, customers: Sequence[Customer], workers: int) -> AsyncIterator[SoakStack]:
    """A new stack, until the block ends. Raises NotInstalled, ProcessFailed."""
    bypass_proxy_for_loopback()
    async with contextlib.AsyncExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="customer-ai-jobs-")))
        account = await parts.enter_async_context(azurite.start(folder / "azurite"))
        vault = await parts.enter_async_context(vault_server.start(folder))
        endpoint = await parts.enter_async_context(ai_endpoint.start(seed))
        for customer in customers:
            endpoint.accept_key(customer)
        await create_storage(account.connection_string)
        await onboard(vault, endpoint.url, *customers)
        settings = app_settings(account, vault) | _SETTINGS
        log = Log()
        port = hosts.free_port()
        starting = hosts.start(workers, PROJECT, settings, port, log.read, visibility_timeout_s=VISIBILITY_TIMEOUT_S)
        running = await parts.enter_async_context(starting)
        storage = await parts.enter_async_context(open_storage(account.connection_string))
        connector = aiohttp.TCPConnector(limit=0)
        http = await parts.enter_async_context(aiohttp.ClientSession(connector=connector))
        stack = SoakStack(endpoint, vault, running, storage, http, log)
        async with asyncio.TaskGroup() as group:  # if the collection fails, the soak does
            collecting = group.create_task(storage.collect())
            yield stack
            collecting.cancel()
