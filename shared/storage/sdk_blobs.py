"""Azure Blob Storage through its SDK, which is imported with this module."""

from __future__ import annotations

from collections.abc import AsyncIterator

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobServiceClient, StorageStreamDownloader

from shared.storage.account import Account, error_code, sdk_errors, storage_error
from shared.storage.base import BlobChanged, BlobPage, BlobProperties, BlobTooLarge, ContainerMissing

_RANGE_NOT_SATISFIABLE = 416
_PAGE = 5000
"""Blobs that Storage lists in one response (learn.microsoft.com/rest/api/storageservices/list-blobs)."""


class SdkBlobs:
    """See `Blobs`."""

    def __init__(self, account: Account) -> None:
        settings, options = account.settings, account.options()
        if settings.connection_string is not None:
            text = settings.connection_string.reveal()
            self._service = BlobServiceClient.from_connection_string(text, **options)
        else:
            self._service = BlobServiceClient(settings.blob_service_uri, credential=account.identity(), **options)

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """See `Blobs`."""
        with sdk_errors(f"container {container}: write"):
            await self._upload(container, name, data, content_type, overwrite=True)

    async def write_once(self, container: str, name: str, data: bytes, content_type: str) -> bool:
        """See `Blobs`."""
        with sdk_errors(f"container {container}: write"):
            try:
                await self._upload(container, name, data, content_type, overwrite=False)  # with If-None-Match: *
            except ResourceExistsError as exc:
                if error_code(exc) != "BlobAlreadyExists":
                    raise
                return False
        return True

    async def _upload(self, container: str, name: str, data: bytes, content_type: str, *, overwrite: bool) -> None:
        blob = self._service.get_blob_client(container, name)
        await blob.upload_blob(data, overwrite=overwrite, content_settings=ContentSettings(content_type=content_type))

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

    async def properties(self, container: str, name: str) -> BlobProperties | None:
        """See `Blobs`."""
        try:
            blob = await self._service.get_blob_client(container, name).get_blob_properties()
        except ResourceNotFoundError:
            return None
        except AzureError as exc:
            raise storage_error(f"container {container}: read", exc) from exc
        content_type = blob.content_settings.content_type or ""
        return BlobProperties(name, blob.size, blob.last_modified, content_type, blob.etag)

    async def read_range(self, container: str, name: str, start: int, size: int, etag: str) -> bytes:
        """See `Blobs`."""
        blob, unmodified = self._service.get_blob_client(container, name), MatchConditions.IfNotModified
        try:
            stream = await blob.download_blob(offset=start, length=size, etag=etag, match_condition=unmodified)
            return await stream.readall()
        except (ResourceModifiedError, ResourceNotFoundError):
            raise BlobChanged(f"The blob {container}/{name} was changed while it was read.") from None
        except AzureError as exc:
            raise storage_error(f"container {container}: read", exc) from exc

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
