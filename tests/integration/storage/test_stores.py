"""One contract for the stores in memory and for Azure's on Azurite, through the unchanged SDKs."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from shared.contract.result import MESSAGE_LIMIT
from shared.errors import StorageUnavailable
from shared.secret import Secret
from shared.settings import StorageAccount
from shared.storage import account as accounts
from shared.storage import blobs as azure_blobs
from shared.storage import tables as azure_tables
from shared.storage.base import (
    TIMESTAMP,
    BlobProperties,
    Blobs,
    BlobTooLarge,
    ContainerMissing,
    Queues,
    Row,
    RowChanged,
    RowConflict,
    RowExists,
    Table,
)
from shared.storage.blobs import AzureBlobs
from shared.storage.queues import AzureQueues
from shared.storage.tables import AzureTable
from tests.support.fakes import Fault, MemoryBlobs, MemoryQueues, MemoryTable
from tests.support.faulty_tables import Faulty, azure, faulty_table, table_name
from tests.support.harness import World

WEEK_S = 7 * 24 * 3600


@pytest.fixture(params=["memory", "azure"])
def table(request: pytest.FixtureRequest, world: World) -> Table:
    """A table of either kind."""
    return MemoryTable() if request.param == "memory" else AzureTable(azure(world), table_name(world))


@pytest.fixture(params=["memory", "azure"])
def blobs(request: pytest.FixtureRequest, world: World) -> Blobs:
    """Blobs of either kind."""
    return MemoryBlobs() if request.param == "memory" else AzureBlobs(azure(world))


@pytest.fixture(params=["memory", "azure"])
def queues(request: pytest.FixtureRequest, world: World) -> Queues:
    """Queues of either kind."""
    return MemoryQueues() if request.param == "memory" else AzureQueues(azure(world))


@pytest.fixture
def small_pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of two, for both kinds of stores."""
    monkeypatch.setattr(azure_tables, "_PAGE", 2)
    monkeypatch.setattr(azure_blobs, "_PAGE", 2)
    for name in {"table", "blobs"} & set(request.fixturenames):
        store = request.getfixturevalue(name)
        if isinstance(store, MemoryTable | MemoryBlobs):
            store.page_size = 2


@pytest.fixture
def at() -> str:
    """A partition of one test's own."""
    return f"p-{uuid.uuid4().hex}"


async def keys(table: Table, at: str, first: str = "", last: str = "~") -> list[str]:
    """The keys of a scan."""
    return [row.key async for row in table.scan(at, first, last)]


async def test_a_row_is_read_as_it_was_inserted(table: Table, at: str) -> None:
    """A row comes back with its values, and its etag is the one that inserting it gave."""
    etag = await table.insert(Row(at, "j_1", {"state": "running", "attempt": 1}))

    found = await table.read(at, "j_1")

    assert Row(at, "j_1", {"state": "running", "attempt": 1}, etag) == found
    assert etag


async def test_a_row_that_is_there_is_not_inserted_again(table: Table, at: str) -> None:
    """A second insert raises RowExists and changes nothing."""
    etag = await table.insert(Row(at, "j_1", {"n": 1}))

    with pytest.raises(RowExists):
        await table.insert(Row(at, "j_1", {"n": 2}))

    assert Row(at, "j_1", {"n": 1}, etag) == await table.read(at, "j_1")


async def test_a_row_that_is_not_there_is_none(table: Table, at: str) -> None:
    """Neither an unknown key nor another partition's row is found."""
    await table.insert(Row(f"{at}-other", "j_1", {"n": 1}))

    assert await table.read(at, "j_1") is None


async def test_a_merge_keeps_what_it_does_not_name(table: Table, at: str) -> None:
    """A merge at the row's etag changes and adds values, keeps the others, and gives the new etag."""
    first = await table.insert(Row(at, "j_1", {"a": 1, "b": 2}))

    second = await table.merge(Row(at, "j_1", {"b": 3, "c": "new"}, first))

    assert Row(at, "j_1", {"a": 1, "b": 3, "c": "new"}, second) == await table.read(at, "j_1")
    assert first != second


async def test_a_row_that_has_changed_is_not_merged(table: Table, at: str) -> None:
    """A merge at an old etag raises RowChanged and changes nothing."""
    first = await table.insert(Row(at, "j_1", {"n": 1}))
    second = await table.merge(Row(at, "j_1", {"n": 2}, first))

    with pytest.raises(RowChanged):
        await table.merge(Row(at, "j_1", {"n": 3}, first))

    assert Row(at, "j_1", {"n": 2}, second) == await table.read(at, "j_1")


async def test_a_row_that_is_gone_is_not_merged(table: Table, at: str) -> None:
    """A merge into no row raises RowChanged and makes none."""
    with pytest.raises(RowChanged):
        await table.merge(Row(at, "j_1", {"n": 1}, "W/\"datetime'2026-11-20T00%3A00%3A00.0000000Z'\""))

    assert await table.read(at, "j_1") is None


async def test_of_many_changes_at_once_one_wins(table: Table, at: str) -> None:
    """Of inserts of one key, and of merges at one etag, exactly one succeeds, and its value stands."""
    inserts = await asyncio.gather(*(table.insert(Row(at, "j_1", {"n": n})) for n in range(8)), return_exceptions=True)
    (etag,) = [one for one in inserts if isinstance(one, str)]
    merges = await asyncio.gather(
        *(table.merge(Row(at, "j_1", {"n": n}, etag)) for n in range(8)), return_exceptions=True
    )

    assert 7 == sum(isinstance(one, RowExists) for one in inserts)
    assert 7 == sum(isinstance(one, RowChanged) for one in merges)
    (winner,) = [n for n, one in enumerate(merges) if isinstance(one, str)]
    found = await table.read(at, "j_1")
    assert found is not None
    assert {"n": winner} == found.values


async def test_a_transaction_does_all(table: Table, at: str) -> None:
    """The row is merged and every record is added."""
    etag = await table.insert(Row(at, "j_1", {"state": "running", "attempt": 1}))
    records = [Row(at, f"u_{n}", {"n": n}) for n in range(3)]

    await table.merge_and_insert(Row(at, "j_1", {"state": "done"}, etag), records)

    found = await table.read(at, "j_1")
    assert found is not None
    assert {"state": "done", "attempt": 1} == found.values
    assert etag != found.etag
    assert [0, 1, 2] == [row.values["n"] async for row in table.scan(at, "u_", "u`")]


async def test_a_transaction_takes_a_large_result_and_many_records(table: Table, at: str) -> None:
    """A result of the largest size and as many records as a transaction takes go in at once."""
    etag = await table.insert(Row(at, "j_1", {"state": "running"}))
    told = bytes(range(256)) * (MESSAGE_LIMIT // 256)
    records = [Row(at, f"u_{n:02}", {"model": "gpt-4o", "at": datetime.now(UTC)}) for n in range(99)]

    await table.merge_and_insert(Row(at, "j_1", {"told": told}, etag), records)

    found = await table.read(at, "j_1")
    assert found is not None
    assert told == found.values["told"]
    assert 99 == len(await keys(table, at, "u_", "u`"))


async def test_a_transaction_on_a_changed_row_does_nothing(table: Table, at: str) -> None:
    """With an old etag, RowChanged is raised and no record is added."""
    first = await table.insert(Row(at, "j_1", {"n": 1}))
    second = await table.merge(Row(at, "j_1", {"n": 2}, first))

    with pytest.raises(RowChanged):
        await table.merge_and_insert(Row(at, "j_1", {"n": 3}, first), [Row(at, "u_1", {"n": 1})])

    assert Row(at, "j_1", {"n": 2}, second) == await table.read(at, "j_1")
    assert ["j_1"] == await keys(table, at)


async def test_a_transaction_on_a_row_that_is_gone_does_nothing(table: Table, at: str) -> None:
    """Without the row, RowChanged is raised and no record is added."""
    etag = "W/\"datetime'2026-11-20T00%3A00%3A00.0000000Z'\""

    with pytest.raises(RowChanged):
        await table.merge_and_insert(Row(at, "j_1", {"n": 3}, etag), [Row(at, "u_1", {"n": 1})])

    assert [] == await keys(table, at)


async def test_a_transaction_with_a_record_that_is_there_does_nothing(table: Table, at: str) -> None:
    """A record that was written before says that somebody was here: RowChanged, and nothing is done."""
    etag = await table.insert(Row(at, "j_1", {"n": 1}))
    await table.insert(Row(at, "u_2", {"n": 2}))
    records = [Row(at, f"u_{n}", {"n": n}) for n in (1, 2)]

    with pytest.raises(RowChanged):
        await table.merge_and_insert(Row(at, "j_1", {"n": 3}, etag), records)

    assert Row(at, "j_1", {"n": 1}, etag) == await table.read(at, "j_1")
    assert ["j_1", "u_2"] == await keys(table, at)


async def test_a_scan_gives_the_rows_between_its_bounds_in_order(table: Table, at: str) -> None:
    """The first bound is within, the last is not, and other partitions are not looked at."""
    for key in ("u_2", "j_b", "j_", "j_a", "j`", "i_z", "j_Z"):
        await table.insert(Row(at, key, {"key": key}))
    await table.insert(Row(f"{at}-other", "j_c", {"key": "j_c"}))

    found = [row async for row in table.scan(at, "j_", "j`")]

    assert ["j_", "j_Z", "j_a", "j_b"] == [row.key for row in found]
    assert all(row.key == row.values["key"] and row.partition == at and row.etag for row in found)


async def test_a_scan_goes_on_beyond_one_page(table: Table, at: str) -> None:
    """More rows than Storage gives at once, a thousand, come all, each once."""
    etag = await table.insert(Row(at, "j_0", {"n": 0}))
    for part in range(11):
        row = Row(at, "j_0", {"n": part}, etag)
        await table.merge_and_insert(row, [Row(at, f"u_{part:02}{n:02}", {"n": n}) for n in range(99)])
        found = await table.read(at, "j_0")
        assert found is not None
        etag = found.etag

    scanned = await keys(table, at, "u_", "u`")

    assert 11 * 99 == len(scanned)
    assert sorted(set(scanned)) == scanned


async def fill(table: Table, at: str, *made: str, **values: Any) -> None:
    """Rows with these keys, each with its key as a value."""
    for key in made:
        await table.insert(Row(at, key, {"key": key, **values}))


@pytest.mark.usefixtures("small_pages")
async def test_pages_give_what_a_scan_gives(table: Table, at: str) -> None:
    """Page after page gives each row between the bounds once, in order; the last page says that it is the last."""
    await fill(table, at, "i_z", "j_", "j_Z", "j_a", "j_b", "j_c", "j`", "u_2")
    await fill(table, f"{at}-other", "j_d")

    pages, after = [], None
    while after != "":
        page = await table.page(at, "j_", "j`", after=after or "")
        pages.append([row.key for row in page.rows])
        after = page.after

    assert [["j_", "j_Z"], ["j_a", "j_b"], ["j_c"]] == pages


async def test_a_page_holds_a_thousand_rows(table: Table, at: str) -> None:
    """More rows than Storage gives at once take two pages."""
    etag = await table.insert(Row(at, "j_0", {"n": 0}))
    for part in range(11):
        added = [Row(at, f"u_{part:02}{n:02}", {"n": n}) for n in range(99)]
        etag = await table.merge_and_insert(Row(at, "j_0", {"n": part}, etag), added)

    first = await table.page(at, "u_", "u`")
    second = await table.page(at, "u_", "u`", after=first.after)

    assert (1000, 89, "") == (len(first.rows), len(second.rows), second.after)
    assert 1089 == len({row.key for row in (*first.rows, *second.rows)})


async def test_a_page_is_of_older_rows_only(table: Table, at: str) -> None:
    """Rows are found by the age of either column; one that has neither is not found."""
    day = datetime(2026, 11, 20, tzinfo=UTC)
    await fill(table, at, "j_old", finished_at=day - timedelta(microseconds=1), begun_at=day)
    await fill(table, at, "j_edge", finished_at=day, begun_at=day)
    await fill(table, at, "j_stuck", begun_at=day - timedelta(days=40))
    await fill(table, at, "j_none")

    by_one = await table.page(at, "j_", "j`", older={"finished_at": day})
    by_either = await table.page(at, "j_", "j`", older={"finished_at": day, "begun_at": day - timedelta(days=30)})

    assert ["j_old"] == [row.key for row in by_one.rows]
    assert ["j_old", "j_stuck"] == [row.key for row in by_either.rows]


async def test_a_page_is_of_rows_that_are_so(table: Table, at: str) -> None:
    """Rows are found by what their columns hold and do not hold; one without such a column is not found."""
    await fill(table, at, "j_it", hash="it's", state="waiting")
    await fill(table, at, "j_done", hash="it's", state="done")
    await fill(table, at, "j_other", hash="other", state="waiting")
    await fill(table, at, "j_none")

    page = await table.page(at, "j_", "j`", where={"hash eq": "it's", "state ne": "done"}, columns=("state",))

    assert ["j_it"] == [row.key for row in page.rows]
    assert [""] != [row.etag for row in page.rows]


async def test_a_page_is_of_rows_written_before(table: Table, at: str) -> None:
    """Storage's own time of the last writing is a column that can be asked for."""
    await fill(table, at, "s_1", "s_2")
    moment = datetime.now(UTC)

    earlier = await table.page(at, "s_", "s`", older={TIMESTAMP: moment - timedelta(hours=1)})
    later = await table.page(at, "s_", "s`", older={TIMESTAMP: moment + timedelta(hours=1)})

    assert ([], ["s_1", "s_2"]) == ([row.key for row in earlier.rows], [row.key for row in later.rows])


async def test_a_page_has_the_columns_asked_for(table: Table, at: str) -> None:
    """Of each row only the named columns come, of no columns only the keys, and unasked all."""
    await fill(table, at, "j_1", a=1, b=b"large")

    shown = [await table.page(at, "j_", "j`", columns=columns) for columns in (["a", "none"], [], None)]

    assert [{"a": 1}, {}, {"key": "j_1", "a": 1, "b": b"large"}] == [
        {name: value for name, value in page.rows[0].values.items() if value is not None} for page in shown
    ]


async def test_partitions_follow_each_other(table: Table, at: str) -> None:
    """From partition to partition, whatever their rows; beyond the last there is none."""
    for name in (f"{at}-b", f"{at}-a", f"{at}-c"):
        await fill(table, name, "j_1", "j_2")

    assert f"{at}-a" == await table.next_partition(at)
    assert f"{at}-b" == await table.next_partition(f"{at}-a")
    assert f"{at}-c" == await table.next_partition(f"{at}-b")
    assert await table.next_partition("~~") is None


async def test_rows_are_deleted(table: Table, at: str) -> None:
    """Up to a hundred rows go at once, at their etag or without one; the others stay."""
    etag = await table.insert(Row(at, "j_1", {"n": 1}))
    etag = await table.merge_and_insert(
        Row(at, "j_1", {"n": 2}, etag), [Row(at, f"u_{n:03}", {"n": n}) for n in range(99)]
    )
    await fill(table, at, "v_it's 1", "w_1")

    assert [] == await table.delete([Row(at, "j_1", {}, etag), *(Row(at, f"u_{n:03}", {}) for n in range(99))])
    assert [] == await table.delete([Row(at, "v_it's 1", {})])
    assert [] == await table.delete([])

    assert ["w_1"] == await keys(table, at)


async def test_rows_that_are_gone_are_deleted(table: Table, at: str) -> None:
    """A row that is gone is no error, at an etag or without, and the others beside it go."""
    await fill(table, at, "j_1", "j_2", "j_3")
    old = "W/\"datetime'2026-11-20T00%3A00%3A00.0000000Z'\""

    stay = await table.delete(
        [Row(at, "j_1", {}), Row(at, "none", {}), Row(at, "nor this", {}, old), Row(at, "j_2", {})]
    )

    assert ([], ["j_3"]) == (stay, await keys(table, at))


async def test_rows_that_have_changed_stay(table: Table, at: str) -> None:
    """A row that is not what it was at its etag stays and is told; the others beside it go."""
    old = await table.insert(Row(at, "j_1", {"n": 1}))
    await table.merge(Row(at, "j_1", {"n": 2}, old))
    await fill(table, at, "j_2", "j_3")

    stay = await table.delete([Row(at, "j_2", {}), Row(at, "j_1", {}, old), Row(at, "j_3", {})])

    assert (["j_1"], ["j_1"]) == (stay, await keys(table, at))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "plain",
        "line\r\nbreak, tab\t, quote ' \" and \\",
        "Grüße 你好 🙂",
        "2026-11-20T13:12:00Z",
        0,
        2**31 - 1,
        -(2**31),
        True,
        False,
        datetime(2026, 11, 20, 13, 12, 0, 123456, tzinfo=UTC),
        datetime(2026, 11, 20, 13, 12, tzinfo=UTC),
        datetime(2026, 11, 20, 13, 12, tzinfo=timezone(timedelta(hours=5))),
        b"",
        bytes(range(256)),
        b"\xff" * 64 * 1024,
    ],
    ids=lambda value: f"{type(value).__name__}-{str(value)[:12]!a}",
)
async def test_values_come_back_as_they_were(table: Table, at: str, value: Any) -> None:
    """Text, whole numbers, booleans, datetimes and bytes up to 64 KiB keep their value and kind."""
    await table.insert(Row(at, "j_1", {"value": value, "other": 1}))
    row = await table.read(at, "j_1")
    assert row is not None
    inserted = row.values["value"]
    await table.merge(Row(at, "j_1", {"value": value}, row.etag))
    row = await table.read(at, "j_1")
    assert row is not None
    merged = row.values["value"]
    await table.merge_and_insert(Row(at, "j_1", {"value": value}, row.etag), [Row(at, "u_1", {"v": value})])
    row, record = await table.read(at, "j_1"), await table.read(at, "u_1")
    assert row is not None
    assert record is not None

    for got in (inserted, merged, row.values["value"], record.values["v"]):
        assert value == got
        assert isinstance(got, type(value))
        if isinstance(got, datetime):
            assert got.utcoffset() is not None


async def test_a_job_ids_letters_do_in_a_key(table: Table, at: str) -> None:
    """Every letter that a job id may have can stand in a key."""
    key = "j_Az09._-" + "x" * 91
    etag = await table.insert(Row(at, key, {"n": 1}))
    await table.merge_and_insert(Row(at, key, {"n": 2}, etag), [Row(at, f"u_2026-11_{key}_0000", {"n": 1})])

    found = await table.read(at, key)

    assert found is not None
    assert {"n": 2} == found.values


USES: dict[str, Callable[[Table, str], Awaitable[Any]]] = {
    "insert": lambda table, at: table.insert(Row(at, "j_1", {"n": 1})),
    "read": lambda table, at: table.read(at, "j_1"),
    "merge": lambda table, at: table.merge(Row(at, "j_1", {"n": 1}, 'W/"1"')),
    "transaction": lambda table, at: table.merge_and_insert(
        Row(at, "j_1", {"n": 1}, 'W/"1"'), [Row(at, "u_1", {"n": 1})]
    ),
    "query": keys,
    "query ": lambda table, at: table.page(at, "", "~"),
    "query  ": lambda table, at: table.next_partition(at),
    "delete": lambda table, at: table.delete([Row(at, "j_1", {})]),
}


@pytest.mark.parametrize("use", USES)
async def test_a_table_that_is_missing_is_told_by_name(world: World, use: str) -> None:
    """Whatever is asked of a table that nobody has made, the error names table, deed and reason."""
    missing = AzureTable(azure(world), "neverMade")

    with pytest.raises(StorageUnavailable, match=rf"table neverMade: {use.strip()}: 404 TableNotFound"):
        await USES[use](missing, "p")


@pytest.mark.parametrize("use", USES)
async def test_a_storage_that_is_not_there_is_unavailable(
    world: World, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    """Where nothing listens, every use of a table raises StorageUnavailable and shows no key."""
    monkeypatch.setitem(accounts._RETRIES, "retry_backoff_factor", 0.01)
    text = "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=c2VjcmV0;TableEndpoint=http://127.0.0.1:1/a;"
    nowhere = replace(azure(world), settings=StorageAccount(Secret(text), "", "", "", ""))

    with pytest.raises(StorageUnavailable, match=f"table jobs: {use.strip()}") as raised:
        await USES[use](AzureTable(nowhere, "jobs"), "p")

    assert "c2VjcmV0" not in f"{raised.value} {nowhere!r}"


@pytest.fixture(params=["memory", "azure"])
def faulty(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """A table of either kind whose changes can fail."""
    return faulty_table(request.param, world, monkeypatch)


async def test_a_refused_change_is_not_done(faulty: Faulty, at: str) -> None:
    """A change that Storage never got raises StorageUnavailable, and nothing is changed."""
    table = faulty.table
    etag = await table.insert(Row(at, "j_1", {"n": 1}))
    changed, added = Row(at, "j_1", {"n": 2}, etag), Row(at, "u_1", {"n": 1})

    for change in (
        lambda: table.insert(added),
        lambda: table.merge(changed),
        lambda: table.merge_and_insert(changed, [added]),
    ):
        faulty.faults.append(Fault.REFUSED)
        with pytest.raises(StorageUnavailable):
            await change()

    assert Row(at, "j_1", {"n": 1}, etag) == await table.read(at, "j_1")
    assert ["j_1"] == await keys(table, at)


async def test_deletes_that_fail_can_be_repeated(faulty: Faulty, at: str) -> None:
    """Rows stay where Storage never got the deletion, are gone where only its answer got lost."""
    table, rows = faulty.table, [Row(at, "j_1", {}), Row(at, "j_2", {})]
    await fill(table, at, "j_1", "j_2")
    faulty.faults.append(Fault.REFUSED)
    with pytest.raises(StorageUnavailable):
        await table.delete(rows)
    assert ["j_1", "j_2"] == await keys(table, at)

    faulty.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await table.delete(rows)
    assert [] == await keys(table, at)

    await fill(table, at, "j_1", "j_2")
    faulty.faults.append(Fault.TWICE)
    assert [] == await table.delete(rows)
    assert [] == await keys(table, at)


async def test_a_change_whose_answer_is_lost_for_good_is_done(faulty: Faulty, at: str) -> None:
    """StorageUnavailable does not say that nothing was done."""
    table = faulty.table
    faulty.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await table.insert(Row(at, "j_1", {"n": 1}))
    row = await table.read(at, "j_1")
    assert row is not None

    faulty.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await table.merge_and_insert(replace(row, values={"n": 2}), [Row(at, "u_1", {"n": 1})])

    assert ["j_1", "u_1"] == await keys(table, at)


WRITES: dict[str, Callable[[Table, Row, str], Awaitable[str]]] = {
    "insert": lambda table, row, operation_id: table.insert(row, operation_id=operation_id),
    "insert beside": lambda table, row, operation_id: table.insert(
        row, beside=[Row(row.partition, "u_1", {"n": 1})], operation_id=operation_id
    ),
    "merge": lambda table, row, operation_id: table.merge(row, operation_id=operation_id),
    "transaction": lambda table, row, operation_id: table.merge_and_insert(
        row, [Row(row.partition, "u_1", {"n": 1})], operation_id=operation_id
    ),
}
"""Every kind of write, of a row under an operation id."""


async def row_to_write(table: Table, at: str, write: str) -> Row:
    """A row that the write can be made with: one that is not there, or one that is, with its etag."""
    row = Row(at, "j_1", {"n": 2})
    return row if write.startswith("insert") else replace(row, etag=await table.insert(Row(at, "j_1", {"n": 1})))


async def assert_written_once(table: Table, write: str, row: Row, etag: str) -> None:
    """The table holds what the write wrote, and nothing else."""
    assert replace(row, etag=etag) == await table.read(row.partition, row.key)
    assert ["j_1"] if write in {"insert", "merge"} else ["j_1", "u_1"] == await keys(table, row.partition)


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_that_the_sdk_repeats_succeeds(faulty: Faulty, at: str, write: str) -> None:
    """If the answer gets lost, the SDK sends the write again: it succeeds, and is made once."""
    row = await row_to_write(faulty.table, at, write)
    faulty.faults.append(Fault.TWICE)

    etag = await WRITES[write](faulty.table, row, "")

    await assert_written_once(faulty.table, write, row, etag)


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
@pytest.mark.parametrize("write", WRITES)
async def test_a_write_that_its_caller_repeats_under_its_id_succeeds(
    faulty: Faulty, at: str, write: str, fault: Fault
) -> None:
    """After StorageUnavailable the same write under the same id succeeds, whether or not it had been made."""
    row = await row_to_write(faulty.table, at, write)
    faulty.faults.append(fault)
    with pytest.raises(StorageUnavailable):
        await WRITES[write](faulty.table, row, "operation-1")

    etag = await WRITES[write](faulty.table, row, "operation-1")

    await assert_written_once(faulty.table, write, row, etag)


@pytest.mark.parametrize("operation_id", ["", "operation-2"])
@pytest.mark.parametrize("write", WRITES)
async def test_a_write_under_another_id_is_a_conflict(faulty: Faulty, at: str, write: str, operation_id: str) -> None:
    """The error has the row as the first write left it, without the operation id."""
    row = await row_to_write(faulty.table, at, write)
    faulty.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await WRITES[write](faulty.table, row, "operation-1")
    written = await faulty.table.read(at, row.key)
    assert written is not None
    again = replace(row, values={"n": 3})

    with pytest.raises(RowExists if write.startswith("insert") else RowChanged) as raised:
        await WRITES[write](faulty.table, again, operation_id)

    assert written == raised.value.row
    await assert_written_once(faulty.table, write, row, written.etag)


@pytest.mark.parametrize("write", ["merge", "transaction"])
async def test_a_repeated_write_of_a_row_that_changed_since_is_a_conflict(faulty: Faulty, at: str, write: str) -> None:
    """A row shows its last operation only: what another wrote since is not overwritten."""
    row = await row_to_write(faulty.table, at, write)
    etag = await WRITES[write](faulty.table, row, "operation-1")
    other = replace(row, values={"n": 4}, etag=etag)
    etag = await faulty.table.merge(other)

    with pytest.raises(RowChanged) as raised:
        await WRITES[write](faulty.table, row, "operation-1")

    assert replace(other, etag=etag) == raised.value.row


@pytest.mark.parametrize("write", ["merge", "transaction"])
async def test_the_conflict_of_a_row_that_is_gone_has_no_row(faulty: Faulty, at: str, write: str) -> None:
    """`row` is None, and nothing is written."""
    row = await row_to_write(faulty.table, at, write)
    await faulty.table.delete([row])

    with pytest.raises(RowChanged, match="j_1 is gone") as raised:
        await WRITES[write](faulty.table, row, "")

    assert raised.value.row is None
    assert [] == await keys(faulty.table, at)


async def test_the_conflict_of_an_added_row_is_told_from_that_of_the_changed_row(faulty: Faulty, at: str) -> None:
    """If an added row exists, `row` still has the etag of the write; if a row beside an inserted one, it is None."""
    await faulty.table.insert(Row(at, "u_1", {"n": 9}))
    with pytest.raises(RowExists) as exists:
        await WRITES["insert beside"](faulty.table, Row(at, "j_1", {"n": 1}), "")
    row = await row_to_write(faulty.table, at, "transaction")

    with pytest.raises(RowChanged) as changed:
        await WRITES["transaction"](faulty.table, row, "")

    assert exists.value.row is None
    assert replace(row, values={"n": 1}) == changed.value.row
    assert [1, 9] == [found.values["n"] async for found in faulty.table.scan(at, "", "~")]


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_is_one_operation_and_a_conflict_one_read_more(faulty: Faulty, at: str, write: str) -> None:
    """Operation ids cost nothing as long as no answer gets lost and nobody else writes the row."""
    row = await row_to_write(faulty.table, at, write)
    before = faulty.operations()
    await WRITES[write](faulty.table, row, "")
    between = faulty.operations()
    with pytest.raises(RowConflict):
        await WRITES[write](faulty.table, row, "")

    assert (1, 2) == (between - before, faulty.operations() - between)


async def test_operation_ids_are_no_values(table: Table, at: str) -> None:
    """Neither a read nor a scan nor a page shows the id of the operation that wrote a row."""
    row = Row(at, "j_1", {"n": 1})
    row = replace(row, etag=await table.insert(row, operation_id="operation-1"))

    assert row == await table.read(at, "j_1")
    assert [row] == [found async for found in table.scan(at, "", "~")]
    assert [row] == list((await table.page(at, "", "~")).rows)


async def test_a_blob_is_read_as_it_was_written(blobs: Blobs, world: World, at: str) -> None:
    """The bytes come back, whatever they are, and a second writing replaces the first."""
    container = world.environment["RESULTS_CONTAINER"]
    await blobs.write(container, f"{at}/job 1/ä.json", b"first", "application/json")
    await blobs.write(container, f"{at}/job 1/ä.json", bytes(range(256)), "application/json")

    assert bytes(range(256)) == await blobs.read(container, f"{at}/job 1/ä.json", 1000)


async def test_a_blob_that_is_not_there_is_none(blobs: Blobs, world: World, at: str) -> None:
    """A name that nothing was written to reads as None."""
    assert await blobs.read(world.environment["RESULTS_CONTAINER"], f"{at}/none", 1000) is None


async def test_an_empty_blob_is_empty(blobs: Blobs, world: World, at: str) -> None:
    """A blob of no bytes is not the same as none."""
    container = world.environment["RESULTS_CONTAINER"]
    await blobs.write(container, f"{at}/empty", b"", "text/plain")

    assert await blobs.read(container, f"{at}/empty", 1000) == b""


async def test_a_blob_is_read_up_to_its_limit(blobs: Blobs, world: World, at: str) -> None:
    """A blob of exactly the limit is read, one byte more is refused with the blob's name."""
    container = world.environment["RESULTS_CONTAINER"]
    await blobs.write(container, f"{at}/large", b"x" * 1000, "text/plain")

    assert b"x" * 1000 == await blobs.read(container, f"{at}/large", 1000)
    with pytest.raises(BlobTooLarge, match=f"{at}/large is larger than 999 bytes"):
        await blobs.read(container, f"{at}/large", 999)


async def test_a_blob_has_its_media_type(world: World, at: str) -> None:
    """What a browser or a caller gets is the blob's own media type."""
    container = world.environment["RESULTS_CONTAINER"]
    await AzureBlobs(azure(world)).write(container, f"{at}/image", b"png", "image/png")

    blob = world.blobs.get_blob_client(container, f"{at}/image")
    properties = await blob.get_blob_properties()

    assert "image/png" == properties.content_settings.content_type


@pytest.mark.usefixtures("small_pages")
async def test_blobs_are_named_by_their_prefix(blobs: Blobs, world: World, at: str) -> None:
    """Page after page names the blobs with the prefix, in order, with what is known of them."""
    container, before = world.environment["RESULTS_CONTAINER"], datetime.now(UTC) - timedelta(seconds=2)
    for name in (f"{at}/2/ä #%.json", f"{at}/1", f"{at}-other/1", f"{at}/3"):
        await blobs.write(container, name, b"x" * 7, "text/plain")

    first = await blobs.page(container, f"{at}/")
    second = await blobs.page(container, f"{at}/", first.after)

    found = [*first.blobs, *second.blobs]
    assert ([f"{at}/1", f"{at}/2/ä #%.json"], [f"{at}/3"]) == (
        [blob.name for blob in first.blobs],
        [blob.name for blob in second.blobs],
    )
    assert "" == second.after
    assert BlobProperties(f"{at}/1", 7, found[0].modified, "text/plain") == found[0]
    assert all(before < blob.modified < datetime.now(UTC) + timedelta(seconds=2) for blob in found)
    assert [] == (await blobs.page(container, f"{at}/4")).blobs


async def test_a_missing_container_has_an_error_of_its_own(blobs: Blobs) -> None:
    """Naming what is in a container that is not there says so."""
    if isinstance(blobs, MemoryBlobs):
        blobs.missing.add("never-made")

    with pytest.raises(ContainerMissing, match="never-made"):
        await blobs.page("never-made", "x/")


async def test_a_blob_comes_in_chunks(blobs: Blobs, world: World, at: str) -> None:
    """A blob of any size is read piece by piece; an empty one has no bytes, and one that is not there is None."""
    container, data = world.environment["RESULTS_CONTAINER"], bytes(range(256)) * 1000
    await blobs.write(container, f"{at}/large", data, "text/plain")
    await blobs.write(container, f"{at}/empty", b"", "text/plain")

    async def read(name: str) -> bytes | None:
        chunks = await blobs.chunks(container, f"{at}/{name}")
        return None if chunks is None else b"".join([chunk async for chunk in chunks])

    assert (data, b"", None) == (await read("large"), await read("empty"), await read("none"))


async def test_a_blob_is_deleted(blobs: Blobs, world: World, at: str) -> None:
    """The blob is gone, its neighbour is not; one that is gone already is no error."""
    container = world.environment["RESULTS_CONTAINER"]
    await blobs.write(container, f"{at}/1", b"x", "text/plain")
    await blobs.write(container, f"{at}/2", b"x", "text/plain")
    if isinstance(blobs, AzureBlobs):
        await world.blobs.get_blob_client(container, f"{at}/1").create_snapshot()

    await blobs.delete(container, f"{at}/1")
    await blobs.delete(container, f"{at}/1")

    assert [f"{at}/2"] == [blob.name for blob in (await blobs.page(container, f"{at}/")).blobs]


async def test_a_container_that_is_missing_is_told_by_name(world: World) -> None:
    """A result that can't be kept is StorageUnavailable, with the container and the reason in it."""
    with pytest.raises(StorageUnavailable, match="container never-made: write: 404 ContainerNotFound"):
        await AzureBlobs(azure(world)).write("never-made", "x", b"x", "text/plain")


async def test_a_queue_that_is_missing_is_told_by_name(world: World) -> None:
    """A message that can't be sent is StorageUnavailable, with the queue and the reason in it."""
    with pytest.raises(StorageUnavailable, match="queue never-made: send: 404 QueueNotFound"):
        await AzureQueues(azure(world)).send("never-made", b"x")


async def received(queues: Queues, world: World, queue: str) -> list[bytes]:
    """What can be received from a queue now."""
    if isinstance(queues, MemoryQueues):
        return [body for body, delay_s in queues.sent[queue] if not delay_s]
    return await world.messages(queue)


@pytest.mark.parametrize(
    "body",
    [b"{}", bytes(range(256)), "Grüße 🙂 <&>".encode(), b"x" * MESSAGE_LIMIT],
    ids=["small", "bytes", "unicode", "largest"],
)
async def test_a_message_is_sent_byte_by_byte(queues: Queues, world: World, body: bytes, fresh_queue: str) -> None:
    """Who receives a message gets exactly its bytes, up to the largest that a message may have."""
    await queues.send(fresh_queue, body)

    assert [body] == await received(queues, world, fresh_queue)


@pytest.mark.parametrize("delay_s", [0.2, 60, WEEK_S, 1.1 * WEEK_S])
async def test_a_delayed_message_is_not_seen_yet(
    queues: Queues, world: World, delay_s: float, fresh_queue: str
) -> None:
    """A message with a delay is in the queue and hidden; no delay is too long to be sent."""
    began = time.monotonic()
    await queues.send(fresh_queue, b"later", delay_s=delay_s)
    found = await received(queues, world, fresh_queue)

    assert [] == found or time.monotonic() - began > 1 > delay_s  # whoever looks so late may find it
    if isinstance(queues, AzureQueues) and not found:
        properties = await world.queues.get_queue_client(fresh_queue).get_queue_properties()
        assert 1 == properties.approximate_message_count


async def test_a_delayed_message_comes(world: World, fresh_queue: str) -> None:
    """After its delay, in whole seconds, a message is there."""
    await AzureQueues(azure(world)).send(fresh_queue, b"later", delay_s=0.5)

    await asyncio.sleep(1.1)

    assert [b"later"] == await world.messages(fresh_queue)


@pytest.fixture
async def fresh_queue(world: World) -> str:
    """A queue of one test's own."""
    name = f"q-{uuid.uuid4().hex}"
    await world.queues.create_queue(name)
    return name
