"""A harness whose Storage is in memory: a job costs a fifth of what it costs on Azurite. Its other parts are real."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from azure.data.tables.aio import TableClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from local.vault.server import Vault
from shared.services import build
from shared.settings import read_settings
from tests.support.endpoint import Endpoint
from tests.support.fakes import MemoryQueues
from tests.support.harness import Harness, environment_of
from tests.support.workers import Memory, open_worker


class TimedQueues(MemoryQueues):
    """Queues in memory. In the place of its delay, `sent` has the monotonic time at which a message becomes visible."""

    async def send(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        """See Queues."""
        await super().send(queue, body, delay_s=delay_s)
        self.sent[queue][-1] = (body, time.monotonic() + delay_s)


@dataclass(repr=False)
class MemoryHarness(Harness):
    """See `Harness`. It has no clients for Storage: tests use those of its services."""

    memory: Memory

    async def rows(self, partition: str) -> list[dict[str, Any]]:
        """See Harness."""
        rows = self.memory.table.rows
        keys = sorted(key for owner, key in rows if owner == partition)
        return [{**rows[partition, key].values, "PartitionKey": partition, "RowKey": key} for key in keys]

    async def write_blob(self, container: str, name: str, data: bytes) -> None:
        """See Harness."""
        await self.memory.blobs.write(container, name, data, "application/octet-stream")

    async def messages(self, queue: str) -> list[bytes]:
        """See Harness."""
        now, messages = time.monotonic(), self.memory.queues.sent.pop(queue, [])
        self.memory.queues.sent[queue] = [message for message in messages if message[1] > now]
        return [body for body, visible_at in messages if visible_at <= now]


@asynccontextmanager
async def open_memory_harness(vault: Vault, endpoint: Endpoint, **settings: str) -> AsyncIterator[MemoryHarness]:
    """Return a harness with a Storage of its own. `settings` replace and add app settings."""
    environment = environment_of("UseDevelopmentStorage=true", vault) | settings
    built, memory = build(read_settings(environment)), Memory(queues=TimedQueues())
    names = ("connections", "identity", "sdk", "pool", "vault", "telemetry", "breakers")
    parts = {name: getattr(built, name) for name in names}
    worker = open_worker(endpoint, built.client, memory=memory, settings=built.settings, **parts)
    table, blobs, queues = cast(TableClient, None), cast(BlobServiceClient, None), cast(QueueServiceClient, None)
    try:
        yield MemoryHarness(worker.services, vault, endpoint, table, blobs, queues, environment, memory)
    finally:
        await built.close()
