"""A blob that an input names, read in pieces: of a large one, little is in memory at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from shared.contract.names import BlobName
from shared.errors import InvalidJob
from shared.storage.base import BlobChanged, Blobs

_READ_BYTES = 1024 * 1024
"""Of one request: as many of them are in memory as there are calls under way."""


@dataclass(frozen=True, slots=True)
class BlobFile:
    """See `actions.base.InputFile`."""

    blobs: Blobs
    blob: BlobName
    at: str
    size: int
    version: str

    async def read(self, start: int, size: int) -> bytes:
        """See InputFile."""
        try:
            size = min(size, self.size - start)
            if size <= 0:
                return b""
            return await self.blobs.read_range(self.blob.container, self.blob.name, start, size, self.version)
        except BlobChanged:
            raise InvalidJob(f"`{self.at}` names a blob that was changed while the job ran.") from None

    async def chunks(self, start: int, size: int) -> AsyncIterator[bytes]:
        """See InputFile."""
        for offset in range(start, start + size, _READ_BYTES):
            yield await self.read(offset, min(_READ_BYTES, start + size - offset))


async def open_file(blobs: Blobs, blob: BlobName, *, at: str, max_bytes: int) -> BlobFile:
    """Return a blob that may be read. Raises InvalidJob, naming the member `at`, StorageUnavailable."""
    properties = await blobs.properties(blob.container, blob.name)
    if properties is None:
        raise InvalidJob(f"`{at}` names a blob that does not exist.")
    if not 0 < properties.size <= max_bytes:
        limit = f"more than {max_bytes // 1_000_000} MB" if properties.size else "no bytes"
        raise InvalidJob(f"`{at}` names a blob of {limit}.")
    return BlobFile(blobs, blob, at, properties.size, properties.etag)
