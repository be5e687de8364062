"""Which account a batch is at: that of its connection as it was when the batch was sent."""

from __future__ import annotations

import msgspec

from shared.batches.base import BatchProvider
from shared.batches.file_batches import FileBatches
from shared.batches.parts import BatchParts
from shared.batches.records import BatchRecord
from shared.connections.account import account_of
from shared.connections.connection import Connection
from shared.connections.endpoint_shapes import CLAUDE
from shared.contract.result import ConnectionLabel
from shared.errors import ConnectionInvalid


class ConnectionMoved(ConnectionInvalid):
    """The connection leads to another account than when its batch was sent. That one knows nothing of the batch."""


def label_of(connection: Connection) -> str:
    """Return what usage records say of a connection, as JSON."""
    return msgspec.json.encode(connection.label()).decode()


def has_moved(batch: BatchRecord, connection: Connection) -> bool:
    """
    Return whether the batch, or its file, is at another account.

    The operator's is never a customer's own, though its endpoint may be the same: it serves while that has none.
    """
    if not batch.account:
        return False
    source = msgspec.json.decode(batch.label, type=ConnectionLabel).source if batch.label else connection.source
    return batch.account != account_of(connection) or source != connection.source


async def open_provider(parts: BatchParts, batch: BatchRecord) -> tuple[BatchProvider, Connection]:
    """Return the account that a batch is at. Raises ConnectionMoved, and as `Connections.resolve`."""
    connection = await parts.connections.resolve(batch.customer, batch.connection)
    if has_moved(batch, connection):
        raise ConnectionMoved(
            f"The connection {batch.connection} leads to another account than when the batch was sent."
        )
    return _provider(parts, connection), connection


def _provider(parts: BatchParts, connection: Connection) -> BatchProvider:
    if connection.endpoint.provider == CLAUDE:
        from shared.batches.claude_batches import ClaudeBatches  # noqa: PLC0415  # few customers have Claude

        return ClaudeBatches(parts.client, connection, parts.owners)
    return FileBatches(parts.client, connection)
