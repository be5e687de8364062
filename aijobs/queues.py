"""Queues as an operator uses them: count, peek, receive, delete. The app itself only sends."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from azure.core.exceptions import AzureError
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient

from shared.services import Services
from shared.storage.account import storage_error
from shared.storage.message_text import decode_text, encode_text

MAX_PEEKED = 32
"""Messages that one peek returns at most (learn.microsoft.com/rest/api/storageservices/peek-messages)."""
_HIDDEN_S = 60
_TEST_HIDDEN_S = 300


@dataclass(frozen=True, slots=True)
class Message:
    """A message."""

    id: str
    body: bytes
    inserted_at: datetime
    received: Any = None
    """The SDK's message, which holds the receipt of a received one."""


class Queue:
    """One queue. Raises StorageUnavailable."""

    def __init__(self, client: QueueClient, name: str) -> None:
        self._client = client
        self.name = name

    async def count(self) -> tuple[int, datetime | None]:
        """Return the approximate number of messages, and the time by Storage's clock."""
        dates: list[str] = []
        with _map_errors(f"queue {self.name}: count"):
            properties = await self._client.get_queue_properties(
                raw_response_hook=lambda response: dates.append(response.http_response.headers.get("Date", ""))
            )
        return properties.approximate_message_count or 0, _parse_date(dates[-1] if dates else "")

    async def peek(self) -> list[Message]:
        """Return the first visible messages, MAX_PEEKED at most."""
        with _map_errors(f"queue {self.name}: peek"):
            return [_message(item) for item in await self._client.peek_messages(max_messages=MAX_PEEKED)]

    async def receive(self) -> AsyncIterator[Message]:
        """Yield all visible messages. Each is hidden from other readers for a minute."""
        with _map_errors(f"queue {self.name}: receive"):
            pages = self._client.receive_messages(messages_per_page=MAX_PEEKED, visibility_timeout=_HIDDEN_S)
            async for item in pages:
                yield _message(item)

    async def delete(self, message: Message) -> None:
        """Delete a received message."""
        with _map_errors(f"queue {self.name}: delete"):
            await self._client.delete_message(message.received)

    async def release(self, message: Message) -> None:
        """Make a received message visible again."""
        with _map_errors(f"queue {self.name}: update"):
            await self._client.update_message(message.received, visibility_timeout=0)

    async def check_sending(self) -> None:
        """Send a message that no reader can see, and delete it."""
        with _map_errors(f"queue {self.name}: send"):
            sent = await self._client.send_message(
                encode_text(b"{}"), visibility_timeout=_TEST_HIDDEN_S, time_to_live=_TEST_HIDDEN_S + 1
            )
            await self._client.delete_message(sent)


@contextlib.asynccontextmanager
async def open_queue(services: Services, name: str) -> AsyncIterator[Queue]:
    """Open a queue in the job storage."""
    account = services.settings.job_storage
    transport = services.sdk.transport()
    options: dict[str, Any] = {"transport": transport, "retry_total": 2, "initial_backoff": 0.3, "increment_base": 1}
    if account.connection_string is not None:
        client = QueueClient.from_connection_string(account.connection_string.reveal(), name, **options)
    else:
        credential = services.identity.credential(account.client_id)
        client = QueueClient(account.queue_service_uri, name, credential=credential, **options)
    yield Queue(client, name)


@contextlib.contextmanager
def _map_errors(operation: str) -> Iterator[None]:
    """Raise the SDK's errors as the app's own."""
    try:
        yield
    except AzureError as exc:
        raise storage_error(operation, exc) from exc


def _message(item: QueueMessage) -> Message:
    return Message(item.id, decode_text((item.content or "").encode()), item.inserted_on or datetime.now(UTC), item)


def _parse_date(text: str) -> datetime | None:
    return parsedate_to_datetime(text) if text else None
