"""Azure Blob Storage as `stores.Blobs`. Its SDK is imported on first use: most jobs touch no blob."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError

from shared.errors import InvalidJob
from shared.storage.account import Account, unavailable

if TYPE_CHECKING:
    from azure.storage.blob.aio import BlobServiceClient

_RANGE_NOT_SATISFIABLE = 416


class AzureBlobs:
    """See `stores.Blobs`."""

    def __init__(self, account: Account) -> None:
        self._account = account

    @cached_property
    def _service(self) -> BlobServiceClient:
        from azure.storage.blob.aio import BlobServiceClient  # noqa: PLC0415

        settings, options = self._account.settings, self._account.options()
        if settings.connection_string is not None:
            return BlobServiceClient.from_connection_string(settings.connection_string.reveal(), **options)
        return BlobServiceClient(settings.blob_service_uri, credential=self._account.identity(), **options)

    async def write(self, container: str, name: str, data: bytes, content_type: str) -> None:
        """See `stores.Blobs`."""
        from azure.storage.blob import ContentSettings  # noqa: PLC0415

        blob = self._service.get_blob_client(container, name)
        about = ContentSettings(content_type=content_type)
        try:
            await blob.upload_blob(data, overwrite=True, content_settings=about)
        except AzureError as exc:
            raise unavailable(f"container {container}: write", exc) from exc

    async def read(self, container: str, name: str, limit: int) -> bytes | None:
        """See `stores.Blobs`."""
        blob = self._service.get_blob_client(container, name)
        try:
            # One byte beyond the limit tells a blob that is too large without reading it all.
            stream = await blob.download_blob(offset=0, length=limit + 1)
            data = await stream.readall()
        except ResourceNotFoundError:
            return None
        except AzureError as exc:
            if isinstance(exc, HttpResponseError) and exc.status_code == _RANGE_NOT_SATISFIABLE:
                return b""  # an empty blob has no first byte
            raise unavailable(f"container {container}: read", exc) from exc
        if len(data) > limit:
            raise InvalidJob(f"The blob {container}/{name} is larger than {limit} bytes.")
        return data
