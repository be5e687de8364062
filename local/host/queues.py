"""
The queues of Storage, as the host uses them: one client an account, sends that create the queue.

The only module of the host that knows the Azure SDK's client.
"""

import contextlib
from typing import Any

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from local.host.errors import HostError

# Short waits: an outage is told within seconds, and the host's own loop goes on trying.
_RETRIES: dict[str, Any] = {
    "initial_backoff": 1,
    "increment_base": 2,
    "retry_total": 3,
    "random_jitter_range": 1,
}
_POISON = "-poison"


class Queues:
    """Gives clients of queues; one connection pool an account."""

    def __init__(self) -> None:
        self._services: dict[str, QueueServiceClient] = {}

    def queue(self, connection_string: str, name: str) -> QueueClient:
        """
        A client of a queue, which need not exist.

        Raises HostError for what is no connection string.
        """
        if connection_string not in self._services:
            try:
                self._services[connection_string] = QueueServiceClient.from_connection_string(
                    connection_string, **_RETRIES
                )
            except ValueError as exc:
                raise HostError(f"The connection of queue '{name}' is no connection string: {exc}.") from exc
        return self._services[connection_string].get_queue_client(name)

    def poison_queue(self, connection_string: str, name: str) -> QueueClient | None:
        """Where the queue's hopeless messages go. A poison queue has none of its own."""
        return None if name.endswith(_POISON) else self.queue(connection_string, name + _POISON)


async def send(queue: QueueClient, text: str) -> None:
    """Sends a message, and creates the queue if it is missing. Raises AzureError."""
    try:
        await queue.send_message(text)
    except ResourceNotFoundError:
        with contextlib.suppress(ResourceExistsError):  # another host was faster
            await queue.create_queue()
        await queue.send_message(text)


def storage_problem(error: AzureError) -> str:
    """What went wrong in Storage, in one line: SDK errors carry headers, and sometimes bodies."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or str(error).splitlines()[0] or type(error).__name__)
