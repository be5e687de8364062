"""
Requests about files and batches to a customer's provider: what OpenAI, Azure and Anthropic have in common.

Each is one exchange, or one a page; whoever makes it repeats it. No provider has an idempotency key for the creation of
a batch: after an error that `may_exist`, the batch is looked for before it is created again, or it is bought twice.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterable
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from shared.batches.provider_batch import NoId, check_id, read_time
from shared.connections.connection import Connection
from shared.contract.decoding import UNREADABLE, json_value
from shared.errors import ProviderUnavailable, UpstreamError, UpstreamFacts
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import Response, UpstreamRequest
from shared.upstream.sending import Begin, do_nothing

REQUEST_S = 60.0
"""For a request that sends and returns little."""
STALL_S = 60.0
"""For a file, while nothing of it moves."""
MAX_FILE_BYTES = 2 << 30
"""Of a file that is read, decompressed: ten times the largest that may be sent."""
MAX_PAGES = 100
"""Of the list of batches, in which one is looked for."""
CLOCK_MARGIN = timedelta(minutes=15)
"""By which a provider's clock may differ from ours."""
NOT_FOUND = frozenset({404, 410})
NOT_CANCELLABLE = frozenset({400, 409, 422})
_PAGE = 100
_UNDECIDED = {408, 409}


def may_exist(error: UpstreamError) -> bool:
    """Return whether a creation that failed with this may have created a batch."""
    status = error.facts.status
    if status is None:
        return error.facts.unanswered
    return status < 300 or status >= 500 or status in _UNDECIDED  # noqa: PLR2004


class ProviderApi:
    """The requests of one connection."""

    def __init__(self, client: UpstreamClient, connection: Connection) -> None:
        self.client = client
        self.connection = connection

    def url(self, operation: str, query: str = "") -> str:
        """Return the URL of an operation."""
        url = self.connection.endpoint.url(operation, "")
        return f"{url}{'&' if '?' in url else '?'}{query}" if query else url

    async def send(
        self, method: str, operation: str, body: bytes = b"", *, query: str = "", begin: Begin = do_nothing
    ) -> Response:
        """Return the response to a request that sends and returns little. Raises UpstreamError."""
        headers = self.connection.headers() | ({"content-type": "application/json"} if body else {})
        request = UpstreamRequest(method, self.url(operation, query), body, headers)
        return await self.client.send(
            request, self.connection.access, customer=self.connection.customer, timeout_s=REQUEST_S, begin=begin
        )

    async def upload(
        self,
        operation: str,
        content_type: str,
        chunks: AsyncIterable[bytes],
        size: int,
        *,
        total_s: float = math.inf,
        begin: Begin = do_nothing,
    ) -> Response:
        """Return the response to a request with much in it, of `size` bytes. Raises as `Transfers.upload`."""
        headers = {"content-type": content_type} | self.connection.headers()
        return await self.client.transfers.upload(
            UpstreamRequest("POST", self.url(operation), headers=headers),
            chunks,
            size,
            self.connection.access,
            customer=self.connection.customer,
            stall_s=STALL_S,
            total_s=total_s,
            begin=begin,
        )

    def download(self, operation: str) -> AsyncGenerator[bytes, None]:
        """Yield what is in a file. Use `contextlib.aclosing` to stop before its end. Raises UpstreamError."""
        return self.client.transfers.download(
            UpstreamRequest("GET", self.url(operation), headers=self.connection.headers()),
            self.connection.access,
            customer=self.connection.customer,
            stall_s=STALL_S,
            max_bytes=MAX_FILE_BYTES,
        )

    async def listed(
        self, operation: str, cursor: str, since: datetime
    ) -> AsyncGenerator[tuple[Response, dict[str, Any]], None]:
        """
        Yield the objects of a list, the newest first, each with its response, at least to those that are older.

        `cursor` names the parameter that says after which one a page begins. Raises UpstreamError, also if the list
        can't be read to its end: what is not in it allows another batch.
        """
        after = ""
        for _ in range(MAX_PAGES):
            query = f"limit={_PAGE}" + (f"&{cursor}={quote(after, safe='')}" if after else "")
            response = await self.send("GET", operation, query=query)
            page = json_of(response)
            if not isinstance(page.get("data"), list):
                break
            objects = [each for each in page["data"] if isinstance(each, dict)]
            for each in objects:
                yield response, each
            if not objects or not page.get("has_more") or _all_older(objects, since - CLOCK_MARGIN):
                return
            before, after = after, id_of({"id": page.get("last_id") or objects[-1].get("id")}, response)
            if after == before:
                break
        raise unusable(response)


def segment(text: str) -> str:
    """Return an id as a segment of a path. Raises NoId."""
    return quote(check_id(text), safe="")


def json_of(response: Response) -> dict[str, Any]:
    """Return the object in a response. Raises ProviderUnavailable if there is none."""
    try:
        value = json_value(response.body)
    except UNREADABLE:
        value = None
    if not isinstance(value, dict):
        raise unusable(response)
    return value


def id_of(value: Any, response: Response) -> str:
    """Return the id of an object in a response. Raises ProviderUnavailable if it has none that can be used."""
    try:
        return check_id(value.get("id"))
    except NoId:
        raise unusable(response) from None


def unusable(response: Response) -> ProviderUnavailable:
    """Return the error for a response that says nothing usable."""
    facts = UpstreamFacts(status=response.status, request_id=response.request_id, unanswered=True)
    return ProviderUnavailable("The endpoint's response describes no file or batch that can be used.", facts)


def _all_older(objects: list[dict[str, Any]], since: datetime) -> bool:
    times = [at for each in objects if (at := read_time(each.get("created_at"))) is not None]
    return bool(times) and max(times) < since
