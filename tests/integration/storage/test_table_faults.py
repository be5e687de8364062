"""One contract for the table in memory and the one on Azurite: lost responses, operation ids, conflicts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from shared.errors import StorageUnavailable
from shared.storage.base import Row, RowChanged, RowConflict, RowExists, Table
from tests.support.fakes import Fault
from tests.support.faulty_tables import FaultyTable
from tests.support.table_rows import fill, keys


async def test_a_refused_write_changes_nothing(faulty: FaultyTable, partition: str) -> None:
    """A write that Storage does not receive raises StorageUnavailable, and nothing is written."""
    table = faulty.table
    etag = await table.insert(Row(partition, "j_1", {"n": 1}))
    changed, added = Row(partition, "j_1", {"n": 2}, etag), Row(partition, "u_1", {"n": 1})

    for change in (
        lambda: table.insert(added),
        lambda: table.merge(changed),
        lambda: table.merge_and_insert(changed, [added]),
    ):
        faulty.faults.append(Fault.REFUSED)
        with pytest.raises(StorageUnavailable):
            await change()

    assert Row(partition, "j_1", {"n": 1}, etag) == await table.read(partition, "j_1")
    assert ["j_1"] == await keys(table, partition)


async def test_failed_deletions_can_be_repeated(faulty: FaultyTable, partition: str) -> None:
    """Rows stay if Storage did not receive the deletion, and are gone if only its response got lost."""
    table, rows = faulty.table, [Row(partition, "j_1", {}), Row(partition, "j_2", {})]
    await fill(table, partition, "j_1", "j_2")
    faulty.faults.append(Fault.REFUSED)
    with pytest.raises(StorageUnavailable):
        await table.delete(rows)
    assert ["j_1", "j_2"] == await keys(table, partition)

    faulty.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await table.delete(rows)
    assert [] == await keys(table, partition)

    await fill(table, partition, "j_1", "j_2")
    faulty.faults.append(Fault.TWICE)
    assert [] == await table.delete(rows)
    assert [] == await keys(table, partition)


async def test_a_write_whose_response_gets_lost_is_made(faulty: FaultyTable, partition: str) -> None:
    """StorageUnavailable does not mean that nothing was written."""
    table = faulty.table
    faulty.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await table.insert(Row(partition, "j_1", {"n": 1}))
    row = await table.read(partition, "j_1")
    assert row is not None

    faulty.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await table.merge_and_insert(replace(row, values={"n": 2}), [Row(partition, "u_1", {"n": 1})])

    assert ["j_1", "u_1"] == await keys(table, partition)


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


async def row_to_write(table: Table, partition: str, write: str) -> Row:
    """A row for the write: one that does not exist, or one that does, with its etag."""
    row = Row(partition, "j_1", {"n": 2})
    return row if write.startswith("insert") else replace(row, etag=await table.insert(Row(partition, "j_1", {"n": 1})))


async def assert_written_once(table: Table, write: str, row: Row, etag: str) -> None:
    """The table holds what the write wrote, and nothing else."""
    assert replace(row, etag=etag) == await table.read(row.partition, row.key)
    written = ["j_1"] if write in {"insert", "merge"} else ["j_1", "u_1"]
    assert written == await keys(table, row.partition)


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_that_the_sdk_repeats_succeeds(faulty: FaultyTable, partition: str, write: str) -> None:
    """If the response gets lost, the SDK sends the write again: it succeeds, and is made once."""
    row = await row_to_write(faulty.table, partition, write)
    faulty.faults.append(Fault.TWICE)

    etag = await WRITES[write](faulty.table, row, "")

    await assert_written_once(faulty.table, write, row, etag)


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
@pytest.mark.parametrize("write", WRITES)
async def test_a_write_that_its_caller_repeats_under_its_id_succeeds(
    faulty: FaultyTable, partition: str, write: str, fault: Fault
) -> None:
    """After StorageUnavailable the same write under the same id succeeds, whether or not it had been made."""
    row = await row_to_write(faulty.table, partition, write)
    faulty.faults.append(fault)
    with pytest.raises(StorageUnavailable):
        await WRITES[write](faulty.table, row, "operation-1")

    etag = await WRITES[write](faulty.table, row, "operation-1")

    await assert_written_once(faulty.table, write, row, etag)


@pytest.mark.parametrize("operation_id", ["", "operation-2"])
@pytest.mark.parametrize("write", WRITES)
async def test_a_write_under_another_id_is_a_conflict(
    faulty: FaultyTable, partition: str, write: str, operation_id: str
) -> None:
    """The error has the row as the first write left it."""
    row = await row_to_write(faulty.table, partition, write)
    faulty.faults.append(Fault.LOST)
    with pytest.raises(StorageUnavailable):
        await WRITES[write](faulty.table, row, "operation-1")
    written = await faulty.table.read(partition, row.key)
    assert written is not None
    again = replace(row, values={"n": 3})

    with pytest.raises(RowExists if write.startswith("insert") else RowChanged) as raised:
        await WRITES[write](faulty.table, again, operation_id)

    assert written == raised.value.row
    await assert_written_once(faulty.table, write, row, written.etag)


@pytest.mark.parametrize("write", ["merge", "transaction"])
async def test_a_repeated_write_of_a_row_that_changed_since_is_a_conflict(
    faulty: FaultyTable, partition: str, write: str
) -> None:
    """A row has the id of its last operation only: what another operation wrote since is not overwritten."""
    row = await row_to_write(faulty.table, partition, write)
    etag = await WRITES[write](faulty.table, row, "operation-1")
    other = replace(row, values={"n": 4}, etag=etag)
    etag = await faulty.table.merge(other)

    with pytest.raises(RowChanged) as raised:
        await WRITES[write](faulty.table, row, "operation-1")

    assert replace(other, etag=etag) == raised.value.row


@pytest.mark.parametrize("write", ["merge", "transaction"])
async def test_the_conflict_of_a_deleted_row_has_no_row(faulty: FaultyTable, partition: str, write: str) -> None:
    """`row` is None, and nothing is written."""
    row = await row_to_write(faulty.table, partition, write)
    await faulty.table.delete([row])

    with pytest.raises(RowChanged, match="j_1 is gone") as raised:
        await WRITES[write](faulty.table, row, "")

    assert raised.value.row is None
    assert [] == await keys(faulty.table, partition)


async def test_a_conflict_of_an_added_row_can_be_distinguished(faulty: FaultyTable, partition: str) -> None:
    """If an added row exists, `row` still has the etag of the write; beside an insert, `row` is None."""
    await faulty.table.insert(Row(partition, "u_1", {"n": 9}))
    with pytest.raises(RowExists) as exists:
        await WRITES["insert beside"](faulty.table, Row(partition, "j_1", {"n": 1}), "")
    row = await row_to_write(faulty.table, partition, "transaction")

    with pytest.raises(RowChanged) as changed:
        await WRITES["transaction"](faulty.table, row, "")

    assert exists.value.row is None
    assert replace(row, values={"n": 1}) == changed.value.row
    assert [1, 9] == [stored.values["n"] async for stored in faulty.table.scan(partition, "", "~")]


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_is_one_operation_and_a_conflict_two(faulty: FaultyTable, partition: str, write: str) -> None:
    """Operation ids cost nothing while no response gets lost and nobody else writes the row."""
    row = await row_to_write(faulty.table, partition, write)
    before = faulty.operations()
    await WRITES[write](faulty.table, row, "")
    between = faulty.operations()
    with pytest.raises(RowConflict):
        await WRITES[write](faulty.table, row, "")

    assert (1, 2) == (between - before, faulty.operations() - between)


async def test_operation_ids_are_not_values(table: Table, partition: str) -> None:
    """Neither a read nor a scan nor a page returns the id of the operation that wrote a row."""
    row = Row(partition, "j_1", {"n": 1})
    row = replace(row, etag=await table.insert(row, operation_id="operation-1"))

    assert row == await table.read(partition, "j_1")
    assert [row] == [stored async for stored in table.scan(partition, "", "~")]
    assert [row] == list((await table.page(partition, "", "~")).rows)
