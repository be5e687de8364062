"""One contract for the table in memory and the one on Azurite: writes, lost responses, operation ids, conflicts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from shared.errors import StorageUnavailable
from shared.storage.base import Row, RowChanged, RowConflict, RowExists, Table
from tests.support.fakes import Fault
from tests.support.faulty_tables import FaultyTable
from tests.support.table_rows import fill, keys


async def transact(table: Table, row: Row, operation_id: str) -> str:
    """Merge the row and add others."""
    return (await table.merge_and_insert(row, others(row.partition), operation_id=operation_id))[0]


WRITES: dict[str, Callable[[Table, Row, str], Awaitable[str]]] = {
    "insert": lambda table, row, operation_id: table.insert(row, operation_id=operation_id),
    "insert beside": lambda table, row, operation_id: table.insert(
        row, beside=others(row.partition), operation_id=operation_id
    ),
    "merge": lambda table, row, operation_id: table.merge(row, operation_id=operation_id),
    "transaction": transact,
}
"""Every kind of write, of a row under an operation id."""
BEFORE = {"n": 1, "kept": True}
"""The values of an existing row before the write."""


def others(partition: str) -> list[Row]:
    """The rows that are added beside the row of a write."""
    return [Row(partition, "u_1", {"n": 1}), Row(partition, "u_2", {"n": 2})]


async def rows_of(table: Table, partition: str) -> list[Row]:
    """All rows of a partition."""
    return [row async for row in table.scan(partition, "", "~")]


async def row_to_write(table: Table, partition: str, write: str) -> Row:
    """A row for the write: one that does not exist, or one that does, with its etag."""
    etag = "" if write.startswith("insert") else await table.insert(Row(partition, "j_1", BEFORE))
    return Row(partition, "j_1", {"n": 2, "new": "text"}, etag)


async def assert_written_once(table: Table, write: str, row: Row, etag: str) -> None:
    """A read, a scan and a page have what the write wrote, without its operation id, and nothing else."""
    before = {} if write.startswith("insert") else BEFORE
    written = replace(row, values={**before, **row.values}, etag=etag)
    added = [] if write in {"insert", "merge"} else others(row.partition)
    rows = await rows_of(table, row.partition)

    assert etag not in {"", row.etag}
    assert written == await table.read(row.partition, row.key)
    assert [written, *added] == [*rows[:1], *(replace(other, etag="") for other in rows[1:])]
    assert rows == list((await table.page(row.partition, "", "~")).rows)


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
    """StorageUnavailable may mean that all or nothing was written; in either case the same write succeeds then."""
    row = await row_to_write(faulty.table, partition, write)
    before = await rows_of(faulty.table, partition)
    faulty.faults.append(fault)
    with pytest.raises(StorageUnavailable):
        await WRITES[write](faulty.table, row, "operation-1")
    assert (fault is Fault.REFUSED) == (before == await rows_of(faulty.table, partition))

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

    with pytest.raises(RowExists if write.startswith("insert") else RowChanged) as raised:
        await WRITES[write](faulty.table, replace(row, values={"n": 3}), operation_id)

    assert written == raised.value.row
    await assert_written_once(faulty.table, write, row, written.etag)


@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize("write", ["merge", "transaction"])
async def test_a_write_of_a_row_that_changed_since_is_a_conflict(
    faulty: FaultyTable, partition: str, write: str, made: bool
) -> None:
    """A row has the id of its last operation only: what another wrote since is not overwritten, nor rows added."""
    row = await row_to_write(faulty.table, partition, write)
    etag = await WRITES[write](faulty.table, row, "operation-1") if made else row.etag
    await faulty.table.merge(Row(partition, "j_1", {"n": 4}, etag))
    before = await rows_of(faulty.table, partition)

    with pytest.raises(RowChanged) as raised:
        await WRITES[write](faulty.table, row, "operation-1")

    assert before[0] == raised.value.row
    assert before == await rows_of(faulty.table, partition)


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
    """If an added row exists, nothing is written; `row` has the etag of the write, or is None beside an insert."""
    await faulty.table.insert(Row(partition, "u_2", {"n": 9}))
    with pytest.raises(RowExists) as exists:
        await WRITES["insert beside"](faulty.table, Row(partition, "j_1", {"n": 1}), "")
    row = await row_to_write(faulty.table, partition, "transaction")

    with pytest.raises(RowChanged) as changed:
        await WRITES["transaction"](faulty.table, row, "")

    assert exists.value.row is None
    assert replace(row, values=BEFORE) == changed.value.row
    assert [1, 9] == [stored.values["n"] for stored in await rows_of(faulty.table, partition)]


async def test_rows_beside_a_write_are_merged_at_their_etag(table: Table, partition: str) -> None:
    """A row with an etag is merged, one without is inserted, beside a merge and an insert. All etags are returned."""
    keys = ("j_1", "b_1", "b_2")
    changed, first, second = [Row(partition, key, {}, await table.insert(Row(partition, key, BEFORE))) for key in keys]
    added = [replace(first, values={"n": 2}), Row(partition, "u_1", {"n": 3}), replace(second, values={"n": 4})]

    etags = await table.merge_and_insert(replace(changed, values={"n": 1}), added)

    rows = {row.key: row for row in await rows_of(table, partition)}
    assert [rows[row.key].etag for row in (changed, *added)] == list(etags)
    assert [{**BEFORE, "n": 2}, {"n": 3}, {**BEFORE, "n": 4}] == [rows[row.key].values for row in added]

    await table.insert(Row(partition, "j_2", {}), beside=[replace(rows["b_1"], values={"n": 5})])

    row = await table.read(partition, "b_1")
    assert row is not None
    assert {**BEFORE, "n": 5} == row.values


@pytest.mark.parametrize("conflict", ["changed", "gone"])
async def test_a_conflict_of_a_row_beside_a_write_refuses_all(table: Table, partition: str, conflict: str) -> None:
    """If a row that is merged beside another has changed or is gone, nothing is written."""
    row = await row_to_write(table, partition, "transaction")
    beside = Row(partition, "b_1", {"n": 7}, await table.insert(Row(partition, "b_1", {"n": 6})))
    await (table.merge(replace(beside, values={"n": 8})) if conflict == "changed" else table.delete([beside]))
    before = await rows_of(table, partition)

    with pytest.raises(RowChanged) as changed:
        await table.merge_and_insert(row, [Row(partition, "u_1", {}), beside])
    with pytest.raises(RowExists) as exists:
        await table.insert(Row(partition, "j_2", {}), beside=[beside])

    assert replace(row, values=BEFORE) == changed.value.row
    assert exists.value.row is None
    assert before == await rows_of(table, partition)


async def test_a_repeated_transaction_merges_once(faulty: FaultyTable, partition: str) -> None:
    """If its response gets lost, the etags of the rows beside it are not known, and not returned."""
    row = await row_to_write(faulty.table, partition, "transaction")
    beside = Row(partition, "b_1", {"n": 7}, await faulty.table.insert(Row(partition, "b_1", {"n": 6})))
    faulty.faults.append(Fault.TWICE)

    etags = await faulty.table.merge_and_insert(row, [beside])

    merged, written = await rows_of(faulty.table, partition)
    assert [written.etag] == list(etags)
    assert {"n": 7} == merged.values


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
