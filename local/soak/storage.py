"""Storage as a soak uses it, with Azure's own clients: sends jobs, collects results, reads the app's rows and blobs."""

import asyncio
import contextlib
import hashlib
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

from azure.core.exceptions import ResourceNotFoundError
from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from local.soak.evidence import ResultMessage, Row, StoredBlob
from local.soak.plan import PlannedJob
from local.stack.stack import NAMES

CONCURRENCY = 16
HEAD_BYTES = 65_536
"""As much of a blob as is searched for the answer in it."""
_POLL_S = 0.05


class Storage:
    """An account's queues, table and blobs. `messages`, `sent_at` and `result_at` grow; times are `time.monotonic`."""

    def __init__(
        self,
        queues: QueueServiceClient,
        results: QueueServiceClient,
        tables: TableServiceClient,
        blobs: BlobServiceClient,
    ) -> None:
        self.messages: list[ResultMessage] = []
        self.sent_at: dict[tuple[str, str], float] = {}
        self.result_at: dict[tuple[str, str], float] = {}
        """When the first result of each job arrived."""
        self._arrival = asyncio.Event()
        self._queues = queues
        self._results = results
        self._tables = tables
        self._blobs = blobs

    async def send(self, jobs: Sequence[PlannedJob]) -> None:
        """Send messages to the jobs queue, nearly in their order."""
        queue = self._queues.get_queue_client(NAMES["JOBS_QUEUE"])
        remaining = iter(jobs)

        async def work() -> None:
            for job in remaining:
                self.sent_at.setdefault(job.key, time.monotonic())
                await queue.send_message(b64encode(job.body).decode())

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))

    async def send_text(self, text: str) -> str:
        """Send a message as it is. Returns its id."""
        sent = await self._queues.get_queue_client(NAMES["JOBS_QUEUE"]).send_message(text)
        return str(sent.id)

    async def collect(self) -> None:
        """Receive and delete results, until cancelled."""
        queue = self._results.get_queue_client(NAMES["RESULTS_QUEUE"])
        while True:
            received = [message async for message in queue.receive_messages(messages_per_page=32, max_messages=32)]
            at = time.monotonic()
            for each in received:
                message = ResultMessage(b64decode(each.content), at)
                self.messages.append(message)
                self.result_at.setdefault(message.key, at)
            if received:
                self._arrival.set()
                self._arrival = asyncio.Event()
            await asyncio.gather(*(self._delete(queue, each) for each in received))
            if not received:
                await asyncio.sleep(_POLL_S)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition`, which depends on the results so far, is true."""
        while not condition():
            await self._arrival.wait()

    async def count_messages(self, *names: str) -> int:
        """The number of messages in queues, with the invisible ones."""
        queues = [self._queues.get_queue_client(name) for name in names]
        properties = await asyncio.gather(*(queue.get_queue_properties() for queue in queues))
        return sum(each.approximate_message_count or 0 for each in properties)

    async def has_visible_jobs(self) -> bool:
        """Whether a message of the jobs queue waits to be received."""
        return bool(await self._queues.get_queue_client(NAMES["JOBS_QUEUE"]).peek_messages())

    async def rows(self, prefix: str) -> list[Row]:
        """The rows of all customers whose key begins with `prefix` and an underscore."""
        table = self._tables.get_table_client(NAMES["JOBS_TABLE"])
        query = f"RowKey ge '{prefix}_' and RowKey lt '{prefix}`'"  # ` follows _ in ASCII
        return [dict(row) async for row in table.query_entities(query, results_per_page=1000)]

    async def read_blobs(self, blobs: Iterable[dict[str, Any]]) -> dict[str, StoredBlob | None]:
        """Blobs by name, with None for a missing one."""
        remaining = iter({blob["name"]: blob["container"] for blob in blobs}.items())
        stored: dict[str, StoredBlob | None] = {}

        async def work() -> None:
            for name, container in remaining:
                try:
                    stored[name] = await self._read(container, name)
                except ResourceNotFoundError:
                    stored[name] = None

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
        return stored

    async def _read(self, container: str, name: str) -> StoredBlob:
        stream = await self._blobs.get_blob_client(container, name).download_blob()
        size, digest, head = 0, hashlib.sha256(), b""
        async for chunk in stream.chunks():
            size += len(chunk)
            digest.update(chunk)
            head += chunk[: HEAD_BYTES - len(head)]
        return StoredBlob(size, digest.hexdigest(), head)

    @staticmethod
    async def _delete(queue: QueueClient, message: QueueMessage) -> None:
        with contextlib.suppress(ResourceNotFoundError):  # the SDK retries after a response that was lost
            await queue.delete_message(message)


@contextlib.asynccontextmanager
async def open_storage(connection_string: str) -> AsyncIterator[Storage]:
    """The account's clients, until the block ends."""
    queues = QueueServiceClient.from_connection_string(connection_string)
    results = QueueServiceClient.from_connection_string(connection_string)  # no sender takes its connections
    tables = TableServiceClient.from_connection_string(connection_string)
    blobs = BlobServiceClient.from_connection_string(connection_string)
    async with queues, results, tables, blobs:
        yield Storage(queues, results, tables, blobs)
