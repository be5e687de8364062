"""Blobs in memory. The same contract tests hold them and the adapter for Azure."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime

from shared.clock import now
from shared.errors import StorageUnavailable
from shared.storage.base import BlobChanged, BlobPage, BlobProperties, BlobTooLarge, ContainerMissing


@dataclass
class MemoryBlobs:
    """
    See `Blobs`. `blobs` holds each blob's content and media type. Blobs in `locked` can't be deleted, and containers in
    `missing` do not exist.
    """

    blobs: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    down: bool = False
    locked: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    page_size: int = 5000
    counts: Counter[str] = field(default_factory=Counter)
    """Pages and deletions."""
    _written: dict[tuple[str, str], datetime] = field(default_factory=dict)

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """See `Blobs`."""
        self._pass()
        self.blobs[container, name] = (data, content_type)
        self._written[container, name] = now()

    async def write_once(self, container: str, name: str, data: bytes, content_type: str) -> bool:
        """See `Blobs`."""
        self._pass()
        if (container, name) in self.blobs:
            return False
        await self.write(container, name, data, content_type)
        return True

    async def read(self, container: str, name: str, limit: int) -> bytes | None:
        """See `Blobs`."""
        self._pass()
        data, _ = self.blobs.get((container, name), (None, ""))
        if data is not None and len(data) > limit:
            raise BlobTooLarge(f"The blob {container}/{name} is larger than {limit} bytes.")
        return data

    async def properties(self, container: str, name: str) -> BlobProperties | None:
        """See `Blobs`."""
        self._pass()
        if (container, name) not in self.blobs:
            return None
        data, content_type = self.blobs[container, name]
        return BlobProperties(name, len(data), self._modified(container, name), content_type, _etag(data))

    async def read_range(self, container: str, name: str, start: int, size: int, etag: str) -> bytes:
        """See `Blobs`."""
        self._pass()
        data, _ = self.blobs.get((container, name), (None, ""))
        if data is None or _etag(data) != etag:
            raise BlobChanged(f"The blob {container}/{name} was changed while it was read.")
        return data[start : start + size]

    async def page(self, container: str, prefix: str, after: str = "") -> BlobPage:
        """See `Blobs`."""
        self.counts["page"] += 1
        self._pass()
        if container in self.missing:
            raise ContainerMissing(f"There is no {container}.")
        ids = sorted(id_ for id_ in self.blobs if id_[0] == container and id_[1].startswith(prefix) and id_[1] >= after)
        blobs = [
            BlobProperties(id_[1], len(self.blobs[id_][0]), self._modified(*id_), self.blobs[id_][1])
            for id_ in ids[: self.page_size]
        ]
        return BlobPage(blobs, "".join(name for _, name in ids[self.page_size :][:1]))

    async def chunks(self, container: str, name: str) -> AsyncIterator[bytes] | None:
        """See `Blobs`."""
        self._pass()
        if (container, name) not in self.blobs:
            return None
        return _chunks(self.blobs[container, name][0])

    async def delete(self, container: str, name: str) -> None:
        """See `Blobs`."""
        self.counts["delete"] += 1
        await asyncio.sleep(0)
        self._pass()
        if name in self.locked:
            raise StorageUnavailable(f"The blob {name} is locked.")
        self.blobs.pop((container, name), None)

    def _modified(self, container: str, name: str) -> datetime:
        return self._written.setdefault((container, name), now())

    def _pass(self) -> None:
        if self.down:
            raise StorageUnavailable("The container is down.")


def _etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]
