"""One contract for the table in memory and the one on Azurite: scans, pages, deletions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from azure.data.tables import EdmType, EntityProperty
from azure.data.tables.aio import TableClient

from shared.contract.result import MESSAGE_LIMIT
from shared.storage import tables
from shared.storage.base import TIMESTAMP, Row, Table
from tests.support.fakes import MemoryTable
from tests.support.harness import Harness
from tests.support.table_rows import fill, keys


@pytest.fixture
def small_pages(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of two rows."""
    monkeypatch.setattr(tables, "_PAGE", 2)
    if isinstance(table, MemoryTable):
        table.page_size = 2


@pytest.mark.usefixtures("small_pages")
async def test_a_scan_and_its_pages_have_the_rows_between_their_bounds(table: Table, partition: str) -> None:
    """
    The first bound is included, the last is not, and rows of other partitions are not returned. The pages have each
    row once, in order; the last page has no continuation token.
    """
    await fill(table, partition, "u_2", "j_b", "j_", "j_a", "j_c", "j`", "i_z", "j_Z")
    await fill(table, f"{partition}-other", "j_d")

    rows = [row async for row in table.scan(partition, "j_", "j`")]
    pages, after = [], None
    while after != "":
        page = await table.page(partition, "j_", "j`", after=after or "")
        pages.append(list(page.rows))
        after = page.after

    assert ["j_", "j_Z", "j_a", "j_b", "j_c"] == [row.key for row in rows]
    assert all(row.key == row.values["key"] and row.partition == partition and row.etag for row in rows)
    assert [rows[:2], rows[2:4], rows[4:]] == pages


async def test_a_transaction_and_a_page_have_so_many_rows(table: Table, partition: str) -> None:
    """A transaction has a result of the maximum size and 99 more rows, a page a thousand, a scan all of them."""
    etag = await table.insert(Row(partition, "j_0", {"n": 0}))
    result_body = bytes(range(256)) * (MESSAGE_LIMIT // 256)
    for part in range(11):
        added = [Row(partition, f"u_{part:02}{n:02}", {"model": "gpt-4o", "at": datetime.now(UTC)}) for n in range(99)]
        etag, *_ = await table.merge_and_insert(Row(partition, "j_0", {"result": result_body}, etag), added)

    first = await table.page(partition, "u_", "u`")
    second = await table.page(partition, "u_", "u`", after=first.after)

    assert Row(partition, "j_0", {"n": 0, "result": result_body}, etag) == await table.read(partition, "j_0")
    assert (1000, 89, "") == (len(first.rows), len(second.rows), second.after)
    scanned = await keys(table, partition, "u_", "u`")
    assert [f"u_{part:02}{n:02}" for part in range(11) for n in range(99)] == scanned
    assert scanned == [row.key for row in (*first.rows, *second.rows)]


async def test_a_page_is_filtered(table: Table, partition: str) -> None:
    """
    Rows match if either column of `older` is earlier than its limit, such as the time at which Storage wrote them last,
    and all conditions hold. A row without such a column does not match.
    """
    day, now = datetime(2026, 11, 20, tzinfo=UTC), datetime.now(UTC)
    await fill(table, partition, "j_old", finished_at=day - timedelta(microseconds=1), begun_at=day, hash="it's")
    await fill(table, partition, "j_edge", finished_at=day, begun_at=day, hash="it's", state="waiting")
    await fill(table, partition, "j_stuck", begun_at=day - timedelta(days=40), hash="it's", state="done")
    await fill(table, partition, "j_none", hash="other", state="waiting")

    async def page(**filters: Any) -> list[str]:
        rows = (await table.page(partition, "j_", "j`", columns=("state",), **filters)).rows
        assert all(row.etag for row in rows)
        return [row.key for row in rows]

    assert ["j_old"] == await page(older={"finished_at": day})
    assert ["j_old", "j_stuck"] == await page(older={"finished_at": day, "begun_at": day - timedelta(days=30)})
    assert ["j_edge"] == await page(where={"hash eq": "it's", "state ne": "done"})
    assert [] == await page(older={TIMESTAMP: now - timedelta(hours=1)})
    assert ["j_edge", "j_none", "j_old", "j_stuck"] == await page(older={TIMESTAMP: now + timedelta(hours=1)})


async def test_an_empty_text_is_none_that_is_searched(table: Table, partition: str) -> None:
    """Nor is a column that is not there."""
    for key, values in {"p_1": {"provider_id": ""}, "p_2": {"provider_id": "b1"}, "p_3": {"other": "x"}}.items():
        await table.insert(Row(partition, key, values))

    page = await table.page(partition, "p_", "p`", where={"provider_id ne": ""}, columns=("provider_id",))

    assert [("p_2", {"provider_id": "b1"})] == [(row.key, dict(row.values)) for row in page.rows]


async def test_a_page_has_the_requested_columns(table: Table, partition: str) -> None:
    """
    A page has the named columns, for an empty list only the keys, and by default all columns. When Storage wrote a row
    has to be asked for.
    """
    at = datetime.now(UTC)
    await fill(table, partition, "j_1", a=1, b=b"large")

    shown = [await table.page(partition, "j_", "j`", columns=columns) for columns in (["a", "none"], [], None)]

    assert [{"a": 1}, {}, {"key": "j_1", "a": 1, "b": b"large"}] == [
        {name: value for name, value in page.rows[0].values.items() if value is not None} for page in shown
    ]
    (row,) = (await table.page(partition, "j_", "j`", columns=("a", TIMESTAMP))).rows
    assert {"a", TIMESTAMP} == {name for name, value in row.values.items() if value is not None}
    assert abs(row.values[TIMESTAMP] - at) < timedelta(minutes=1)


async def test_values_that_others_have_written_are_plain(harness: Harness, partition: str) -> None:
    """As an operator's tool may write them: a scan reads them as a read does, and they can be exported."""
    table = harness.services.table
    written = {"big": EntityProperty(2**53 + 1, EdmType.INT64), "guid": UUID(int=7)}
    async with TableClient.from_connection_string(
        harness.environment["JobStorage"], harness.environment["JOBS_TABLE"]
    ) as client:
        await client.create_entity({"PartitionKey": partition, "RowKey": "j_1", **written})

    (scanned,) = [row async for row in table.scan(partition, "j_", "j`")]

    read = await table.read(partition, "j_1")
    assert read is not None
    assert {"big": 2**53 + 1, "guid": f"{UUID(int=7)}"} == scanned.values == read.values


async def test_partitions_are_found_one_after_the_other(table: Table, partition: str) -> None:
    """Each partition that has rows is found from the one before it; after the last there is none."""
    for name in (f"{partition}-b", f"{partition}-a", f"{partition}-c"):
        await fill(table, name, "j_1", "j_2")

    assert f"{partition}-a" == await table.next_partition(partition)
    assert f"{partition}-b" == await table.next_partition(f"{partition}-a")
    assert f"{partition}-c" == await table.next_partition(f"{partition}-b")
    assert await table.next_partition("~~") is None


async def test_rows_are_deleted(table: Table, partition: str) -> None:
    """Up to a hundred rows are deleted at once, at their etag or without one; other rows stay."""
    etag = await table.insert(Row(partition, "j_1", {"n": 1}))
    etag, *_ = await table.merge_and_insert(
        Row(partition, "j_1", {"n": 2}, etag), [Row(partition, f"u_{n:03}", {"n": n}) for n in range(99)]
    )
    await fill(table, partition, "v_it's 1", "w_1")

    assert [] == await table.delete(
        [Row(partition, "j_1", {}, etag), *(Row(partition, f"u_{n:03}", {}) for n in range(99))]
    )
    assert [] == await table.delete([Row(partition, "v_it's 1", {})])
    assert [] == await table.delete([])

    assert ["w_1"] == await keys(table, partition)


async def test_missing_and_changed_rows_do_not_keep_others_from_being_deleted(table: Table, partition: str) -> None:
    """A missing row, with or without an etag, is no error; a row with another etag stays, and its key is returned."""
    old = await table.insert(Row(partition, "j_1", {"n": 1}))
    await table.merge(Row(partition, "j_1", {"n": 2}, old))
    await fill(table, partition, "j_2", "j_3", "j_4")
    missing = [Row(partition, "none", {}), Row(partition, "nor this", {}, old)]

    assert [] == await table.delete([Row(partition, "j_2", {}), *missing])
    assert ["j_1"] == await table.delete([*missing, Row(partition, "j_1", {}, old), Row(partition, "j_3", {})])
    assert ["j_1", "j_4"] == await keys(table, partition)
