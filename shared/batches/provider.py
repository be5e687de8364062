"""
Files and batches at a customer's provider: OpenAI, and Azure in its v1 and its older style.

Each method is one exchange, or one a page; whoever calls it repeats it. No provider has an idempotency key for
`create`: after an error that `may_exist`, `find` the batch before it is created again, or it is bought twice.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import msgspec

from shared.batches.eligibility import line_url
from shared.batches.form import in_chunks, write_form
from shared.batches.provider_batch import NoId, ProviderBatch, check_id, read_batch, read_status, read_time
from shared.connections.connection import Connection
from shared.contract.decoding import UNREADABLE, json_value
from shared.errors import ProviderUnavailable, RequestRejected, UpstreamError, UpstreamFacts
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import Response, UpstreamRequest
from shared.upstream.sending import Begin, do_nothing

REQUEST_S = 60.0
"""For a request that sends and returns little."""
STALL_S = 60.0
"""For a file, while nothing of it moves."""
FILE_EXPIRES_S = 14 * 24 * 3600
"""The shortest time that both providers take. A file that nobody deletes is gone then."""
MAX_FILE_BYTES = 2 << 30
"""Of a file that is read, decompressed: ten times the largest that may be sent."""
MAX_PAGES = 100
"""Of the list of batches, in which one is looked for."""
CLOCK_MARGIN = timedelta(minutes=15)
"""By which a provider's clock may differ from ours."""
_PAGE = 100
_FIRST_EXPIRING = "2025-03-01"
"""The first dated version of Azure's API whose files expire; an older one may refuse what it does not know."""
_UNFINISHED_FILE = {"pending", "running", "uploading", "not_running"}
"""Statuses of files. OpenAI's have none of these, and other APIs may have no status at all."""
_REFUSED_FILE = {"error", "failed", "deleted", "deleting"}
_NOT_FOUND = {404, 410}
_NOT_CANCELLABLE = {400, 409, 422}
_UNDECIDED = {408, 409}


def may_exist(error: UpstreamError) -> bool:
    """Return whether a `create` that failed with this may have created a batch."""
    status = error.facts.status
    if error.facts.unanswered:
        return True
    return status is not None and (status < 300 or status >= 500 or status in _UNDECIDED)  # noqa: PLR2004


class ProviderBatches:
    """The files and batches that one connection reaches."""

    def __init__(self, client: UpstreamClient, connection: Connection) -> None:
        self._client = client
        self._connection = connection

    async def upload(self, lines: AsyncIterable[bytes], size: int, *, filename: str) -> str:
        """
        Upload `lines`, of `size` bytes in all, as a file for a batch, and return the file's id.

        It costs nothing, so that it may be repeated. Raises UpstreamError; ConnectionInvalid; ValueError if the lines
        have another size.
        """
        boundary = secrets.token_hex(16)
        before, after = write_form(boundary, filename, self._file_fields())
        headers = {"content-type": f"multipart/form-data; boundary={boundary}"} | self._connection.headers()
        response = await self._client.transfers.upload(
            UpstreamRequest("POST", self._url("files"), headers=headers),
            in_chunks(before, lines, after),
            len(before) + size + len(after),
            self._connection.access,
            customer=self._connection.customer,
            stall_s=STALL_S,
        )
        return self._id(_json(response), response)

    async def is_processed(self, file_id: str) -> bool:
        """
        Return whether a file may be the input of a batch. Azure takes a while with it, and refuses a batch until then.

        Raises UpstreamError; RequestRejected if the provider does not take the file.
        """
        response = await self._send("GET", f"files/{_segment(file_id)}")
        status = read_status(_json(response).get("status"))
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
        return self._batch(await self._send("POST", "batches", msgspec.json.encode(body), begin=begin))

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
        after = ""
        for _ in range(MAX_PAGES):
            query = f"limit={_PAGE}" + (f"&after={quote(after, safe='')}" if after else "")
            response = await self._send("GET", "batches", query=query)
            listed = _json(response)
            page = listed.get("data")
            if not isinstance(page, list):
                break
            batches = [each for each in page if isinstance(each, dict)]
            for each in batches:
                is_own = each.get("metadata") == metadata if metadata else each.get("input_file_id") == file_id
                if is_own and not (batch := self._batch(response, each)).is_void:
                    yield batch
            if not batches or not listed.get("has_more") or _all_older(batches, since - CLOCK_MARGIN):
                return
            before, after = after, self._id({"id": listed.get("last_id") or batches[-1].get("id")}, response)
            if after == before:
                break
        raise _unusable(response)

    async def get(self, batch_id: str) -> ProviderBatch:
        """Return a batch. Raises UpstreamError."""
        return self._batch(await self._send("GET", f"batches/{_segment(batch_id)}"))

    async def cancel(self, batch_id: str) -> ProviderBatch:
        """Have a batch cancelled, and return it; it may take a while, or have ended before. Raises UpstreamError."""
        try:
            return self._batch(await self._send("POST", f"batches/{_segment(batch_id)}/cancel"))
        except UpstreamError as exc:
            if exc.facts.status not in _NOT_CANCELLABLE:
                raise
            return await self.get(batch_id)

    def content(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """Yield what is in a file. Use `contextlib.aclosing` to stop before its end. Raises UpstreamError."""
        return self._client.transfers.download(
            UpstreamRequest("GET", self._url(f"files/{_segment(file_id)}/content"), headers=self._connection.headers()),
            self._connection.access,
            customer=self._connection.customer,
            stall_s=STALL_S,
            max_bytes=MAX_FILE_BYTES,
        )

    async def delete_file(self, file_id: str) -> None:
        """Delete a file, if it is there. Raises UpstreamError."""
        try:
            await self._send("DELETE", f"files/{_segment(file_id)}")
        except UpstreamError as exc:
            if exc.facts.status not in _NOT_FOUND:
                raise

    async def _send(
        self, method: str, operation: str, body: bytes = b"", *, query: str = "", begin: Begin = do_nothing
    ) -> Response:
        headers = self._connection.headers() | ({"content-type": "application/json"} if body else {})
        request = UpstreamRequest(method, self._url(operation, query), body, headers)
        return await self._client.send(
            request, self._connection.access, customer=self._connection.customer, timeout_s=REQUEST_S, begin=begin
        )

    def _url(self, operation: str, query: str = "") -> str:
        url = self._connection.endpoint.url(operation, "")
        return f"{url}{'&' if '?' in url else '?'}{query}" if query else url

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
            return read_batch(_json(response) if value is None else value, self._connection.without_key)
        except NoId:
            raise _unusable(response) from None

    def _id(self, value: Any, response: Response) -> str:
        try:
            return check_id(value.get("id"))
        except NoId:
            raise _unusable(response) from None


def _segment(text: str) -> str:
    return quote(check_id(text), safe="")


def _all_older(batches: list[dict[str, Any]], since: datetime) -> bool:
    times = [at for each in batches if (at := read_time(each.get("created_at"))) is not None]
    return bool(times) and max(times) < since


def _json(response: Response) -> dict[str, Any]:
    try:
        value = json_value(response.body)
    except UNREADABLE:
        value = None
    if not isinstance(value, dict):
        raise _unusable(response)
    return value


def _unusable(response: Response) -> ProviderUnavailable:
    facts = UpstreamFacts(status=response.status, request_id=response.request_id, unanswered=True)
    return ProviderUnavailable("The endpoint's response describes no file or batch that can be used.", facts)
