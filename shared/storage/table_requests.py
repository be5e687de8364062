"""Requests to the Table service: sent directly and, if that has no certain outcome, by the SDK."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from shared.network.response import Response
from shared.storage.account import Account, sdk_errors
from shared.storage.direct.client import DirectClient

if TYPE_CHECKING:
    from azure.data.tables.aio import TableClient

# By default the SDK retries only methods that HTTP calls idempotent. An insert and a change at an etag are made once,
# too: the adapter recognizes its own by their operation ids.
_RETRIED = frozenset({"GET", "POST", "PATCH", "DELETE"})


class TableRequests:
    """Sends requests to one table's service."""

    def __init__(self, account: Account, table: str) -> None:
        self._account, self._table = account, table

    @property
    def url(self) -> str:
        """The URL of the service."""
        return self._direct.url

    @cached_property
    def _direct(self) -> DirectClient:
        return self._account.direct("table")

    @cached_property
    def client(self) -> TableClient:
        """The SDK's client. Most jobs don't need it."""
        from azure.data.tables.aio import TableClient  # noqa: PLC0415

        settings, options = self._account.settings, self._account.options()
        if settings.connection_string is not None:
            return TableClient.from_connection_string(settings.connection_string.reveal(), self._table, **options)
        return TableClient(settings.table_service_uri, self._table, credential=self._account.identity(), **options)

    async def send(
        self,
        operation: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        query: Mapping[str, str] | None = None,
    ) -> Response:
        """
        Send a request. `path` follows the account's; `operation` names it in errors.

        Return a response of any status. Raises StorageUnavailable if there is none.
        """
        response = await self._direct.send(method, path, headers, body, query)
        return response or await self._send_by_sdk(operation, method, path, headers, body, query)

    async def _send_by_sdk(
        self,
        operation: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, str] | None,
    ) -> Response:
        from azure.core.rest import HttpRequest  # noqa: PLC0415  # most jobs don't need it

        versioned = {**headers, "x-ms-version": self.client.api_version}
        target = f"{path}?{urlencode(query)}" if query else path
        request = HttpRequest(method, f"{self.url}{target}", headers=versioned, content=body or None)
        with sdk_errors(operation):
            # Through the SDK's own pipeline, for its authentication and retries. `stream`: it does not decode the body.
            response = await self.client._client.send_request(  # noqa: SLF001
                request, stream=True, retry_on_methods=_RETRIED
            )
            content = await response.read()
        return Response(response.status_code, {name.lower(): text for name, text in response.headers.items()}, content)
