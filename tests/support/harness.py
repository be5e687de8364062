"""The app's services on Azurite, the vault stand-in and an AI endpoint, and how tests use them."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from azure.data.tables.aio import TableClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared.jobs.message import Delivery
from shared.services import Services, build
from shared.settings import read_settings
from shared.storage.base import Row
from tests.support import customers
from tests.support.counted_records import counted
from tests.support.endpoint import Endpoint


@dataclass
class Customer(customers.Customer):
    """A customer whose connection is in the vault, and whose jobs run in the harness."""

    harness: Harness

    async def run(self, body: bytes | None = None, *, message_id: str = "", **members: Any) -> dict[str, Any]:
        """As `deliver`, decoded; fails if nothing is published."""
        return dict(decoded(await self.deliver(body, message_id=message_id, **members)))

    async def deliver(self, body: bytes | None = None, *, message_id: str = "", **members: Any) -> bytes | None:
        """Process one message as the trigger does, and return the result that is published."""
        data = self.body(**members) if body is None else body
        return await self.harness.services.worker.process(delivery(data, message_id))

    async def queued(self) -> list[bytes]:
        """Take all messages out of the jobs queue, and return this customer's."""
        messages = await self.harness.messages(self.harness.environment["JOBS_QUEUE"])
        return [body for body in messages if json.loads(body)["customer"] == self.name]

    async def usage(self) -> list[dict[str, Any]]:
        """Return the customer's usage records that count, in the order of their keys."""
        return [dict(row.values) for row in counted(Row(self.name, row["RowKey"], row) for row in await self.rows())]

    async def rows(self) -> list[dict[str, Any]]:
        """Return all rows of the customer's partition."""
        return await self.harness.rows(self.name)


@dataclass(repr=False)  # asyncio logs the arguments of each test's fixtures, which takes seconds with all accounts
class Harness:
    """The parts, and the names of their queues, containers and table in `environment`."""

    services: Services
    vault: Vault
    endpoint: Endpoint
    table: TableClient
    blobs: BlobServiceClient
    queues: QueueServiceClient
    environment: dict[str, str]

    def customer(self, *, connection: str | None = "default", **secret: Any) -> Customer:
        """Return a new customer; `secret` are members of its connection beyond endpoint, key and provider."""
        customer = Customer(f"c-{uuid.uuid4().hex[:12]}", self.endpoint.account(), self)
        if connection is not None:
            self.connect(customer, connection, **secret)
        return customer

    def connect(self, customer: Customer, connection: str = "default", **secret: Any) -> None:
        """Put a connection into the vault, or a new version of one."""
        self.put_secret(f"ai--{customer.name}--{connection}", customer.secret(**secret))

    def put_secret(self, name: str, value: str, **attributes: Any) -> None:
        """Put a secret into the vault; `attributes` are its `tags` and `attributes`."""
        self.vault.secrets.put(name, value, **attributes)

    async def deliver(self, body: bytes) -> bytes | None:
        """Process one message as the trigger does, and return the result that is published."""
        return await self.services.worker.process(delivery(body))

    async def rows(self, partition: str) -> list[dict[str, Any]]:
        """Return all rows of a partition."""
        query = self.table.query_entities("PartitionKey eq @p", parameters={"p": partition})
        return [dict(entity) async for entity in query]

    async def write_blob(self, container: str, name: str, data: bytes) -> None:
        """Write a blob with the harness's own client, which no fault of the app's Storage meets."""
        await self.blobs.get_blob_client(container, name).upload_blob(data, overwrite=True)

    async def messages(self, queue: str) -> list[bytes]:
        """Take the visible messages out of a queue, and return them."""
        client = self.queues.get_queue_client(queue)
        taken = []
        async for message in client.receive_messages(messages_per_page=32):
            taken.append(base64.b64decode(message.content))
            await client.delete_message(message)
        return taken


def delivery(body: bytes, message_id: str = "") -> Delivery:
    """Return a message as the queue delivers it; it was submitted just now."""
    return Delivery(body, message_id or str(uuid.uuid4()), datetime.now(UTC))


def environment_of(storage: str, vault: Vault) -> dict[str, str]:
    """Return the app settings of a harness with names of its own."""
    own = uuid.uuid4().hex[:8]
    return {
        "JobStorage": storage,
        "KEY_VAULT_URL": vault.url,
        "KEY_VAULT_CA_FILE": str(vault.ca_file),
        "ALLOW_LOCAL_ENDPOINTS": "true",
        "JOBS_QUEUE": f"jobs-{own}",
        "RESULTS_QUEUE": f"results-{own}",
        "ALLOWED_RESULT_QUEUES": f"special-{own}",
        "CALLBACKS_QUEUE": f"callbacks-{own}",
        "BATCHES_QUEUE": f"batches-{own}",
        "RESULTS_CONTAINER": f"results-{own}",
        "INPUT_CONTAINERS": f"inputs-{own}",
        "TEMPLATES_CONTAINER": f"templates-{own}",
        "STATEMENTS_CONTAINER": f"statements-{own}",
        "JOBS_TABLE": f"jobs{own}",
    }


@asynccontextmanager
async def open_harness(azurite: Azurite, vault: Vault, endpoint: Endpoint, **settings: str) -> AsyncIterator[Harness]:
    """Return a harness with its own queues, containers and table. `settings` replace and add app settings."""
    environment = environment_of(azurite.connection_string, vault) | settings
    table = TableClient.from_connection_string(azurite.connection_string, environment["JOBS_TABLE"])
    blobs = BlobServiceClient.from_connection_string(azurite.connection_string)
    queues = QueueServiceClient.from_connection_string(azurite.connection_string)
    async with table, blobs, queues:
        await table.create_table()
        for queue in ("JOBS_QUEUE", "RESULTS_QUEUE", "ALLOWED_RESULT_QUEUES", "CALLBACKS_QUEUE", "BATCHES_QUEUE"):
            await queues.create_queue(environment[queue])
        for queue in ("JOBS_QUEUE", "CALLBACKS_QUEUE", "BATCHES_QUEUE"):
            await queues.create_queue(f"{environment[queue]}-poison")
        for container in ("RESULTS_CONTAINER", "INPUT_CONTAINERS", "TEMPLATES_CONTAINER", "STATEMENTS_CONTAINER"):
            await blobs.create_container(environment[container])
        services = build(read_settings(environment))
        try:
            yield Harness(services, vault, endpoint, table, blobs, queues, environment)
        finally:
            await services.close()


@asynccontextmanager
async def with_own_table(harness: Harness, *settings: str) -> AsyncIterator[Harness]:
    """
    Return a harness with an empty table, and a queue or container of its own for each of the settings, and all else of
    another one: it makes as many requests, where `open_harness` makes 13.
    """
    own = uuid.uuid4().hex[:8]
    names = {setting: f"{setting.partition('_')[0].lower()}-{own}" for setting in settings}
    environment = {**harness.environment, "JOBS_TABLE": f"jobs{own}", **names}
    for setting, name in names.items():
        queue = setting.endswith("_QUEUE")
        await (harness.queues.create_queue(name) if queue else harness.blobs.create_container(name))
    async with TableClient.from_connection_string(environment["JobStorage"], environment["JOBS_TABLE"]) as table:
        await table.create_table()
        services = build(read_settings(environment))
        try:
            yield replace(harness, services=services, table=table, environment=environment)
        finally:
            await services.close()


def decoded(result_body: bytes | None) -> Mapping[str, Any]:
    """Return a result, decoded; fails if there is none."""
    assert result_body is not None
    return json.loads(result_body)
