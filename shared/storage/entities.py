"""
Rows as the Table service writes them: OData's JSON with minimal metadata. Pure.

The types: learn.microsoft.com/rest/api/storageservices/payload-format-for-table-service-operations.
"""

from __future__ import annotations

import math
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from shared.storage.base import TIMESTAMP, Row

MINIMAL_METADATA = "application/json;odata=minimalmetadata"
_TYPE = "@odata.type"
_DECODER = msgspec.json.Decoder(dict[str, Any])
_INT32 = range(-(2**31), 2**31)
_AS_THEY_ARE = frozenset({str, bool})
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "Edm.Binary": b64decode,
    "Edm.DateTime": datetime.fromisoformat,
    "Edm.Double": float,
    "Edm.Int64": int,
}
_is_plain = re.compile(r"[A-Za-z0-9_.~-]*").fullmatch
_NOT_VALUES = frozenset({"PartitionKey", "RowKey", TIMESTAMP})


class _Listed(msgspec.Struct):
    value: list[dict[str, Any]]


_LIST_DECODER = msgspec.json.Decoder(_Listed)


def entity_path(table: str, partition: str, key: str) -> str:
    """Return the path of a row, after that of the account."""
    return f"/{table}(PartitionKey='{_quoted(partition)}',RowKey='{_quoted(key)}')"


def render_entity(row: Row) -> str:
    """Return a row as JSON. Raises TypeError or ValueError for a value that a table can't hold."""
    members: dict[str, Any] = {"PartitionKey": row.partition, "RowKey": row.key}
    for name, value in row.values.items():
        if type(value) in _AS_THEY_ARE or (type(value) is int and value in _INT32):  # as most are
            members[name] = value
            continue
        edm_type, members[name] = _property(name, value)
        if edm_type:
            members[f"{name}{_TYPE}"] = edm_type
    text = msgspec.json.encode(members).decode()
    if text.isascii():  # as most are
        return text
    # Storage emulators take them for the end of a line, and then a transaction for one that is cut off.
    return text.replace("\u2028", r"\u2028").replace("\u2029", r"\u2029")


def read_row(content: bytes) -> Row:
    """Return the row in a response, with its etag and its operation id. Raises ValueError if there is none."""
    return _row(_DECODER.decode(content), _NOT_VALUES)


def read_rows(content: bytes, *, without: str) -> list[Row]:
    """
    Return the rows in the response to a query, each without that column. Raises ValueError.

    They have their times of writing if the query names that column.
    """
    left_out = _NOT_VALUES - {TIMESTAMP} | {without}
    return [_row(members, left_out) for members in _LIST_DECODER.decode(content).value]


def _row(members: Mapping[str, Any], left_out: frozenset[str]) -> Row:
    if not {"PartitionKey", "RowKey", "odata.etag"} <= members.keys():
        raise ValueError("The response has no row.")
    values = {
        name: value
        for name, value in members.items()
        if value is not None and "odata." not in name and name not in left_out
    }
    for annotation, edm_type in members.items():
        if _TYPE in annotation:  # few values have one
            name = annotation[: -len(_TYPE)]
            if name in values and edm_type in _READERS:
                values[name] = _READERS[edm_type](values[name])
    if TIMESTAMP in values:  # Storage does not say its type
        values[TIMESTAMP] = datetime.fromisoformat(values[TIMESTAMP])
    return Row(members["PartitionKey"], members["RowKey"], values, members["odata.etag"])


def _quoted(text: str) -> str:
    if _is_plain(text):  # as most are
        return text
    return quote(text.replace("'", "''"), safe="")


def _property(name: str, value: Any) -> tuple[str, Any]:
    if isinstance(value, datetime):
        return "Edm.DateTime", f"{value.astimezone(UTC).isoformat(timespec='microseconds').removesuffix('+00:00')}Z"
    if isinstance(value, bytes):
        return "Edm.Binary", b64encode(value).decode()
    if isinstance(value, float) and math.isfinite(value):
        return "Edm.Double", value
    if isinstance(value, str | bool):
        return "", value
    if not isinstance(value, int):
        raise TypeError(f"A row can't hold a {type(value).__name__} (column {name}).")
    if value not in _INT32:
        raise ValueError(f"The column {name} must be a 32-bit integer.")
    return "", value
