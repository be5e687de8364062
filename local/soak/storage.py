"""Storage as a soak uses it, with Azure's own clients: jobs in, results out, and what the app has kept."""

import asyncio
import contextlib
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from local.soak.evidence import Row, Told
from local.soak.plan import Planned
from local.stack.stack import NAMES

SENDERS = 16
_PAUSE_S = 0.05


class Storage:
    """An account's queues, table and blobs. `told` and `sent_at` grow; times are on `time.monotonic`."""

    def __init__(self, queues: QueueServiceClient, tables: TableServiceClient, blobs: BlobServiceClient) -> None:
        self.told: list[Told] = []
        self.answered: dict[tuple[str, str], float] = {}
        """When each job was first told."""
        self._news = asyncio.Event()
        self.sent_at: dict[tuple[str, str], float] = {}
        self._queues = queues
        self._tables = tables
        self._blobs = blobs

    async def send(self, jobs: Sequence[Planned]) -> None:
        """Puts messages into the jobs queue, in about their order."""
        queue = self._queues.get_queue_client(NAMES["JOBS_QUEUE"])
        left = iter(jobs)

        async def work() -> None:
            for job in left:
                self.sent_at.setdefault(job.key, time.monotonic())
                await queue.send_message(b64encode(job.body).decode())

        await asyncio.gather(*(work() for _ in range(SENDERS)))

    async def gather(self) -> None:
        """Takes results off their queue, until cancelled."""
        queue = self._queues.get_queue_client(NAMES["RESULTS_QUEUE"])
        while True:
            messages = [message async for message in queue.receive_messages(messages_per_page=32, max_messages=32)]
            at = time.monotonic()
            for message in messages:
                told = Told(b64decode(message.content), at)
                self.told.append(told)
                self.answered.setdefault(told.key, at)
            if messages:
                self._news.set()
                self._news = asyncio.Event()
            await asyncio.gather(*(self._delete(queue, message) for message in messages))
            if not messages:
                await asyncio.sleep(_PAUSE_S)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until so many jobs are told that `condition` holds."""
        while not condition():
            await self._news.wait()

    async def waiting(self, *names: str) -> int:
        """How many messages are in queues, hidden ones too, by their settings' names."""
        queues = [self._queues.get_queue_client(name) for name in names]
        found = await asyncio.gather(*(queue.get_queue_properties() for queue in queues))
        return sum(each.approximate_message_count or 0 for each in found)

    async def rows(self, first: str, beyond: str) -> list[Row]:
        """The rows of all customers whose key is at least `first` and below `beyond`."""
        table = self._tables.get_table_client(NAMES["JOBS_TABLE"])
        query = f"RowKey ge '{first}' and RowKey lt '{beyond}'"
        return [dict(row) async for row in table.query_entities(query, results_per_page=1000)]

    async def read_blobs(self, named: Iterable[dict[str, Any]]) -> dict[str, bytes | None]:
        """The blobs that results name, None for what is not there."""
        left = iter({blob["name"]: blob["container"] for blob in named}.items())
        found: dict[str, bytes | None] = {}

        async def work() -> None:
            for name, container in left:
                try:
                    stream = await self._blobs.get_blob_client(container, name).download_blob()
                    found[name] = await stream.readall()
                except ResourceNotFoundError:
                    found[name] = None

        await asyncio.gather(*(work() for _ in range(SENDERS)))
        return found

    @staticmethod
    async def _delete(queue: QueueClient, message: QueueMessage) -> None:
        with contextlib.suppress(ResourceNotFoundError):  # the SDK asks again after an answer that got lost
            await queue.delete_message(message)


@contextlib.asynccontextmanager
async def open_storage(connection_string: str) -> AsyncIterator[Storage]:
    """The account's clients, until the block ends."""
    queues = QueueServiceClient.from_connection_string(connection_string)
    tables = TableServiceClient.from_connection_string(connection_string)
    blobs = BlobServiceClient.from_connection_string(connection_string)
    async with queues, tables, blobs:
        yield Storage(queues, tables, blobs)
