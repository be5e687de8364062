"""
A provider's own webhook says that a batch has ended, which is a hint: the batch is looked at, and nothing is believed.
Likewise for responses (see `jobs.response_rows`).

Only a batch of that customer and connection is looked at, and by hints once in SPACING_S: the message for a batch that
was looked at just now is hidden until then, this worker sends no other one meanwhile, and of those that several workers
send, the batch worker drops all but the first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from shared.batches.provider_batch import NoId, check_id
from shared.batches.records import SPACING_S, BatchRecord, read_batch
from shared.clock import now
from shared.contract.decoding import UNREADABLE
from shared.errors import StorageUnavailable
from shared.jobs.batch_message import LAST, batch_key, encode_batch_message
from shared.jobs.schedule import Schedule
from shared.jobs.versions import NewerVersion
from shared.lru import LRU
from shared.storage.base import Queues, Table
from shared.storage.bulk import read_pages

EVENTS = frozenset({"batch.completed", "batch.failed", "batch.cancelled", "batch.expired"})
RESPONSE_EVENTS = frozenset({"response.completed", "response.failed", "response.cancelled", "response.incomplete"})
MAX_AGE = timedelta(days=10)
"""A batch that is older has ended: a job waits for seven days at most, and its provider ends it within two."""
_MAX_BATCHES = 10_000


class _Object(msgspec.Struct, frozen=True):
    id: str


class _Event(msgspec.Struct, frozen=True):
    """What is read of an event."""

    type: str
    data: _Object


@dataclass(slots=True)
class ProviderEvents:
    """Wakes the batches, and the jobs waiting for responses, that events name. `queue` is that of batches."""

    table: Table
    queues: Queues
    queue: str
    schedule: Schedule
    _due_at: LRU[tuple[str, str, str], datetime] = field(default_factory=lambda: LRU(_MAX_BATCHES))
    """When the last message for a batch is delivered, by customer, connection and the provider's id."""

    async def receive(self, customer: str, connection: str, body: bytes) -> None:
        """
        Have what a verified event names be looked at, if it is one of the connection's that has not ended.

        Raises StorageUnavailable.
        """
        event = read_event(body)
        if event is None:
            return
        key, at = (customer, connection, event.data.id), now()
        if (self._due_at.get(key) or at) > at:
            return
        if event.type in RESPONSE_EVENTS:
            await self._receive_response(key)
            return
        async for batch in self._find(*key):
            await self._wake(key, batch)

    async def _receive_response(self, key: tuple[str, str, str]) -> None:
        from shared.jobs.response_rows import ResponseEvents  # noqa: PLC0415  # few events are about responses

        await ResponseEvents(self.table, self.schedule).ended(*key)
        self._due_at.set(key, now() + timedelta(seconds=SPACING_S))  # so that a doubled event wakes nothing twice

    async def _find(self, customer: str, connection: str, provider_id: str) -> AsyncIterator[BatchRecord]:
        oldest = f"{int((now() - MAX_AGE).timestamp() * 1000):014}"
        where = {"provider_id eq": provider_id, "connection eq": connection, "state ne": "done"}
        async for rows in read_pages(self.table, customer, batch_key(oldest), LAST, where=where):
            for row in rows:
                with suppress(NewerVersion):  # a worker of that version polls it
                    yield read_batch(row)

    async def _wake(self, key: tuple[str, str, str], batch: BatchRecord) -> None:
        last_due_at, at, spacing = self._due_at.get(key), now(), timedelta(seconds=SPACING_S)
        due_at = max(at, *(last + spacing for last in (last_due_at, batch.last_turn_at) if last is not None))
        self._due_at.set(key, due_at)
        message = encode_batch_message(batch.customer, batch.batch_id)
        try:
            await self.queues.send(self.queue, message, delay_s=(due_at - at).total_seconds())
        except StorageUnavailable:
            self._due_at.pop(key)
            raise


def read_event(body: bytes) -> _Event | None:
    """Return an event that says which batch or response has ended; None if it says something else."""
    try:
        event = msgspec.json.decode(body, type=_Event)
        check_id(event.data.id)
    except (*UNREADABLE, NoId):
        return None
    return event if event.type in EVENTS | RESPONSE_EVENTS else None
