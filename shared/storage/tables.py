"""One table of Azure Table Storage as a `stores.Table`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.data.tables import TableTransactionError, UpdateMode
from azure.data.tables.aio import TableClient

from shared.storage.account import Account, unavailable
from shared.stores import Row, RowChanged, RowExists

_PRECONDITION_FAILED = 412


class AzureTable:
    r"""See `stores.Table`. A row's key bears no `/`, `\\`, `#`, `?`; a bytes value is at most 64 KiB."""

    def __init__(self, account: Account, name: str) -> None:
        self._name = name
        settings, options = account.settings, account.options()
        if settings.connection_string is not None:
            self._client = TableClient.from_connection_string(
                settings.connection_string.reveal(), name, **options
            )
        else:
            self._client = TableClient(
                settings.table_service_uri, name, credential=account.identity(), **options
            )

    async def insert(self, row: Row) -> str:
        """See `stores.Table`."""
        try:
            return _etag(await self._client.create_entity(_entity(row)))
        except ResourceExistsError:
            raise RowExists(row.key) from None
        except AzureError as exc:
            raise unavailable(self._what("insert"), exc) from exc

    async def read(self, partition: str, key: str) -> Row | None:
        """See `stores.Table`."""
        try:
            return _row(await self._client.get_entity(partition, key))
        except ResourceNotFoundError as exc:
            if "TableNotFound" in str(exc):
                raise unavailable(self._what("read"), exc) from exc
            return None
        except AzureError as exc:
            raise unavailable(self._what("read"), exc) from exc

    async def merge(self, row: Row) -> str:
        """See `stores.Table`."""
        try:
            answer = await self._client.update_entity(
                _entity(row), UpdateMode.MERGE, etag=row.etag, match_condition=MatchConditions.IfNotModified
            )
        except AzureError as exc:
            raise self._changed_or_unavailable(exc, "merge") from exc
        return _etag(answer)

    async def merge_and_insert(self, changed: Row, added: Sequence[Row]) -> None:
        """See `stores.Table`."""
        at_etag = {
            "mode": UpdateMode.MERGE,
            "etag": changed.etag,
            "match_condition": MatchConditions.IfNotModified,
        }
        steps: list[Any] = [
            ("update", _entity(changed), at_etag),
            *(("create", _entity(row)) for row in added),
        ]
        try:
            await self._client.submit_transaction(steps)
        except AzureError as exc:
            raise self._changed_or_unavailable(exc, "transaction") from exc

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

    def _changed_or_unavailable(self, exc: AzureError, operation: str) -> Exception:
        status = exc.status_code if isinstance(exc, HttpResponseError) else None
        gone = isinstance(exc, ResourceNotFoundError) and "TableNotFound" not in str(exc)
        # A usage record that is there already, in a transaction, also says that somebody was here before.
        exists = isinstance(exc, TableTransactionError) and "EntityAlreadyExists" in str(exc)
        if status == _PRECONDITION_FAILED or gone or exists or "UpdateConditionNotSatisfied" in str(exc):
            return RowChanged(operation)
        return unavailable(self._what(operation), exc)


def _entity(row: Row) -> dict[str, Any]:
    return {"PartitionKey": row.partition, "RowKey": row.key, **row.values}


def _row(entity: Any) -> Row:
    values = {name: value for name, value in entity.items() if name not in {"PartitionKey", "RowKey"}}
    return Row(entity["PartitionKey"], entity["RowKey"], values, entity.metadata.get("etag") or "")


def _etag(answer: Any) -> str:
    return str(answer["etag"])
