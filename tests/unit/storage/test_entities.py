"""Rows as Storage writes them, and responses that hold none."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Never

import pytest

from shared.errors import StorageUnavailable
from shared.network.response import Response
from shared.secret import Secret
from shared.storage.account import Account
from shared.storage.base import Row
from shared.storage.entities import read_row
from shared.storage.tables import AzureTable
from shared.storage_settings import StorageAccount
from tests.support.rows import every_row
from tests.support.storage_pools import RecordingPool

STORED = (
    b'{"odata.metadata":"https://acme.table.core.windows.net/$metadata#jobs/@Element",'
    b'"odata.etag":"W/\\"datetime\'2026-11-29T12%3A00%3A00.1234567Z\'\\"","PartitionKey":"p","RowKey":"k",'
    b'"Timestamp":"2026-11-29T12:00:00.1234567Z","text":"\xc3\xbc","n":-1,"flag":true,"half":0.5,'
    b'"at@odata.type":"Edm.DateTime","at":"2026-11-29T12:00:00.1234567Z","big@odata.type":"Edm.Int64",'
    b'"big":"9007199254740993","none@odata.type":"Edm.Double","none":"NaN","all@odata.type":"Edm.Double",'
    b'"all":"-Infinity","data@odata.type":"Edm.Binary","data":"AAE="}'
)


def account(pool: RecordingPool) -> Account:
    """An account whose requests the pool answers."""

    def unused(*_: object) -> Never:
        raise AssertionError("The SDK is not needed.")

    return Account(StorageAccount(Secret("AccountName=acme;AccountKey=a2V5"), "", "", "", ""), unused, unused, pool)


def test_a_row_has_the_types_that_storage_names():
    """A time has seven digits of a second, of which Python keeps six. Metadata and `Timestamp` are no values."""
    row = read_row(STORED)

    values = dict(row.values)
    assert math.isnan(values.pop("none"))
    at = datetime(2026, 11, 29, 12, 0, 0, 123456, UTC)
    plain = {"text": "ü", "n": -1, "flag": True, "half": 0.5}
    typed = {"at": at, "big": 2**53 + 1, "all": -math.inf, "data": b"\x00\x01"}
    assert Row("p", "k", plain | typed, "W/\"datetime'2026-11-29T12%3A00%3A00.1234567Z'\"") == Row(
        row.partition, row.key, values, row.etag
    )


@every_row("body", [b"", b"<html>", b"[]", b"null", b"{}", STORED.replace(b"odata.etag", b"odata.e")])
async def test_a_response_without_a_row_is_an_error_of_storage(body: bytes):
    """Such as a proxy's page: the job is requeued, as if Storage had not answered. Nothing of it is quoted."""

    class Pool(RecordingPool):
        async def exchange(self, *_: object) -> Response:
            return Response(200, {}, body)

    with pytest.raises(StorageUnavailable, match=r"\(table jobs: read: 200 Unreadable\)"):
        await AzureTable(account(Pool(200)), "jobs").read("p", "k")


async def test_a_written_row_without_an_etag_is_an_error_of_storage():
    """Nothing could be written at it later; the repetition of the write is recognized."""
    table = AzureTable(account(RecordingPool(204)), "jobs")

    for write in (table.insert(Row("p", "k", {})), table.merge(Row("p", "k", {}, "1"))):
        with pytest.raises(StorageUnavailable, match="204 Unreadable"):
            await write
