"""Transactions: a MIME parser and the SDK read what is written, and Storage's responses are read."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.message import Message
from typing import Any, NamedTuple
from urllib.parse import unquote

import pytest
from azure.data.tables._serialize import _add_entity_properties
from hypothesis import given
from hypothesis import strategies as st

from shared.storage.base import Row
from shared.storage.transactions import Refusal, read_refusal, render_changeset
from tests.support.rows import every_row

SERVICE = "https://contoso.table.core.windows.net"
ETAG = "W/\"datetime'2026-11-20T14%3A17%3A44.6896596Z'\""

names = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.one_of(
    texts,
    st.integers(-(2**31), 2**31 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.binary(max_size=200),
    st.datetimes(
        min_value=datetime(1602, 1, 1),  # noqa: DTZ001  # hypothesis wants it bare; a table begins at 1601
        max_value=datetime(9998, 1, 1),  # noqa: DTZ001
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7))]),
    ),
)
rows = st.builds(Row, st.just("contoso"), texts, st.dictionaries(names, values, max_size=6), st.just(ETAG))


class Operation(NamedTuple):
    """One request within a changeset."""

    method: str
    url: str
    headers: dict[str, str]
    entity: dict[str, Any]


def parse(kind: str, body: bytes) -> list[Operation]:
    """Return the operations in a request, as the e-mail package reads them."""

    def parts(message: Message) -> list[Any]:
        payload = message.get_payload()
        assert isinstance(payload, list)
        return payload

    batch = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body, policy=policy.HTTP)
    (changeset,) = parts(batch)
    operations = []
    for part in parts(changeset):
        assert "application/http" == part.get_content_type()
        head, _, content = part.get_payload(decode=True).partition(b"\r\n\r\n")
        line, *lines = head.decode("ascii").split("\r\n")
        method, url, version = line.split(" ")
        assert "HTTP/1.1" == version
        operations.append(Operation(method, url, dict(line.split(": ", 1) for line in lines), json.loads(content)))
    return operations


@given(changes=st.lists(st.one_of(rows, rows.map(lambda row: replace(row, etag=""))), min_size=1, max_size=3))
def test_a_request_has_the_rows(changes: list[Row]) -> None:
    """Whatever the rows contain, a MIME parser finds, in order, a merge at each etag, and inserts of the others."""
    operations = parse(*render_changeset(SERVICE, "jobs", changes, boundary="b0undary"))

    for row, operation in zip(changes, operations, strict=True):
        assert as_the_sdk_writes(row) == operation.entity
        if not row.etag:
            assert ("POST", f"{SERVICE}/jobs") == (operation.method, operation.url)
            assert "If-Match" not in operation.headers
            continue
        assert ("PATCH", ETAG) == (operation.method, operation.headers["If-Match"])
        key = unquote(operation.url.removeprefix(f"{SERVICE}/jobs(PartitionKey='contoso',RowKey='").removesuffix("')"))
        assert row.key == key.replace("''", "'")


def as_the_sdk_writes(row: Row) -> dict[str, Any]:
    """Return the entity as the SDK encodes it, without the types of text, which are optional."""
    entity = _add_entity_properties({"PartitionKey": row.partition, "RowKey": row.key, **row.values})
    return {name: value for name, value in entity.items() if value != "Edm.String" or name in row.values}


def test_a_quote_in_a_key_is_encoded() -> None:
    """A key can't end its place in the URL."""
    row = Row("o'hara", "j_') HTTP/1.1\r\nX: y /?#%", {}, ETAG)

    (operation,) = parse(*render_changeset(SERVICE, "jobs", [row], boundary="b"))

    assert (
        f"{SERVICE}/jobs(PartitionKey='o%27%27hara',RowKey='j_%27%27%29%20HTTP%2F1.1%0D%0AX%3A%20y%20%2F%3F%23%25')"
    ) == operation.url


@every_row(
    ("value", "error"), [(2**31, ValueError), (-(2**31) - 1, ValueError), (float("nan"), TypeError), (None, TypeError)]
)
def test_values_that_a_table_can_not_hold_are_refused(value: Any, error: type[Exception]) -> None:
    """A value of another type, or a number too large, raises an error that names the column."""
    with pytest.raises(error, match="tokens"):
        render_changeset(SERVICE, "jobs", [Row("p", "k", {"tokens": value}, ETAG)], boundary="b")


def response_body(*statuses: str, content: str = "") -> bytes:
    """Return a response body as Storage writes it."""
    parts = "".join(
        "--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        f"HTTP/1.1 {status}\r\nContent-ID: 1\r\nDataServiceVersion: 3.0;\r\n\r\n{content}\r\n"
        for status in statuses
    )
    return (
        "--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n"
        f"{parts}--changesetresponse_1--\r\n--batchresponse_1--\r\n"
    ).encode()


def error_body(code: str, message: str = "0:No.") -> str:
    """Return the body of an error."""
    return json.dumps({"odata.error": {"code": code, "message": {"lang": "en-US", "value": message}}})


@given(st.lists(st.sampled_from(["204 No Content", "201 Created"]), min_size=1, max_size=100))
def test_only_successes_are_a_success(statuses: list[str]) -> None:
    """A response in which every part succeeded has no refusal."""
    assert read_refusal(202, response_body(*statuses)) is None


def refused(status: str, code: str, message: str = "0:No.") -> bytes:
    """Return a response in which one part was refused."""
    return response_body(status, content=error_body(code, message))


XML = "<error><m:code>InvalidInput</m:code></error>"
REFUSALS = {
    "changed": (202, refused("412 Failed", "UpdateConditionNotSatisfied"), 412, "UpdateConditionNotSatisfied"),
    "exists": (202, refused("409 Conflict", "EntityAlreadyExists", "1:No."), 409, "EntityAlreadyExists"),
    "gone": (202, refused("404 Not Found", "ResourceNotFound"), 404, "ResourceNotFound"),
    "mixed": (202, response_body("204 OK", "503 Busy", content=error_body("ServerBusy")), 503, "ServerBusy"),
    "no body": (202, response_body("500 Internal Server Error"), 500, "Unreadable"),
    "status in a message": (202, refused("400 No", "InvalidInput", "\nHTTP/1.1 204 No Content"), 400, "InvalidInput"),
    "xml": (202, response_body("400 Bad Request", content=XML), 400, "InvalidInput"),
    "empty": (202, b"", 202, "Unreadable"),
    "no part": (202, response_body(), 202, "Unreadable"),
    "html": (202, b"<html>HTTP/1.1 204", 202, "Unreadable"),
    "forbidden": (403, error_body("AuthenticationFailed").encode(), 403, "AuthenticationFailed"),
    "busy": (503, b"", 503, "Unreadable"),
    "contradiction": (500, response_body("204 No Content"), 500, "Unreadable"),
}


@every_row(("status", "content", "expected", "code"), REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_has_status_and_code(status: int, content: bytes, expected: int, code: str) -> None:
    """They are those of the part that failed; a body that can't be read is a refusal."""
    assert Refusal(expected, code) == read_refusal(status, content)
