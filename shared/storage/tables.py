"""Azure Table Storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from shared.ids import new_id
from shared.storage.account import Account, refusal_error
from shared.storage.base import OPERATION_ID, TIMESTAMP, Row, RowChanged, RowConflict, RowExists, RowPage
from shared.storage.entities import MINIMAL_METADATA, entity_path, read_row, render_entity
from shared.storage.table_queries import keys_filter, partition_filter, query_of, read_page, with_conditions
from shared.storage.table_requests import TableRequests
from shared.storage.transactions import (
    Refusal,
    read_code,
    read_etags,
    read_refusal,
    render_changeset,
    render_deletes,
)

_CHANGED = frozenset({"UpdateConditionNotSatisfied", "ConditionNotMet", "ResourceNotFound", "EntityNotFound"})
"""Storage's error codes for a row that has another etag, or is gone."""
_CONFLICTS = _CHANGED | {"EntityAlreadyExists"}
_GONE = frozenset({"ResourceNotFound", "EntityNotFound"})
_PAGE = 1000
"""Rows that Storage returns at once (learn.microsoft.com/rest/api/storageservices/query-timeout-and-pagination)."""
_PROTOCOL = {"dataserviceversion": "3.0", "maxdataserviceversion": "3.0;NetFx"}
_READ = {"accept": MINIMAL_METADATA, **_PROTOCOL}
_WRITE = {"content-type": "application/json", "prefer": "return-no-content", **_READ}
_OK, _NO_CONTENT, _NOT_FOUND = 200, 204, 404


class AzureTable:
    r"""See `Table`. A key can't contain `/`, `\\`, `#` or `?`; a bytes value is at most 64 KiB."""

    def __init__(self, account: Account, name: str) -> None:
        self._name = name
        self._requests = TableRequests(account, name)

    async def insert(self, row: Row, *, beside: Sequence[Row] = (), operation_id: str = "") -> str:
        """See `Table`."""
        row = _with_operation(row, operation_id)
        if beside:
            etag = next(iter(await self._write_all("insert", [row, *beside])), None)
        else:
            etag = await self._write("insert", "POST", f"/{self._name}", _WRITE, row)
        return etag or await self._repeated(row, RowExists)

    async def read(self, partition: str, key: str) -> Row | None:
        """See `Table`."""
        row = await self._get(partition, key)
        return None if row is None else _without_operation(row)

    async def merge(self, row: Row, *, operation_id: str = "") -> str:
        """See `Table`."""
        row = _with_operation(row, operation_id)
        path, headers = entity_path(self._name, row.partition, row.key), {**_WRITE, "if-match": row.etag}
        return await self._write("merge", "PATCH", path, headers, row) or await self._repeated(row, RowChanged)

    async def merge_and_insert(self, changed: Row, added: Sequence[Row], *, operation_id: str = "") -> Sequence[str]:
        """See `Table`."""
        if not added:
            return [await self.merge(changed, operation_id=operation_id)]
        row = _with_operation(changed, operation_id)
        etags = await self._write_all("transaction", [row, *added])
        return etags or [await self._repeated(row, RowChanged)]

    async def _write(self, verb: str, method: str, path: str, headers: Mapping[str, str], row: Row) -> str | None:
        """The new etag, or None if Storage refused the row because it exists, has changed or is gone."""
        response = await self._requests.send(self._named(verb), method, path, headers, render_entity(row).encode())
        if response.status == _NO_CONTENT and (etag := response.headers.get("etag")):
            return etag
        code = read_code(response.body)
        if code in _CONFLICTS:
            return None
        raise refusal_error(self._named(verb), response.status, code)

    async def _write_all(self, verb: str, rows: Sequence[Row]) -> Sequence[str]:
        """The etags of the rows, or none if Storage refused them because one exists, has changed or is gone."""
        operation = self._named(verb)
        changeset = render_changeset(self._requests.url, self._name, rows, boundary=new_id())
        refusal, content = await self._transact(operation, *changeset)
        if refusal is None:
            return read_etags(content)
        if refusal.code in _CONFLICTS:
            return ()
        raise refusal_error(operation, refusal.status, refusal.code)

    async def _repeated(self, row: Row, conflict: type[RowConflict]) -> str:
        """The etag of a refused `row` that Storage holds: its first answer got lost. Else raises `conflict`."""
        current = await self._get(row.partition, row.key)
        if current is None:
            raise conflict(row.key)
        if current.values.get(OPERATION_ID) == row.values[OPERATION_ID]:
            return current.etag
        raise conflict(row.key, _without_operation(current))

    async def _get(self, partition: str, key: str) -> Row | None:
        operation = self._named("read")
        response = await self._requests.send(operation, "GET", entity_path(self._name, partition, key), _READ)
        if response.status == _OK:
            try:
                return read_row(response.body)
            except ValueError as exc:
                raise refusal_error(operation, response.status, "Unreadable") from exc
        code = read_code(response.body)
        if response.status == _NOT_FOUND and code != "TableNotFound":
            return None
        raise refusal_error(operation, response.status, code)

    async def scan(self, partition: str, first: str, last: str) -> AsyncIterator[Row]:
        """See `Table`."""
        after = ""
        while True:
            page = await self._query(keys_filter(partition, first, last), None, _PAGE, after)
            for row in page.rows:
                yield _without_time(row)
            after = page.after
            if not after:
                return

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
        condition = with_conditions(keys_filter(partition, first, last), where, older)
        page = await self._query(condition, columns, _PAGE, after)
        if columns is None or TIMESTAMP not in columns:
            return RowPage([_without_time(row) for row in page.rows], page.after)
        return page

    async def next_partition(self, after: str) -> str | None:
        """See `Table`."""
        token = ""
        while True:  # a page may be empty
            page = await self._query(partition_filter(after), (), 1, token)
            for row in page.rows:
                return row.partition
            token = page.after
            if not token:
                return None

    async def _query(self, condition: str, columns: Sequence[str] | None, size: int, after: str) -> RowPage:
        operation, query = self._named("query"), query_of(condition, columns, size, after)
        response = await self._requests.send(operation, "GET", f"/{self._name}()", _READ, query=query)
        if response.status != _OK:
            raise refusal_error(operation, response.status, read_code(response.body))
        try:
            return read_page(response)
        except ValueError as exc:
            raise refusal_error(operation, response.status, "Unreadable") from exc

    async def delete(self, rows: Sequence[Row]) -> Sequence[str]:
        """See `Table`."""
        if not rows:
            return []
        operation = self._named("delete")
        changeset = render_deletes(self._requests.url, self._name, rows, boundary=new_id())
        refusal, _ = await self._transact(operation, *changeset)
        if refusal is None:
            return []
        if refusal.code not in _CHANGED:
            raise refusal_error(operation, refusal.status, refusal.code)
        # One of them has changed or is gone, so none was deleted. Delete each by itself.
        return [row.key for row in rows if not await self._delete_one(row)]

    async def _delete_one(self, row: Row) -> bool:
        operation, headers = self._named("delete"), {**_READ, "if-match": row.etag or "*"}
        path = entity_path(self._name, row.partition, row.key)
        response = await self._requests.send(operation, "DELETE", path, headers)
        if response.status == _NO_CONTENT or (code := read_code(response.body)) in _GONE:
            return True
        if code in _CHANGED:
            return False
        raise refusal_error(operation, response.status, code)

    async def _transact(self, operation: str, content_type: str, body: bytes) -> tuple[Refusal | None, bytes]:
        headers = {"content-type": content_type, "accept": "application/json", **_PROTOCOL}
        response = await self._requests.send(operation, "POST", "/$batch", headers, body)
        return read_refusal(response.status, response.body), response.body

    def _named(self, operation: str) -> str:
        return f"table {self._name}: {operation}"


def _with_operation(row: Row, operation_id: str) -> Row:
    values = {**row.values, OPERATION_ID: operation_id or new_id()}
    return Row(row.partition, row.key, values, row.etag)


def _without_operation(row: Row) -> Row:
    return replace(row, values={name: value for name, value in row.values.items() if name != OPERATION_ID})


def _without_time(row: Row) -> Row:
    if TIMESTAMP not in row.values:
        return row
    return replace(row, values={name: value for name, value in row.values.items() if name != TIMESTAMP})
