"""
The whole local stack: Storage with its queues and containers, the AI endpoints, Key Vault with the demo's
customers, and, if wanted, Functions hosts that run the app. The only place that knows how they fit together.
"""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from local.paths import PROJECT
from local.stack import ai_endpoint as ai
from local.stack import azurite, hosts
from local.stack.ai_endpoint import Ai
from local.stack.azurite import Azurite
from local.stack.customers import Customer, demo_customers, onboard
from local.stack.hosts import Hosts
from local.stack.processes import Process
from local.vault import server as vault
from local.vault.server import Vault

NAMES = {
    "JOBS_QUEUE": "jobs",
    "RESULTS_QUEUE": "results",
    "CALLBACKS_QUEUE": "callbacks",
    "RESULTS_CONTAINER": "results",
    "INPUT_CONTAINERS": "inputs",
    "TEMPLATES_CONTAINER": "templates",
    "JOBS_TABLE": "jobs",
}


@dataclass(slots=True)
class Stack:
    """A running stack. `hosts` is None when it was started without."""

    storage: Azurite
    ai: Ai
    vault: Vault
    customers: list[Customer]
    hosts: Hosts | None = field(default=None)

    def settings(self) -> dict[str, str]:
        """The app settings that lead the app to this stack."""
        return app_settings(self.storage, self.vault)

    async def broken(self) -> str:
        """Waits until Storage or the AI endpoint has ended by itself, and says so."""

        async def watch(process: Process) -> str:
            return f"{process.name} {await process.ended()}."

        watches = [asyncio.create_task(watch(part.process)) for part in (self.storage, self.ai)]
        try:
            done, _ = await asyncio.wait(watches, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for each in watches:
                each.cancel()


@contextlib.asynccontextmanager
async def start(
    *,
    workers: int = 0,
    port: int | None = None,
    app: Path = PROJECT,
    fixtures: Path = ai.FIXTURES,
    keys: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
    tell: Callable[[str], None] = print,
) -> AsyncIterator[Stack]:
    """
    A stack on free ports, with the demo's customers onboarded, until the block ends.

    `workers` hosts run `app`, the first with HTTP on `port` (a free one if none is given); `keys` are let
    in by the AI endpoint besides the customers'; `settings` are the hosts' beyond the stack's; `tell` gets
    what the hosts print and what becomes of them. Raises Missing, ProcessFailed.
    """
    reach_loopback_directly()
    customers = demo_customers()
    async with contextlib.AsyncExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="customer-ai-jobs-")))
        storage, answers = await _start_both(parts, fixtures, [*(c.key for c in customers), *keys])
        stack = Stack(storage, answers, await parts.enter_async_context(vault.start(folder)), customers)
        await create_storage(storage.connection_string)
        await onboard(stack.vault, answers.url, *customers)
        if workers:
            all_settings = {**stack.settings(), **(settings or {})}
            running = hosts.start(workers, app, all_settings, port or hosts.free_port(), tell)
            stack.hosts = await parts.enter_async_context(running)
        yield stack


def app_settings(storage: Azurite, key_vault: Vault) -> dict[str, str]:
    """The app settings that lead the app to these parts."""
    return {
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "AzureWebJobsStorage": storage.connection_string,
        "JobStorage": storage.connection_string,
        "KEY_VAULT_URL": key_vault.url,
        "KEY_VAULT_CA_FILE": str(key_vault.ca_file),
        "IDENTITY_ENDPOINT": key_vault.identity_endpoint,
        "IDENTITY_HEADER": key_vault.identity_header,
        "ALLOW_LOCAL_ENDPOINTS": "true",
        **NAMES,
    }


async def create_storage(connection_string: str) -> None:
    """The queues, containers and the table that the app expects to find, as the Bicep files do in Azure."""
    queues = QueueServiceClient.from_connection_string(connection_string)
    blobs = BlobServiceClient.from_connection_string(connection_string)
    tables = TableServiceClient.from_connection_string(connection_string)
    async with queues, blobs, tables:
        for name in ("JOBS_QUEUE", "RESULTS_QUEUE", "CALLBACKS_QUEUE"):
            await queues.create_queue(NAMES[name])
        for name in ("JOBS_QUEUE", "CALLBACKS_QUEUE"):
            await queues.create_queue(f"{NAMES[name]}-poison")
        for name in ("RESULTS_CONTAINER", "INPUT_CONTAINERS", "TEMPLATES_CONTAINER"):
            await blobs.create_container(NAMES[name])
        await tables.create_table(NAMES["JOBS_TABLE"])


def reach_loopback_directly() -> None:
    """Keeps the SDKs' calls to this machine, ours and our children's, away from a proxy that is set."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))


async def _start_both(parts: contextlib.AsyncExitStack, fixtures: Path, keys: Sequence[str]) -> tuple[Azurite, Ai]:
    """The two Node processes side by side, since each takes about a second; neither is left running alone."""
    storage = asyncio.create_task(parts.enter_async_context(azurite.start()))
    answers = asyncio.create_task(parts.enter_async_context(ai.start(fixtures, keys)))
    try:
        await asyncio.gather(storage, answers)
    except BaseException:
        storage.cancel()
        answers.cancel()
        await asyncio.gather(storage, answers, return_exceptions=True)
        raise
    return storage.result(), answers.result()
