"""One contract for the table in memory and the one on Azurite: concurrent writes, values, errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from shared.errors import StorageUnavailable
from shared.secret import Secret
from shared.storage import account as accounts
from shared.storage.base import Row, RowChanged, RowExists, Table
from shared.storage.tables import AzureTable
from shared.storage_settings import StorageAccount
from tests.support.faulty_tables import FaultyTable, account_of, faulty_table
from tests.support.harness import Harness
from tests.support.table_rows import keys


@pytest.fixture(params=["memory", "azure", "azure by the SDK"])
def faulty(request: pytest.FixtureRequest, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> FaultyTable:
    """All of them in the default tier, too."""
    return faulty_table(request.param, harness, monkeypatch)


async def test_a_missing_row_is_none(table: Table, partition: str) -> None:
    """Neither an unknown key nor a row of another partition is found."""
    await table.insert(Row(f"{partition}-other", "j_1", {"n": 1}))

    assert await table.read(partition, "j_1") is None


async def test_one_of_many_concurrent_writes_succeeds(table: Table, partition: str) -> None:
    """Of inserts of one key, and of merges at one etag, exactly one succeeds, and its value stays."""
    inserts = await asyncio.gather(
        *(table.insert(Row(partition, "j_1", {"n": n})) for n in range(8)), return_exceptions=True
    )
    (etag,) = [outcome for outcome in inserts if isinstance(outcome, str)]
    merges = await asyncio.gather(
        *(table.merge(Row(partition, "j_1", {"n": n}, etag)) for n in range(8)), return_exceptions=True
    )

    assert 7 == sum(isinstance(outcome, RowExists) for outcome in inserts)
    assert 7 == sum(isinstance(outcome, RowChanged) for outcome in merges)
    (winner,) = [n for n, outcome in enumerate(merges) if isinstance(outcome, str)]
    row = await table.read(partition, "j_1")
    assert row is not None
    assert {"n": winner} == row.values


VALUES: tuple[Any, ...] = (
    "",
    "plain",
    "line\r\nbreak, tab\t, quote ' \" and \\",
    "Grüße 你好 🙂",
    "\x01\x0b\x85\u2028\u2029",
    "2026-11-20T13:12:00Z",
    0,
    2**31 - 1,
    -(2**31),
    *(1.5, 27.0, 9.47),
    True,
    False,
    datetime(2026, 11, 20, 13, 12, 0, 123456, tzinfo=UTC),
    datetime(2026, 11, 20, 13, 12, tzinfo=UTC),
    datetime(2026, 11, 20, 13, 12, tzinfo=timezone(timedelta(hours=5))),
    b"",
    bytes(range(256)),
    b"\xff" * 64 * 1024,
)


async def test_values_are_read_as_they_were_written(table: Table, partition: str) -> None:
    """Text, numbers, booleans, datetimes and bytes up to 64 KiB keep their value and type, side by side in a row."""
    values = {f"v{number}": value for number, value in enumerate(VALUES)}
    etag = await table.insert(Row(partition, "j_1", values | {"other": 1}))
    inserted = await table.read(partition, "j_1")
    etag = await table.merge(Row(partition, "j_1", values, etag))
    merged = await table.read(partition, "j_1")
    await table.merge_and_insert(Row(partition, "j_1", values, etag), [Row(partition, "u_1", values)])

    for row in (inserted, merged, await table.read(partition, "j_1"), await table.read(partition, "u_1")):
        assert row is not None
        assert values == {name: value for name, value in row.values.items() if name != "other"}
        assert [*map(type, values.values())] == [type(row.values[name]) for name in values]
        assert all(row.values[name].utcoffset() is not None for name in values if isinstance(values[name], datetime))


async def test_a_key_can_have_every_character_of_a_job_id(table: Table, partition: str) -> None:
    """Every character that a job id may have is valid in a key."""
    key = "j_Az09._-" + "x" * 91
    etag = await table.insert(Row(partition, key, {"n": 1}))
    await table.merge_and_insert(
        Row(partition, key, {"n": 2}, etag), [Row(partition, f"u_2026-11_{key}_0000", {"n": 1})]
    )

    row = await table.read(partition, key)

    assert row is not None
    assert {"n": 2} == row.values


METHODS: dict[str, Callable[[Table, str], Awaitable[Any]]] = {
    "insert": lambda table, partition: table.insert(Row(partition, "j_1", {"n": 1})),
    "read": lambda table, partition: table.read(partition, "j_1"),
    "merge": lambda table, partition: table.merge(Row(partition, "j_1", {"n": 1}, 'W/"1"')),
    "transaction": lambda table, partition: table.merge_and_insert(
        Row(partition, "j_1", {"n": 1}, 'W/"1"'), [Row(partition, "u_1", {"n": 1})]
    ),
    "query": keys,
    "query ": lambda table, partition: table.page(partition, "", "~"),
    "query  ": lambda table, partition: table.next_partition(partition),
    "delete": lambda table, partition: table.delete([Row(partition, "j_1", {})]),
}


@pytest.mark.parametrize("method", METHODS)
async def test_the_error_for_a_missing_table_names_it(harness: Harness, method: str) -> None:
    """For each method, the error has the table, the operation and Storage's error code."""
    missing = AzureTable(account_of(harness), "neverMade")

    with pytest.raises(StorageUnavailable, match=rf"table neverMade: {method.strip()}: 404 TableNotFound"):
        await METHODS[method](missing, "p")


@pytest.mark.parametrize("method", METHODS)
async def test_an_unreachable_storage_is_unavailable(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """If nothing listens, every method raises StorageUnavailable and shows no key."""
    monkeypatch.setitem(accounts._RETRIES, "retry_backoff_factor", 0.01)
    text = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=c2VjcmV0;TableEndpoint=http://127.0.0.1:1/a;"
    nowhere = replace(account_of(harness), settings=StorageAccount(Secret(text), "", "", "", ""))

    with pytest.raises(StorageUnavailable, match=f"table jobs: {method.strip()}") as raised:
        await METHODS[method](AzureTable(nowhere, "jobs"), "p")

    assert "c2VjcmV0" not in f"{raised.value} {nowhere!r}"
