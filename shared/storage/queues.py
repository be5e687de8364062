"""
Azure Queue Storage. The Functions host sends to the results queue by a binding, so only a job that is requeued, or
whose result goes to another queue, sends anything.
"""

from __future__ import annotations

from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING

from shared.storage.account import Account, sdk_errors
from shared.storage.base import MAX_HIDDEN_S
from shared.storage.direct.client import DirectClient
from shared.storage.message_text import encode_text

if TYPE_CHECKING:
    from azure.storage.queue.aio import QueueServiceClient

_HEADERS = {"accept": "application/xml", "content-type": "application/xml"}
_CREATED = 201
_NO_EXPIRY = -1
"""A message's time to live. With the default, seven days, a message that waits longer would be lost."""


class AzureQueues:
    """See `Queues`. Messages are sent as base64."""

    def __init__(self, account: Account) -> None:
        self._account = account

    @cached_property
    def _direct(self) -> DirectClient:
        return self._account.direct("queue")

    @cached_property
    def _service(self) -> QueueServiceClient:
        from azure.storage.queue.aio import QueueServiceClient  # noqa: PLC0415

        settings, options = self._account.settings, self._account.options()
        if settings.connection_string is not None:
            return QueueServiceClient.from_connection_string(settings.connection_string.reveal(), **options)
        return QueueServiceClient(settings.queue_service_uri, credential=self._account.identity(), **options)

    async def send(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        """See `Queues`."""
        text, hidden_s = encode_text(body), ceil(min(delay_s, MAX_HIDDEN_S))
        query = {"visibilitytimeout": str(hidden_s), "messagettl": str(_NO_EXPIRY)}
        message = f"<QueueMessage><MessageText>{text}</MessageText></QueueMessage>".encode()  # no base64 needs escaping
        response = await self._direct.send("POST", f"/{queue}/messages", _HEADERS, message, query)
        if response is not None and response.status == _CREATED:
            return
        client = self._service.get_queue_client(queue)
        with sdk_errors(f"queue {queue}: send"):
            await client.send_message(text, visibility_timeout=hidden_s, time_to_live=_NO_EXPIRY)
