"""
Queries of one table, a page at a time, in Storage's own words. Pure, except for the request.

The filter and the continuation token: learn.microsoft.com/rest/api/storageservices/querying-tables-and-entities and
…/query-timeout-and-pagination.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from shared.network.response import Response
from shared.storage.base import OPERATION_ID, RowPage
from shared.storage.entities import read_rows

_CONTINUATION = {
    "PartitionKey": ("NextPartitionKey", "x-ms-continuation-nextpartitionkey"),
    "RowKey": ("NextRowKey", "x-ms-continuation-nextrowkey"),
}
"""The members of a token, by their names in the query and in the response's headers."""


def keys_filter(partition: str, first: str, last: str) -> str:
    """Return the condition for a partition's rows whose key is at least `first` and less than `last`."""
    return f"PartitionKey eq {_text(partition)} and RowKey ge {_text(first)} and RowKey lt {_text(last)}"


def partition_filter(after: str) -> str:
    """Return the condition for the rows of all partitions after this one."""
    return f"PartitionKey gt {_text(after)}"


def with_conditions(keys: str, where: Mapping[str, str] | None, older: Mapping[str, datetime] | None) -> str:
    """Return a condition with those that `Table.page` documents."""
    conditions = [keys, *(f"{name} {_text(value)}" for name, value in (where or {}).items())]
    if older:
        conditions.append(f"({' or '.join(f'{name} lt {_time(at)}' for name, at in older.items())})")
    return " and ".join(conditions)


def query_of(condition: str, columns: Sequence[str] | None, size: int, after: str) -> dict[str, str]:
    """Return the query of a page's URL. `after`: the token that the page before has returned."""
    query = {"$filter": condition, "$top": str(size)}
    if columns is not None:
        query["$select"] = ",".join(("PartitionKey", "RowKey", *columns))
    token = json.loads(after) if after else {}
    return query | {_CONTINUATION[name][0]: value for name, value in token.items() if value}


def read_page(response: Response) -> RowPage:
    """Return the page in a response. Raises ValueError if there is none."""
    token = {name: text for name, (_, header) in _CONTINUATION.items() if (text := response.headers.get(header))}
    rows = read_rows(response.body, without=OPERATION_ID)
    return RowPage(rows, json.dumps(token) if token else "")


def _text(value: str) -> str:
    return f"'{value.replace(chr(39), chr(39) * 2)}'"


def _time(at: datetime) -> str:
    return f"datetime'{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z'"
