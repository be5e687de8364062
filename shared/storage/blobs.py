"""Azure Blob Storage. Its SDK is imported on first use, because most jobs need none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote

from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError

from shared.storage.account import Account, error_code, storage_error
from shared.storage.base import BlobPage, BlobProperties, BlobTooLarge, ContainerMissing
from shared.storage.direct.client import DirectClient

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobServiceClient, StorageStreamDownloader

_CREATED, _RANGE_NOT_SATISFIABLE = 201, 416
_MAX_DIRECT_BYTES = 4 << 20
"""A larger blob is sent by the SDK, which sends it in parts if it has to repeat them."""
_PAGE = 5000
"""Blobs that Storage lists in one response (learn.microsoft.com/rest/api/storageservices/list-blobs)."""


class AzureBlobs:
    """See `Blobs`."""

    def __init__(self, account: Account) -> None:
        self._account = account

    @cached_property
    def _direct(self) -> DirectClient:
        return self._account.direct("blob")

    @cached_property
    def _service(self) -> BlobServiceClient:
        from azure.storage.blob.aio import BlobServiceClient  # noqa: PLC0415

        settings, options = self._account.settings, self._account.options()
        if settings.connection_string is not None:
            return BlobServiceClient.from_connection_string(settings.connection_string.reveal(), **options)
        return BlobServiceClient(settings.blob_service_uri, credential=self._account.identity(), **options)

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """See `Blobs`."""
        status, _ = await self._put(container, name, data, content_type, {})
        if status != _CREATED:
            await self._upload(container, name, data, content_type, overwrite=True)

    async def write_once(self, container: str, name: str, data: bytes, content_type: str) -> bool:
        """See `Blobs`."""
        status, code = await self._put(container, name, data, content_type, {"if-none-match": "*"})
        if status == _CREATED or code == "BlobAlreadyExists":
            return status == _CREATED
        try:
            await self._upload(container, name, data, content_type, overwrite=False)  # with If-None-Match: *
        except ResourceExistsError:
            return False
        return True

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

    async def _upload(self, container: str, name: str, data: bytes, content_type: str, *, overwrite: bool) -> None:
        from azure.storage.blob import ContentSettings  # noqa: PLC0415

        blob = self._service.get_blob_client(container, name)
        settings = ContentSettings(content_type=content_type)
        try:
            await blob.upload_blob(data, overwrite=overwrite, content_settings=settings)
        except AzureError as exc:
            if isinstance(exc, ResourceExistsError) and error_code(exc) == "BlobAlreadyExists":
                raise
            raise storage_error(f"container {container}: write", exc) from exc

    async def read(self, container: str, name: str, limit: int) -> bytes | None:
        """See `Blobs`."""
        blob = self._service.get_blob_client(container, name)
        try:
            # One byte more than the limit shows that a blob is too large, without reading it all.
            stream = await blob.download_blob(offset=0, length=limit + 1)
            data = await stream.readall()
        except ResourceNotFoundError:
            return None
        except AzureError as exc:
            if isinstance(exc, HttpResponseError) and exc.status_code == _RANGE_NOT_SATISFIABLE:
                return b""  # an empty blob has no byte 0
            raise storage_error(f"container {container}: read", exc) from exc
        if len(data) > limit:
            raise BlobTooLarge(f"The blob {container}/{name} is larger than {limit} bytes.")
        return data

    async def page(self, container: str, prefix: str, after: str = "") -> BlobPage:
        """See `Blobs`."""
        client = self._service.get_container_client(container)
        pages = client.list_blobs(name_starts_with=prefix, results_per_page=_PAGE).by_page(after or None)
        try:
            blobs = [
                BlobProperties(blob.name, blob.size, blob.last_modified, blob.content_settings.content_type or "")
                async for blob in await anext(pages)
            ]
        except AzureError as exc:
            error = storage_error(f"container {container}: list", exc)
            if isinstance(exc, HttpResponseError) and error_code(exc) == "ContainerNotFound":
                raise ContainerMissing(str(error)) from exc
            raise error from exc
        return BlobPage(blobs, getattr(pages, "continuation_token", None) or "")

    async def chunks(self, container: str, name: str) -> AsyncIterator[bytes] | None:
        """See `Blobs`."""
        try:
            stream = await self._service.get_blob_client(container, name).download_blob()
        except ResourceNotFoundError:
            return None
        except AzureError as exc:
            raise storage_error(f"container {container}: read", exc) from exc
        return _chunks(container, stream)

    async def delete(self, container: str, name: str) -> None:
        """See `Blobs`."""
        blob = self._service.get_blob_client(container, name)
        try:
            await blob.delete_blob(delete_snapshots="include")
        except ResourceNotFoundError:
            return
        except AzureError as exc:
            raise storage_error(f"container {container}: delete", exc) from exc


async def _chunks(container: str, stream: StorageStreamDownloader[bytes]) -> AsyncIterator[bytes]:
    try:
        async for chunk in stream.chunks():
            yield chunk
    except AzureError as exc:
        raise storage_error(f"container {container}: read", exc) from exc
