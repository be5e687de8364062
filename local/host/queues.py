"""
The Storage queues that the host uses: a client for each account, and sends that create a missing queue.

The only module of the host that imports the Azure SDK's service client.
"""

import contextlib
from typing import Any

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from local.host.errors import HostError

# Short waits: an outage is reported within seconds, and the host's own loop continues to retry.
_RETRIES: dict[str, Any] = {
    "initial_backoff": 1,
    "increment_base": 2,
    "retry_total": 3,
    "random_jitter_range": 1,
}
_POISON = "-poison"


class Queues:
    """Clients of queues, with one connection pool for each account."""

    def __init__(self) -> None:
        self._services: dict[str, QueueServiceClient] = {}

    def queue(self, connection_string: str, name: str) -> QueueClient:
        """
        A client of a queue, which need not exist yet.

        Raises HostError if the connection string is invalid.
        """
        if connection_string not in self._services:
            try:
                self._services[connection_string] = QueueServiceClient.from_connection_string(
                    connection_string, **_RETRIES
                )
            except ValueError as exc:
                raise HostError(f"The connection string of queue '{name}' is invalid: {exc}.") from exc
        return self._services[connection_string].get_queue_client(name)

    def poison_queue(self, connection_string: str, name: str) -> QueueClient | None:
        """The poison queue of a queue. A poison queue has none."""
        return None if name.endswith(_POISON) else self.queue(connection_string, name + _POISON)


async def send(queue: QueueClient, text: str) -> None:
    """Send a message, and create the queue if it does not exist. Raises AzureError."""
    try:
        await queue.send_message(text)
    except ResourceNotFoundError:
        with contextlib.suppress(ResourceExistsError):  # another host created it first
            await queue.create_queue()
        await queue.send_message(text)


def storage_problem(error: AzureError) -> str:
    """Storage's error code, or the first line of the message: SDK errors contain headers, and sometimes bodies."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or str(error).splitlines()[0] or type(error).__name__)
