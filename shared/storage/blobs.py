"""Azure Blob Storage: small blobs are written directly, and everything else is left to the SDK."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote

from shared.storage.account import Account
from shared.storage.base import BlobPage, BlobProperties
from shared.storage.direct.client import DirectClient

if TYPE_CHECKING:
    from shared.storage.sdk_blobs import SdkBlobs

_CREATED = 201
_MAX_DIRECT_BYTES = 4 << 20
"""A larger blob is sent by the SDK, which sends it in parts if it has to repeat them."""


class AzureBlobs:
    """See `Blobs`."""

    def __init__(self, account: Account) -> None:
        self._account = account

    @cached_property
    def _direct(self) -> DirectClient:
        return self._account.direct("blob")

    @cached_property
    def _sdk(self) -> SdkBlobs:
        from shared.storage.sdk_blobs import SdkBlobs  # noqa: PLC0415  # most jobs need none

        return SdkBlobs(self._account)

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """See `Blobs`."""
        status, _ = await self._put(container, name, data, content_type, {})
        if status != _CREATED:
            await self._sdk.write(container, name, data, content_type)

    async def write_once(self, container: str, name: str, data: bytes, content_type: str) -> bool:
        """See `Blobs`."""
        status, code = await self._put(container, name, data, content_type, {"if-none-match": "*"})
        if status == _CREATED or code == "BlobAlreadyExists":
            return status == _CREATED
        return await self._sdk.write_once(container, name, data, content_type)

    async def _put(
        self, container: str, name: str, data: bytes, content_type: str, headers: Mapping[str, str]
    ) -> tuple[int, str]:
        """Write a small blob directly. Return the status and error code of the response, or 0 if there is none."""
        if len(data) > _MAX_DIRECT_BYTES:
            return 0, ""
        own = {"x-ms-blob-type": "BlockBlob", "x-ms-blob-content-type": content_type, **headers}
        path = f"/{container}/{quote(name, safe='~/')}"
        response = await self._direct.send("PUT", path, {"content-type": "application/octet-stream", **own}, data)
        return (response.status, response.headers.get("x-ms-error-code", "")) if response is not None else (0, "")

    async def read(self, container: str, name: str, limit: int) -> bytes | None:
        """See `Blobs`."""
        return await self._sdk.read(container, name, limit)

    async def properties(self, container: str, name: str) -> BlobProperties | None:
        """See `Blobs`."""
        return await self._sdk.properties(container, name)

    async def read_range(self, container: str, name: str, start: int, size: int, etag: str) -> bytes:
        """See `Blobs`."""
        return await self._sdk.read_range(container, name, start, size, etag)

    async def page(self, container: str, prefix: str, after: str = "") -> BlobPage:
        """See `Blobs`."""
        return await self._sdk.page(container, prefix, after)

    async def chunks(self, container: str, name: str) -> AsyncIterator[bytes] | None:
        """See `Blobs`."""
        return await self._sdk.chunks(container, name)

    async def delete(self, container: str, name: str) -> None:
        """See `Blobs`."""
        await self._sdk.delete(container, name)
