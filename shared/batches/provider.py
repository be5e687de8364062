"""
Files and batches at a customer's provider: OpenAI, and Azure in its v1 and its older style.

Each method is one exchange, or one a page; whoever calls it repeats it. No provider has an idempotency key for
`create`: after an error that `provider_api.may_exist`, `find` the batch before it is created again, or it is bought
twice.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any

import msgspec

from shared.batches.eligibility import line_url
from shared.batches.form import in_chunks, write_form
from shared.batches.provider_api import NOT_CANCELLABLE, NOT_FOUND, ProviderApi, id_of, json_of, segment, unusable
from shared.batches.provider_batch import NoId, ProviderBatch, read_batch, read_status
from shared.connections.connection import Connection
from shared.errors import RequestRejected, UpstreamError, UpstreamFacts
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import Response
from shared.upstream.sending import Begin, do_nothing

FILE_EXPIRES_S = 14 * 24 * 3600
"""The shortest time that both providers take. A file that nobody deletes is gone then."""
_FIRST_EXPIRING = "2025-03-01"
"""The first dated version of Azure's API whose files expire; an older one may refuse what it does not know."""
_UNFINISHED_FILE = {"pending", "running", "uploading", "not_running"}
"""Statuses of files. OpenAI's have none of these, and other APIs may have no status at all."""
_REFUSED_FILE = {"error", "failed", "deleted", "deleting"}


class ProviderBatches:
    """The files and batches that one connection reaches."""

    def __init__(self, client: UpstreamClient, connection: Connection) -> None:
        self._api = ProviderApi(client, connection)
        self._connection = connection

    async def upload(self, lines: AsyncIterable[bytes], size: int, *, filename: str) -> str:
        """
        Upload `lines`, of `size` bytes in all, as a file for a batch, and return the file's id.

        It costs nothing, so that it may be repeated. Raises UpstreamError; ConnectionInvalid; ValueError if the lines
        have another size.
        """
        boundary = secrets.token_hex(16)
        before, after = write_form(boundary, filename, self._file_fields())
        chunks, length = in_chunks(before, lines, after), len(before) + size + len(after)
        response = await self._api.upload("files", f"multipart/form-data; boundary={boundary}", chunks, length)
        return id_of(json_of(response), response)

    async def is_processed(self, file_id: str) -> bool:
        """
        Return whether a file may be the input of a batch. Azure takes a while with it, and refuses a batch until then.

        Raises UpstreamError; RequestRejected if the provider does not take the file.
        """
        response = await self._api.send("GET", f"files/{segment(file_id)}")
        status = read_status(json_of(response).get("status"))
        if status in _REFUSED_FILE:
            facts = UpstreamFacts(status=response.status, request_id=response.request_id)
            raise RequestRejected(f"The provider did not take the file of the batch ({status}).", facts)
        return status not in _UNFINISHED_FILE

    async def create(
        self, file_id: str, operation: str, metadata: Mapping[str, str], *, begin: Begin = do_nothing
    ) -> ProviderBatch:
        """
        Create a batch of a file's lines, at most 24 hours long. Raises UpstreamError, see `may_exist`.

        `begin` is called right before the first byte is sent; if it raises, none is.
        """
        body = {
            "input_file_id": file_id,
            "endpoint": line_url(self._connection, operation),
            "completion_window": "24h",
            "metadata": dict(metadata),
        }
        return self._batch(await self._api.send("POST", "batches", msgspec.json.encode(body), begin=begin))

    async def find(self, file_id: str, *, since: datetime, metadata: Any = None) -> ProviderBatch | None:
        """
        Return a batch of a file's lines, or with `metadata`, that was created after `since` and is not void, or None.

        Raises UpstreamError, also if the list can't be read to its end: None allows another batch.
        """
        async with aclosing(self.find_all(file_id, since=since, metadata=metadata)) as batches:
            return await anext(batches, None)

    async def find_all(
        self, file_id: str, *, since: datetime, metadata: Any = None
    ) -> AsyncGenerator[ProviderBatch, None]:
        """Yield the batches that `find` may return, the newest first. Raises UpstreamError."""
        async with aclosing(self._api.listed("batches", "after", since)) as listed:
            async for response, each in listed:
                is_own = each.get("metadata") == metadata if metadata else each.get("input_file_id") == file_id
                if is_own and not (batch := self._batch(response, each)).is_void:
                    yield batch

    async def get(self, batch_id: str) -> ProviderBatch:
        """Return a batch. Raises UpstreamError."""
        return self._batch(await self._api.send("GET", f"batches/{segment(batch_id)}"))

    async def cancel(self, batch_id: str) -> ProviderBatch:
        """Have a batch cancelled, and return it; it may take a while, or have ended before. Raises UpstreamError."""
        try:
            return self._batch(await self._api.send("POST", f"batches/{segment(batch_id)}/cancel"))
        except UpstreamError as exc:
            if exc.facts.status not in NOT_CANCELLABLE:
                raise
            return await self.get(batch_id)

    def content(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """Yield what is in a file. Use `contextlib.aclosing` to stop before its end. Raises UpstreamError."""
        return self._api.download(f"files/{segment(file_id)}/content")

    async def delete_file(self, file_id: str) -> None:
        """Delete a file, if it is there. Raises UpstreamError."""
        try:
            await self._api.send("DELETE", f"files/{segment(file_id)}")
        except UpstreamError as exc:
            if exc.facts.status not in NOT_FOUND:
                raise

    def _file_fields(self) -> dict[str, str]:
        version = self._connection.endpoint.api_version or ""
        if self._connection.endpoint.style == "deployments" and version < _FIRST_EXPIRING:
            return {"purpose": "batch"}
        return {
            "purpose": "batch",
            "expires_after[anchor]": "created_at",
            "expires_after[seconds]": str(FILE_EXPIRES_S),
        }

    def _batch(self, response: Response, value: Any = None) -> ProviderBatch:
        try:
            return read_batch(json_of(response) if value is None else value, self._connection.without_key)
        except NoId:
            raise unusable(response) from None
