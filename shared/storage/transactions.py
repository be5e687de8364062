"""
Transactions of the Table service: rows to a request body, and a response body to the refusal in it. Pure.

The format is OData's (learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions). The SDK
writes and reads it with the standard library's e-mail package, which takes more than twice the CPU time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from shared.storage.base import Row
from shared.storage.entities import MINIMAL_METADATA, entity_path, render_entity

_PART = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
_ACCEPT = f"Accept: {MINIMAL_METADATA}\r\nDataServiceVersion: 3.0\r\n"
_HEADERS = f"Content-Type: application/json\r\nPrefer: return-no-content\r\n{_ACCEPT}"
# Each begins with the end of a line, for which the search is quick: a response may have a hundred parts.
_STATUS = re.compile(rb"\nHTTP/1\.[01] ([0-9]{3})\b")
# The service's JSON has no line breaks, so nothing in it looks like a status line.
_CODE = re.compile(rb'(?:"code" ?: ?"|<(?:m:)?[Cc]ode>)([A-Za-z0-9]+)')
_ETAG = re.compile(rb"\n[Ee][Tt][Aa][Gg]: ?(.+)")
_ACCEPTED = 202


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a transaction was not made: status and error code of the change that failed."""

    status: int
    code: str


def render_changeset(service: str, table: str, rows: Sequence[Row], *, boundary: str) -> tuple[str, bytes]:
    """
    Return the content type and body of a request that merges the rows with an etag at it and inserts the others.

    `service` is the URL of the Table service; `boundary` must not occur in a row. Raises TypeError or ValueError for
    a value that a table can't hold.
    """
    return _batch([_change(service, table, row) for row in rows], boundary)


def render_deletes(service: str, table: str, rows: Sequence[Row], *, boundary: str) -> tuple[str, bytes]:
    """As `render_changeset`, to delete `rows`: each at its etag, or in any version if it has none."""
    deletes = [
        f"DELETE {service}{entity_path(table, row.partition, row.key)} HTTP/1.1\r\n"
        f"{_ACCEPT}If-Match: {row.etag or '*'}\r\n\r\n"
        for row in rows
    ]
    return _batch(deletes, boundary)


def read_refusal(status: int, content: bytes) -> Refusal | None:
    """
    Return the refusal in a response, or None if every change was made.

    Status 202 says only that the request was read; the outcome is in the parts of the body. A body without an outcome
    is a refusal with the code `Unreadable`: it must not pass for success.
    """
    statuses = [int(text) for text in _STATUS.findall(content)] if status == _ACCEPTED else []
    refused = next((part for part in statuses if not 200 <= part < 300), None)  # noqa: PLR2004
    if statuses and refused is None:
        return None
    return Refusal(refused or status, read_code(content))


def read_code(content: bytes) -> str:
    """Return the error code in a response's body, or `Unreadable`."""
    code = _CODE.search(content)
    return code[1].decode() if code else "Unreadable"


def read_etags(content: bytes) -> list[str]:
    """Return the rows' etags, in order, from the response body of a transaction that was made."""
    return [etag.decode().strip() for etag in _ETAG.findall(content)]


def _change(service: str, table: str, row: Row) -> str:
    if not row.etag:
        return f"POST {service}/{table} HTTP/1.1\r\n{_HEADERS}\r\n{render_entity(row)}\r\n"
    return (
        f"PATCH {service}{entity_path(table, row.partition, row.key)} HTTP/1.1\r\n"
        f"{_HEADERS}If-Match: {row.etag}\r\n\r\n{render_entity(row)}\r\n"
    )


def _batch(changes: Sequence[str], boundary: str) -> tuple[str, bytes]:
    parts = "".join(f"--changeset_{boundary}\r\n{_PART}{change}" for change in changes)
    body = (
        f"--batch_{boundary}\r\nContent-Type: multipart/mixed; boundary=changeset_{boundary}\r\n\r\n"
        f"{parts}--changeset_{boundary}--\r\n\r\n--batch_{boundary}--\r\n"
    )
    return f"multipart/mixed; boundary=batch_{boundary}", body.encode()
