"""One contract for the table in memory and the one on Azurite: scans, pages, deletions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shared.storage import tables
from shared.storage.base import TIMESTAMP, Row, Table
from tests.support.fakes import MemoryTable
from tests.support.table_rows import fill, keys


@pytest.fixture
def small_pages(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of two rows."""
    monkeypatch.setattr(tables, "_PAGE", 2)
    if isinstance(table, MemoryTable):
        table.page_size = 2


async def test_a_scan_returns_the_rows_between_its_bounds_in_order(table: Table, partition: str) -> None:
    """The first bound is included, the last is not, and rows of other partitions are not returned."""
    for key in ("u_2", "j_b", "j_", "j_a", "j`", "i_z", "j_Z"):
        await table.insert(Row(partition, key, {"key": key}))
    await table.insert(Row(f"{partition}-other", "j_c", {"key": "j_c"}))

    rows = [row async for row in table.scan(partition, "j_", "j`")]

    assert ["j_", "j_Z", "j_a", "j_b"] == [row.key for row in rows]
    assert all(row.key == row.values["key"] and row.partition == partition and row.etag for row in rows)


async def test_a_scan_reads_all_pages(table: Table, partition: str) -> None:
    """If there are more than the thousand rows of one response, all are returned, each once."""
    etag = await table.insert(Row(partition, "j_0", {"n": 0}))
    for part in range(11):
        row = Row(partition, "j_0", {"n": part}, etag)
        await table.merge_and_insert(row, [Row(partition, f"u_{part:02}{n:02}", {"n": n}) for n in range(99)])
        row = await table.read(partition, "j_0")
        assert row is not None
        etag = row.etag

    scanned = await keys(table, partition, "u_", "u`")

    assert 11 * 99 == len(scanned)
    assert sorted(set(scanned)) == scanned


@pytest.mark.usefixtures("small_pages")
async def test_pages_have_the_rows_of_a_scan(table: Table, partition: str) -> None:
    """The pages have each row between the bounds once, in order; the last page has no continuation token."""
    await fill(table, partition, "i_z", "j_", "j_Z", "j_a", "j_b", "j_c", "j`", "u_2")
    await fill(table, f"{partition}-other", "j_d")

    pages, after = [], None
    while after != "":
        page = await table.page(partition, "j_", "j`", after=after or "")
        pages.append([row.key for row in page.rows])
        after = page.after

    assert [["j_", "j_Z"], ["j_a", "j_b"], ["j_c"]] == pages


async def test_a_page_has_a_thousand_rows(table: Table, partition: str) -> None:
    """More rows take a second page."""
    etag = await table.insert(Row(partition, "j_0", {"n": 0}))
    for part in range(11):
        added = [Row(partition, f"u_{part:02}{n:02}", {"n": n}) for n in range(99)]
        etag = await table.merge_and_insert(Row(partition, "j_0", {"n": part}, etag), added)

    first = await table.page(partition, "u_", "u`")
    second = await table.page(partition, "u_", "u`", after=first.after)

    assert (1000, 89, "") == (len(first.rows), len(second.rows), second.after)
    assert 1089 == len({row.key for row in (*first.rows, *second.rows)})


async def test_a_page_is_filtered_by_age(table: Table, partition: str) -> None:
    """Rows match if either column is earlier than its limit; a row without these columns does not match."""
    day = datetime(2026, 11, 20, tzinfo=UTC)
    await fill(table, partition, "j_old", finished_at=day - timedelta(microseconds=1), begun_at=day)
    await fill(table, partition, "j_edge", finished_at=day, begun_at=day)
    await fill(table, partition, "j_stuck", begun_at=day - timedelta(days=40))
    await fill(table, partition, "j_none")

    by_one = await table.page(partition, "j_", "j`", older={"finished_at": day})
    by_either = await table.page(
        partition, "j_", "j`", older={"finished_at": day, "begun_at": day - timedelta(days=30)}
    )

    assert ["j_old"] == [row.key for row in by_one.rows]
    assert ["j_old", "j_stuck"] == [row.key for row in by_either.rows]


async def test_a_page_is_filtered_by_conditions(table: Table, partition: str) -> None:
    """Rows match if all conditions hold; a row without such a column does not match."""
    await fill(table, partition, "j_it", hash="it's", state="waiting")
    await fill(table, partition, "j_done", hash="it's", state="done")
    await fill(table, partition, "j_other", hash="other", state="waiting")
    await fill(table, partition, "j_none")

    page = await table.page(partition, "j_", "j`", where={"hash eq": "it's", "state ne": "done"}, columns=("state",))

    assert ["j_it"] == [row.key for row in page.rows]
    assert [""] != [row.etag for row in page.rows]


async def test_a_page_is_filtered_by_timestamp(table: Table, partition: str) -> None:
    """The time at which Storage wrote a row last can be a condition."""
    await fill(table, partition, "s_1", "s_2")
    now = datetime.now(UTC)

    earlier = await table.page(partition, "s_", "s`", older={TIMESTAMP: now - timedelta(hours=1)})
    later = await table.page(partition, "s_", "s`", older={TIMESTAMP: now + timedelta(hours=1)})

    assert ([], ["s_1", "s_2"]) == ([row.key for row in earlier.rows], [row.key for row in later.rows])


async def test_a_page_has_the_requested_columns(table: Table, partition: str) -> None:
    """A page has the named columns, for an empty list only the keys, and by default all columns."""
    await fill(table, partition, "j_1", a=1, b=b"large")

    shown = [await table.page(partition, "j_", "j`", columns=columns) for columns in (["a", "none"], [], None)]

    assert [{"a": 1}, {}, {"key": "j_1", "a": 1, "b": b"large"}] == [
        {name: value for name, value in page.rows[0].values.items() if value is not None} for page in shown
    ]


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
    etag = await table.merge_and_insert(
        Row(partition, "j_1", {"n": 2}, etag), [Row(partition, f"u_{n:03}", {"n": n}) for n in range(99)]
    )
    await fill(table, partition, "v_it's 1", "w_1")

    assert [] == await table.delete(
        [Row(partition, "j_1", {}, etag), *(Row(partition, f"u_{n:03}", {}) for n in range(99))]
    )
    assert [] == await table.delete([Row(partition, "v_it's 1", {})])
    assert [] == await table.delete([])

    assert ["w_1"] == await keys(table, partition)


async def test_deleting_missing_rows_is_no_error(table: Table, partition: str) -> None:
    """Rows that do not exist, with or without an etag, do not keep the others from being deleted."""
    await fill(table, partition, "j_1", "j_2", "j_3")
    old = "W/\"datetime'2026-11-20T00%3A00%3A00.0000000Z'\""

    stay = await table.delete(
        [
            Row(partition, "j_1", {}),
            Row(partition, "none", {}),
            Row(partition, "nor this", {}, old),
            Row(partition, "j_2", {}),
        ]
    )

    assert ([], ["j_3"]) == (stay, await keys(table, partition))


async def test_changed_rows_are_not_deleted(table: Table, partition: str) -> None:
    """A row with another etag stays and its key is returned; the others are deleted."""
    old = await table.insert(Row(partition, "j_1", {"n": 1}))
    await table.merge(Row(partition, "j_1", {"n": 2}, old))
    await fill(table, partition, "j_2", "j_3")

    stay = await table.delete([Row(partition, "j_2", {}), Row(partition, "j_1", {}, old), Row(partition, "j_3", {})])

    assert (["j_1"], ["j_1"]) == (stay, await keys(table, partition))
