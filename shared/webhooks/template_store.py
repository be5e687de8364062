"""The customers' webhook templates: the blob `{customer}/webhook.json` in TEMPLATES_CONTAINER."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from shared.contract.names import is_name
from shared.errors import InvalidJob
from shared.storage.base import BlobProperties, Blobs, BlobTooLarge

MAX_TEMPLATE_BYTES = 1024 * 1024
_NAME = "webhook.json"


@dataclass(frozen=True, slots=True)
class TemplateStore:
    """The templates of all customers. Every method raises StorageUnavailable."""

    blobs: Blobs
    container: str

    async def read(self, customer: str) -> bytes | None:
        """Return the customer's template, or None. Raises InvalidJob if it is too large."""
        try:
            return await self.blobs.read(self.container, f"{customer}/{_NAME}", MAX_TEMPLATE_BYTES)
        except BlobTooLarge as exc:
            raise InvalidJob(str(exc)) from None

    async def write(self, customer: str, template: bytes) -> None:
        """Write the customer's template. The next webhook uses it."""
        await self.blobs.write(self.container, f"{customer}/{_NAME}", template, "application/json")

    async def delete(self, customer: str) -> None:
        """Delete the customer's template. A template that is gone is no error."""
        await self.blobs.delete(self.container, f"{customer}/{_NAME}")

    async def list(self) -> AsyncIterator[tuple[str, BlobProperties]]:
        """Iterate over the customers with templates, in order. Raises ContainerMissing."""
        after = ""
        while True:
            page = await self.blobs.page(self.container, "", after)
            for blob in page.blobs:
                customer, _, name = blob.name.partition("/")
                if name == _NAME and is_name(customer):
                    yield customer, blob
            after = page.after
            if not after:
                return
