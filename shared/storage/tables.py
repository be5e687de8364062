"""One table of Azure Table Storage as a `stores.Table`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import uuid4

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.rest import HttpRequest
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient

from shared.storage.account import Account, code_of, refused, unavailable
from shared.storage.changesets import read_etag, read_refusal, render_changeset
from shared.stores import Row, RowChanged, RowExists

_CHANGED = frozenset({"UpdateConditionNotSatisfied", "ConditionNotMet", "ResourceNotFound", "EntityNotFound"})
"""Storage's words for a row that is not what it was, or is gone."""
# The SDK asks again only where asking twice is harmless by HTTP's rules. Here it always is: an insert and
# a change at an etag can happen once, and whoever made them knows them again.
_AGAIN = {"retry_on_methods": frozenset({"POST", "PATCH"})}


class AzureTable:
    r"""See `stores.Table`. A row's key bears no `/`, `\\`, `#`, `?`; a bytes value is at most 64 KiB."""

    def __init__(self, account: Account, name: str) -> None:
        self._name = name
        settings, options = account.settings, account.options()
        if settings.connection_string is not None:
            self._client = TableClient.from_connection_string(settings.connection_string.reveal(), name, **options)
        else:
            self._client = TableClient(settings.table_service_uri, name, credential=account.identity(), **options)

    async def insert(self, row: Row) -> str:
        """See `stores.Table`."""
        try:
            return _etag(
                await self._client.create_entity(_entity(row), response_preference="return-no-content", **_AGAIN)
            )
        except ResourceExistsError:
            raise RowExists(row.key) from None
        except AzureError as exc:
            raise unavailable(self._what("insert"), exc) from exc

    async def read(self, partition: str, key: str) -> Row | None:
        """See `stores.Table`."""
        try:
            return _row(await self._client.get_entity(partition, key))
        except ResourceNotFoundError as exc:
            if code_of(exc) == "TableNotFound":
                raise unavailable(self._what("read"), exc) from exc
            return None
        except AzureError as exc:
            raise unavailable(self._what("read"), exc) from exc

    async def merge(self, row: Row) -> str:
        """See `stores.Table`."""
        try:
            answer = await self._client.update_entity(
                _entity(row),
                UpdateMode.MERGE,
                etag=row.etag,
                match_condition=MatchConditions.IfNotModified,
                **_AGAIN,
            )
        except AzureError as exc:
            if isinstance(exc, HttpResponseError) and code_of(exc) in _CHANGED:
                raise RowChanged(row.key) from None
            raise unavailable(self._what("merge"), exc) from exc
        return _etag(answer)

    async def merge_and_insert(self, changed: Row, added: Sequence[Row]) -> str:
        """See `stores.Table`."""
        what, service = self._what("transaction"), self._client.url.partition("?")[0]
        kind, body = render_changeset(service, self._name, changed, added, boundary=uuid4().hex)
        headers = {
            "Content-Type": kind,
            "Accept": "application/json",
            "x-ms-version": self._client.api_version,
            "DataServiceVersion": "3.0",
            "MaxDataServiceVersion": "3.0;NetFx",
        }
        request = HttpRequest("POST", f"{service}/$batch", headers=headers, content=body)
        try:
            # Through the SDK's own pipeline, for its authentication and retries; `stream` keeps it from
            # decoding the answer.
            response = await self._client._client.send_request(request, stream=True, **_AGAIN)  # noqa: SLF001
            answer = await response.read()
        except AzureError as exc:
            raise unavailable(what, exc) from exc
        refusal = read_refusal(response.status_code, answer)
        if refusal is None:
            return read_etag(answer)
        # A record that is there already also says that somebody was here before.
        if refusal.code in _CHANGED or refusal.code == "EntityAlreadyExists":
            raise RowChanged(changed.key)
        raise refused(what, refusal.status, refusal.code)

    async def scan(self, partition: str, first: str, last: str) -> AsyncIterator[Row]:
        """See `stores.Table`."""
        entities = self._client.query_entities(
            "PartitionKey eq @p and RowKey ge @f and RowKey lt @l",
            parameters={"p": partition, "f": first, "l": last},
        )
        try:
            async for entity in entities:
                yield _row(entity)
        except AzureError as exc:
            raise unavailable(self._what("query"), exc) from exc

    def _what(self, operation: str) -> str:
        return f"table {self._name}: {operation}"


def _entity(row: Row) -> dict[str, Any]:
    return {"PartitionKey": row.partition, "RowKey": row.key, **row.values}


def _row(entity: Any) -> Row:
    values = {name: value for name, value in entity.items() if name not in {"PartitionKey", "RowKey"}}
    return Row(entity["PartitionKey"], entity["RowKey"], values, entity.metadata.get("etag") or "")


def _etag(answer: Any) -> str:
    return str(answer["etag"])
