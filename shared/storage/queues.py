"""
Azure Queue Storage as `stores.Queues`. Its SDK is imported on first use: the results queue is the
host's own binding, so only a job that is put back, or told elsewhere, needs it.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError

from shared.storage.account import Account, unavailable

if TYPE_CHECKING:
    from azure.storage.queue.aio import QueueServiceClient

_FOR_EVER = -1
"""A message's life. The default of seven days would lose what waits longer."""
_LONGEST_DELAY_S = 7 * 24 * 3600
"""Of Queue Storage (learn.microsoft.com/rest/api/storageservices/put-message)."""


class AzureQueues:
    """See `stores.Queues`. Messages are written as base64, as host.json's `messageEncoding` says."""

    def __init__(self, account: Account) -> None:
        self._account = account

    @cached_property
    def _service(self) -> QueueServiceClient:
        from azure.storage.queue.aio import QueueServiceClient  # noqa: PLC0415

        settings, options = self._account.settings, self._account.options()
        if settings.connection_string is not None:
            return QueueServiceClient.from_connection_string(settings.connection_string.reveal(), **options)
        return QueueServiceClient(settings.queue_service_uri, credential=self._account.identity(), **options)

    async def send(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        """See `stores.Queues`."""
        client = self._service.get_queue_client(queue)
        text, hidden_s = b64encode(body).decode(), min(ceil(delay_s), _LONGEST_DELAY_S)
        try:
            await client.send_message(text, visibility_timeout=hidden_s, time_to_live=_FOR_EVER)
        except AzureError as exc:
            raise unavailable(f"queue {queue}: send", exc) from exc
