"""Queues as an operator sees them: counted, peeked at, emptied. The app itself only sends."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from azure.core.exceptions import AzureError
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient

from shared.services import Services
from shared.storage.account import unavailable

PEEKED = 32
"""Messages that Storage shows at most at once (learn.microsoft.com/rest/api/storageservices/peek-messages)."""
_HIDDEN_S = 60
_TRIAL_S = 300


@dataclass(frozen=True, slots=True)
class Message:
    """A message. `body` is None where its text is not base64."""

    id: str
    body: bytes | None
    inserted_at: datetime
    taken: Any = None


class Queue:
    """One queue. Raises StorageUnavailable."""

    def __init__(self, client: QueueClient, name: str) -> None:
        self._client = client
        self.name = name

    async def count(self) -> tuple[int, datetime | None]:
        """About how many messages there are, and the time by Storage's clock."""
        told: list[str] = []
        with _mapped(f"queue {self.name}: count"):
            properties = await self._client.get_queue_properties(
                raw_response_hook=lambda answer: told.append(answer.http_response.headers.get("Date", ""))
            )
        return properties.approximate_message_count or 0, _date(told[-1] if told else "")

    async def peek(self) -> list[Message]:
        """The first PEEKED messages that can be seen."""
        with _mapped(f"queue {self.name}: peek"):
            return [_message(one) for one in await self._client.peek_messages(max_messages=PEEKED)]

    async def take(self) -> AsyncIterator[Message]:
        """All messages that can be seen, hidden from others for a minute each."""
        with _mapped(f"queue {self.name}: receive"):
            async for one in self._client.receive_messages(messages_per_page=PEEKED, visibility_timeout=_HIDDEN_S):
                yield _message(one)

    async def delete(self, message: Message) -> None:
        """Deletes a message that was taken."""
        with _mapped(f"queue {self.name}: delete"):
            await self._client.delete_message(message.taken)

    async def show_again(self, message: Message) -> None:
        """Lets others see a message that was taken."""
        with _mapped(f"queue {self.name}: update"):
            await self._client.update_message(message.taken, visibility_timeout=0)

    async def try_sending(self) -> None:
        """Adds a message that nobody can see, and deletes it."""
        with _mapped(f"queue {self.name}: send"):
            sent = await self._client.send_message("e30=", visibility_timeout=_TRIAL_S, time_to_live=_TRIAL_S + 1)
            await self._client.delete_message(sent)


@asynccontextmanager
async def opened_queue(services: Services, name: str) -> AsyncIterator[Queue]:
    """A queue of the job storage."""
    account = services.settings.job_storage
    transport = AioHttpTransport(session=services.session, session_owner=False)
    options: dict[str, Any] = {"transport": transport, "retry_total": 2, "initial_backoff": 0.3, "increment_base": 1}
    if account.connection_string is not None:
        client = QueueClient.from_connection_string(account.connection_string.reveal(), name, **options)
    else:
        credential = services.identity.credential(account.client_id)
        client = QueueClient(account.queue_service_uri, name, credential=credential, **options)
    yield Queue(client, name)


class _mapped:  # noqa: N801  # reads as a word where it is used
    """Tells an SDK's error in the app's words."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> None:
        if isinstance(exc, AzureError):
            raise unavailable(self._what, exc) from exc


def _message(one: QueueMessage) -> Message:
    try:
        body = base64.b64decode(one.content, validate=True)
    except (binascii.Error, ValueError):
        body = None
    return Message(one.id, body, one.inserted_on or datetime.now(UTC), one)


def _date(text: str) -> datetime | None:
    return parsedate_to_datetime(text) if text else None
