"""Azure Table Storage."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import uuid4

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.core.rest import HttpRequest
from azure.data.tables import UpdateMode
from azure.data.tables.aio import TableClient

from shared.storage.account import Account, error_code, refusal_error, storage_error
from shared.storage.base import OPERATION_ID, Row, RowChanged, RowConflict, RowExists, RowPage
from shared.storage.transactions import (
    Refusal,
    read_etags,
    read_refusal,
    render_changeset,
    render_deletes,
)

_CHANGED = frozenset({"UpdateConditionNotSatisfied", "ConditionNotMet", "ResourceNotFound", "EntityNotFound"})
"""Storage's error codes for a row that has another etag, or is gone."""
_CONFLICTS = _CHANGED | {"EntityAlreadyExists"}
_NOT_VALUES = frozenset({"PartitionKey", "RowKey", OPERATION_ID})
_KEYS = "PartitionKey eq @p and RowKey ge @f and RowKey lt @l"
_PAGE = 1000
"""Rows that Storage returns at once (learn.microsoft.com/rest/api/storageservices/query-timeout-and-pagination)."""
# By default the SDK retries only methods that HTTP calls idempotent. An insert and a change at an etag are made
# once, too, and `_repeated` recognizes them.
_RETRY_WRITES = {"retry_on_methods": frozenset({"POST", "PATCH"})}


class AzureTable:
    r"""See `Table`. A key can't contain `/`, `\\`, `#` or `?`; a bytes value is at most 64 KiB."""

    def __init__(self, account: Account, name: str) -> None:
        self._account, self._name = account, name

    @cached_property
    def _client(self) -> TableClient:
        settings, options = self._account.settings, self._account.options()
        if settings.connection_string is not None:
            return TableClient.from_connection_string(settings.connection_string.reveal(), self._name, **options)
        return TableClient(settings.table_service_uri, self._name, credential=self._account.identity(), **options)

    async def insert(self, row: Row, *, beside: Sequence[Row] = (), operation_id: str = "") -> str:
        """See `Table`."""
        row = _with_operation(row, operation_id)
        if beside:
            etag = next(iter(await self._write_all("insert", [row, *beside])), None)
        else:
            etag = await self._insert_one(row)
        return etag or await self._repeated(row, RowExists)

    async def read(self, partition: str, key: str) -> Row | None:
        """See `Table`."""
        entity = await self._get(partition, key)
        return None if entity is None else _row(entity)

    async def merge(self, row: Row, *, operation_id: str = "") -> str:
        """See `Table`."""
        row = _with_operation(row, operation_id)
        options: dict[str, Any] = {**_at_etag(row), **_RETRY_WRITES}
        try:
            return _etag(await self._client.update_entity(_entity(row), UpdateMode.MERGE, **options))
        except AzureError as exc:
            if not (isinstance(exc, HttpResponseError) and error_code(exc) in _CHANGED):
                raise storage_error(self._named("merge"), exc) from exc
        return await self._repeated(row, RowChanged)

    async def merge_and_insert(self, changed: Row, added: Sequence[Row], *, operation_id: str = "") -> Sequence[str]:
        """See `Table`."""
        if not added:
            return [await self.merge(changed, operation_id=operation_id)]
        row = _with_operation(changed, operation_id)
        etags = await self._write_all("transaction", [row, *added])
        return etags or [await self._repeated(row, RowChanged)]

    async def _insert_one(self, row: Row) -> str | None:
        """The new etag, or None if the row exists."""
        try:
            return _etag(
                await self._client.create_entity(_entity(row), response_preference="return-no-content", **_RETRY_WRITES)
            )
        except ResourceExistsError:
            return None
        except AzureError as exc:
            raise storage_error(self._named("insert"), exc) from exc

    async def _write_all(self, verb: str, rows: Sequence[Row]) -> Sequence[str]:
        """The etags of the rows, or none if Storage refused them because one exists, has changed or is gone."""
        operation = self._named(verb)
        changeset = render_changeset(self._service, self._name, rows, boundary=uuid4().hex)
        refusal, content = await self._transact(operation, *changeset)
        if refusal is None:
            return read_etags(content)
        if refusal.code in _CONFLICTS:
            return ()
        raise refusal_error(operation, refusal.status, refusal.code)

    async def _repeated(self, row: Row, conflict: type[RowConflict]) -> str:
        """The etag of a refused `row` that Storage holds: its first answer got lost. Else raises `conflict`."""
        entity = await self._get(row.partition, row.key)
        current = None if entity is None else _row(entity)
        if current is not None and entity.get(OPERATION_ID) == row.values[OPERATION_ID]:
            return current.etag
        raise conflict(row.key, current)

    async def _get(self, partition: str, key: str) -> Any:
        try:
            return await self._client.get_entity(partition, key)
        except ResourceNotFoundError as exc:
            if error_code(exc) == "TableNotFound":
                raise storage_error(self._named("read"), exc) from exc
            return None
        except AzureError as exc:
            raise storage_error(self._named("read"), exc) from exc

    async def scan(self, partition: str, first: str, last: str) -> AsyncIterator[Row]:
        """See `Table`."""
        entities = self._client.query_entities(_KEYS, parameters={"p": partition, "f": first, "l": last})
        try:
            async for entity in entities:
                yield _row(entity)
        except AzureError as exc:
            raise storage_error(self._named("query"), exc) from exc

    async def page(
        self,
        partition: str,
        first: str,
        last: str,
        *,
        older: Mapping[str, datetime] | None = None,
        where: Mapping[str, str] | None = None,
        columns: Sequence[str] | None = None,
        after: str = "",
    ) -> RowPage:
        """See `Table`."""
        query, values = _KEYS, {"p": partition, "f": first, "l": last}
        for number, (name, value) in enumerate((where or {}).items()):
            query += f" and {name} @w{number}"
            values[f"w{number}"] = value
        if older:
            # The SDK splits a filter at its spaces.
            query += f" and ( {' or '.join(f'{name} lt @{name}' for name in older)} )"
        entities = self._client.query_entities(
            query,
            parameters={**values, **(older or {})},
            select=None if columns is None else ["PartitionKey", "RowKey", *columns],
            results_per_page=_PAGE,
        )
        pages = entities.by_page(json.loads(after) if after else None)
        try:
            rows = [_row(entity) async for entity in await anext(pages)]
        except AzureError as exc:
            raise storage_error(self._named("query"), exc) from exc
        token = getattr(pages, "continuation_token", None)
        return RowPage(rows, json.dumps(token) if token else "")

    async def next_partition(self, after: str) -> str | None:
        """See `Table`."""
        entities = self._client.query_entities(
            "PartitionKey gt @after", parameters={"after": after}, select=["PartitionKey", "RowKey"], results_per_page=1
        )
        try:
            async for entity in entities:
                return str(entity["PartitionKey"])
        except AzureError as exc:
            raise storage_error(self._named("query"), exc) from exc
        return None

    async def delete(self, rows: Sequence[Row]) -> Sequence[str]:
        """See `Table`."""
        if not rows:
            return []
        operation = self._named("delete")
        changeset = render_deletes(self._service, self._name, rows, boundary=uuid4().hex)
        refusal, _ = await self._transact(operation, *changeset)
        if refusal is None:
            return []
        if refusal.code not in _CHANGED:
            raise refusal_error(operation, refusal.status, refusal.code)
        # One of them has changed or is gone, so none was deleted. Delete each by itself.
        return [row.key for row in rows if not await self._delete_one(row)]

    async def _delete_one(self, row: Row) -> bool:
        try:
            await self._client.delete_entity(row.partition, row.key, **(_at_etag(row) if row.etag else {}))
        except ResourceNotFoundError:
            return True
        except AzureError as exc:
            if isinstance(exc, HttpResponseError) and error_code(exc) in _CHANGED:
                return False
            raise storage_error(self._named("delete"), exc) from exc
        return True

    async def _transact(self, operation: str, content_type: str, body: bytes) -> tuple[Refusal | None, bytes]:
        headers = {
            "Content-Type": content_type,
            "Accept": "application/json",
            "x-ms-version": self._client.api_version,
            "DataServiceVersion": "3.0",
            "MaxDataServiceVersion": "3.0;NetFx",
        }
        request = HttpRequest("POST", f"{self._service}/$batch", headers=headers, content=body)
        try:
            # Through the SDK's own pipeline, for its authentication and retries. `stream`: it does not decode the body.
            response = await self._client._client.send_request(request, stream=True, **_RETRY_WRITES)  # noqa: SLF001
            content = await response.read()
        except AzureError as exc:
            raise storage_error(operation, exc) from exc
        return read_refusal(response.status_code, content), content

    @property
    def _service(self) -> str:
        return self._client.url.partition("?")[0]

    def _named(self, operation: str) -> str:
        return f"table {self._name}: {operation}"


def _with_operation(row: Row, operation_id: str) -> Row:
    return replace(row, values={**row.values, OPERATION_ID: operation_id or uuid4().hex})


def _entity(row: Row) -> dict[str, Any]:
    return {"PartitionKey": row.partition, "RowKey": row.key, **row.values}


def _at_etag(row: Row) -> dict[str, Any]:
    return {"etag": row.etag, "match_condition": MatchConditions.IfNotModified}


def _row(entity: Any) -> Row:
    values = {name: value for name, value in entity.items() if name not in _NOT_VALUES}
    return Row(entity["PartitionKey"], entity["RowKey"], values, entity.metadata.get("etag") or "")


def _etag(metadata: Any) -> str:
    return str(metadata["etag"])
