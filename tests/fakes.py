"""The outer world in memory: tables, blobs, queues, held to the same contract tests as the real ones."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from shared.errors import InvalidJob, StorageUnavailable
from shared.stores import Row, RowChanged, RowExists


class Fault(Enum):
    """What goes wrong with one change."""

    REFUSED = "nothing is done, and StorageUnavailable is raised"
    LOST = "it is done, and StorageUnavailable is raised all the same"
    TWICE = "it is done, its answer gets lost, and Storage is asked again"


@dataclass
class MemoryTable:
    """`stores.Table`. `faults` meet the next changes, one each, None being none; while `down`, nothing works."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)
    faults: deque[Fault | None] = field(default_factory=deque)
    down: bool = False
    _etags: int = 0

    async def insert(self, row: Row) -> str:
        """See `stores.Table`."""
        return (await self._change([], [row]))[0]

    async def read(self, partition: str, key: str) -> Row | None:
        """See `stores.Table`."""
        await self._pass()
        return self.rows.get((partition, key))

    async def merge(self, row: Row) -> str:
        """See `stores.Table`."""
        return (await self._change([row], []))[0]

    async def merge_and_insert(self, changed: Row, added: Sequence[Row]) -> str:
        """See `stores.Table`."""
        try:
            return (await self._change([changed], added))[0]
        except RowExists as exc:
            raise RowChanged from exc

    async def scan(self, partition: str, first: str, last: str) -> AsyncIterator[Row]:
        """See `stores.Table`."""
        await self._pass()
        for at, row in sorted(self.rows.items()):
            if at[0] == partition and first <= at[1] < last:
                yield row

    async def _change(self, changed: Sequence[Row], added: Sequence[Row]) -> list[str]:
        await self._pass()
        fault = self.faults.popleft() if self.faults else None
        if fault is Fault.REFUSED:
            raise StorageUnavailable("The change was refused.")
        etags = self._change_now(changed, added)
        if fault is Fault.LOST:
            raise StorageUnavailable("The answer was lost.")
        return self._change_now(changed, added) if fault is Fault.TWICE else etags

    def _change_now(self, changed: Sequence[Row], added: Sequence[Row]) -> list[str]:
        for row in changed:
            found = self.rows.get((row.partition, row.key))
            if found is None or found.etag != row.etag:
                raise RowChanged(row.key)
        for row in added:
            if (row.partition, row.key) in self.rows:
                raise RowExists(row.key)
        etags = []
        for row in (*changed, *added):
            self._etags += 1
            etags.append(f'W/"{self._etags}"')
            at = (row.partition, row.key)
            kept = self.rows[at].values if at in self.rows else {}
            self.rows[at] = replace(row, values={**kept, **row.values}, etag=etags[-1])
        return etags

    async def _pass(self) -> None:
        await asyncio.sleep(0)  # others run meanwhile, as they do while Storage is asked
        if self.down:
            raise StorageUnavailable("The table is down.")


@dataclass
class MemoryBlobs:
    """`stores.Blobs`; what was written stands in `blobs`, with its media type."""

    blobs: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    down: bool = False

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """See `stores.Blobs`."""
        self._pass()
        self.blobs[container, name] = (data, content_type)

    async def read(self, container: str, name: str, limit: int) -> bytes | None:
        """See `stores.Blobs`."""
        self._pass()
        data, _ = self.blobs.get((container, name), (None, ""))
        if data is not None and len(data) > limit:
            raise InvalidJob(f"The blob {container}/{name} is larger than {limit} bytes.")
        return data

    def _pass(self) -> None:
        if self.down:
            raise StorageUnavailable("The container is down.")


@dataclass
class MemoryQueues:
    """`stores.Queues`; what was sent stands in `sent` by queue, each message with its delay."""

    sent: defaultdict[str, list[tuple[bytes, float]]] = field(default_factory=lambda: defaultdict(list))
    down: bool = False

    async def send(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        """See `stores.Queues`."""
        if self.down:
            raise StorageUnavailable("The queue is down.")
        self.sent[queue].append((body, delay_s))
