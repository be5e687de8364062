"""
The whole local stack: Storage with its queues and containers, the AI endpoints, Key Vault with the demo's customers,
and optionally Functions hosts that run the app. The only module that knows how they fit together.
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
from local.provider import server as provider_server
from local.provider.account import Style
from local.provider.server import Endpoint
from local.provider.webhooks import subscribe
from local.stack import ai_endpoint, azurite, hosts
from local.stack.ai_endpoint import AiEndpoint
from local.stack.azurite import Azurite
from local.stack.customers import (
    Customer,
    demo_customers,
    onboard,
    vault_client,
    with_claude,
    with_patient_claude,
)
from local.stack.hosts import Hosts
from local.stack.processes import Process
from local.vault import server as vault_server
from local.vault.server import Vault

NAMES = {
    "JOBS_QUEUE": "jobs",
    "RESULTS_QUEUE": "results",
    "CALLBACKS_QUEUE": "callbacks",
    "BATCHES_QUEUE": "batches",
    "RESULTS_CONTAINER": "results",
    "INPUT_CONTAINERS": "inputs",
    "TEMPLATES_CONTAINER": "templates",
    "STATEMENTS_CONTAINER": "statements",
    "JOBS_TABLE": "jobs",
}
PATIENT = "patient"
"""The connection of each customer to the endpoint with batches."""
CLAUDE, PATIENT_CLAUDE = "claude", "patient-claude"
"""The connections of one of them to Claude, and to its batches."""


@dataclass(slots=True)
class Stack:
    """A running stack. `hosts` is None if it was started without hosts."""

    storage: Azurite
    ai: AiEndpoint
    vault: Vault
    customers: list[Customer]
    provider: Endpoint
    """With batches; in this process. Its accounts have the customers' keys."""
    hosts: Hosts | None = field(default=None)

    def settings(self) -> dict[str, str]:
        """The app settings of an app that uses this stack."""
        return app_settings(self.storage, self.vault)

    async def broken(self) -> str:
        """Wait until Storage or the AI endpoint ends by itself. Returns a sentence that says which, and how."""

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
    fixtures: Path = ai_endpoint.FIXTURES,
    keys: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = print,
) -> AsyncIterator[Stack]:
    """
    A stack on free ports, with the demo's customers in its vault, until the block ends.

    `workers` hosts run `app`, the first one with HTTP on `port` (a free port if left out). The AI endpoint accepts
    `keys` besides those of the customers. `settings` are for the hosts, in addition to the stack's. `on_line` is
    called with each line that the hosts print and with their restarts. Raises NotInstalled, ProcessFailed.
    """
    bypass_proxy_for_loopback()
    customers = demo_customers()
    async with contextlib.AsyncExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="customer-ai-jobs-")))
        storage, ai = await _start_node_processes(parts, fixtures, [*(c.key for c in customers), *keys])
        vault = await parts.enter_async_context(vault_server.start(folder))
        provider = await parts.enter_async_context(provider_server.start())
        stack = Stack(storage, ai, vault, customers, provider)
        await create_storage(storage.connection_string)
        await onboard(vault, ai.url, *customers)
        await onboard(vault, ai.url, with_claude(customers), connection=CLAUDE)
        patient_claude = with_patient_claude(customers)
        add_accounts(provider, *customers, patient_claude)
        await onboard(vault, provider.url, *customers, connection=PATIENT)
        await onboard(vault, provider.url, patient_claude, connection=PATIENT_CLAUDE)
        if workers:
            all_settings = {**stack.settings(), **(settings or {})}
            port = port or hosts.free_port()
            await send_events(provider, vault, f"http://127.0.0.1:{port}", *customers)
            running = hosts.start(workers, app, all_settings, port, on_line)
            stack.hosts = await parts.enter_async_context(running)
        yield stack


def add_accounts(provider: Endpoint, *customers: Customer) -> None:
    """Add an account of each customer to the endpoint with batches: its key, and its provider's ways."""
    styles: dict[str, Style] = {"openai": "openai", "anthropic": "anthropic"}
    for each in customers:
        older = "/deployments/" in each.path
        style = styles.get(each.settings["provider"], "azure")
        provider.account(each.key, style, name=each.id, azure_objects=older)


async def send_events(provider: Endpoint, vault: Vault, app_url: str, *customers: Customer) -> None:
    """Have the accounts send their events to the app, as an operator sets it up for each connection."""
    async with vault_client(vault) as client:
        for each in customers:
            url = f"{app_url}/api/provider-events/{each.id}/{PATIENT}"
            made = subscribe(provider.accounts[each.key], url)
            await client.set_secret(f"events--{each.id}--{PATIENT}", made.secret)


def app_settings(storage: Azurite, vault: Vault) -> dict[str, str]:
    """The app settings of an app that uses this Storage and this vault."""
    return {
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": "16842752",  # the largest body that the app takes
        "AzureWebJobsStorage": storage.connection_string,
        "JobStorage": storage.connection_string,
        "KEY_VAULT_URL": vault.url,
        "KEY_VAULT_CA_FILE": str(vault.ca_file),
        "IDENTITY_ENDPOINT": vault.identity_endpoint,
        "IDENTITY_HEADER": vault.identity_header,
        "ALLOW_LOCAL_ENDPOINTS": "true",
        "BATCH_WINDOW_S": "1",
        "MCP_ENABLED": "true",
        **NAMES,
    }


async def create_storage(connection_string: str) -> None:
    """Create the queues, containers and the table that the app needs, as the Bicep files do in Azure."""
    queues = QueueServiceClient.from_connection_string(connection_string)
    blobs = BlobServiceClient.from_connection_string(connection_string)
    tables = TableServiceClient.from_connection_string(connection_string)
    async with queues, blobs, tables:
        for name in ("JOBS_QUEUE", "RESULTS_QUEUE", "CALLBACKS_QUEUE", "BATCHES_QUEUE"):
            await queues.create_queue(NAMES[name])
        for name in ("JOBS_QUEUE", "CALLBACKS_QUEUE", "BATCHES_QUEUE"):
            await queues.create_queue(f"{NAMES[name]}-poison")
        for name in ("RESULTS_CONTAINER", "INPUT_CONTAINERS", "TEMPLATES_CONTAINER", "STATEMENTS_CONTAINER"):
            await blobs.create_container(NAMES[name])
        await tables.create_table(NAMES["JOBS_TABLE"])


def bypass_proxy_for_loopback() -> None:
    """Keep requests of this process and its children to this machine away from a configured proxy."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))


async def _start_node_processes(
    parts: contextlib.AsyncExitStack, fixtures: Path, keys: Sequence[str]
) -> tuple[Azurite, AiEndpoint]:
    """Azurite and the AI endpoint, started concurrently (each takes about a second). If one fails, the other stops."""
    storage = asyncio.create_task(parts.enter_async_context(azurite.start()))
    ai = asyncio.create_task(parts.enter_async_context(ai_endpoint.start(fixtures, keys)))
    try:
        await asyncio.gather(storage, ai)
    except BaseException:
        storage.cancel()
        ai.cancel()
        await asyncio.gather(storage, ai, return_exceptions=True)
        raise
    return storage.result(), ai.result()
