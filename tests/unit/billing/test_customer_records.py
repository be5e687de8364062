"""A customer's row: read seldom, changed by many, and never without an entry in the audit trail."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from shared.billing.audit import AUDIT_PREFIX, MAX_TEXT, AuditEntry, audit_row, read_entry
from shared.billing.customer_records import FRESH_S, RECORD_KEY, CustomerRecord, CustomerRecords
from shared.contract.customer import CustomerProfile
from shared.errors import StorageUnavailable
from tests.support.fakes import Fault, MemoryTable
from tests.support.manual_clock import ManualClock
from tests.support.rows import every_row


def entries(table: MemoryTable, customer: str = "contoso") -> list[AuditEntry]:
    """Return the customer's audit trail, the newest first."""
    rows = sorted(table.rows.items())
    return [read_entry(row) for (partition, key), row in rows if partition == customer and key.startswith(AUDIT_PREFIX)]


def suspend(record: CustomerRecord) -> CustomerRecord:
    """Suspend the customer."""
    return record.with_state("suspended")


async def test_a_customer_without_a_row_has_the_defaults():
    """It is active, and its profile is empty."""
    record = await CustomerRecords(MemoryTable()).read("contoso")

    assert ("active", CustomerProfile(), "") == (record.state, record.profile, record.etag)


async def test_a_change_is_written_with_its_audit_entry():
    """The entry says who, what, and what differs; the row of another customer stays as it is."""
    table = MemoryTable()
    records = CustomerRecords(table)
    await records.change(
        "contoso",
        lambda record: record.with_profile(CustomerProfile(currency="EUR", tax_id="1")),
        by="ann",
        subject="profile",
    )
    await records.change("contoso", suspend, by="bob", subject="state")
    changed = await records.change(
        "contoso",
        lambda record: record.with_profile(CustomerProfile(currency="USD", tax_id="1")),
        by="ann",
        subject="profile",
    )

    assert changed == await CustomerRecords(table).read("contoso")
    assert ("suspended", "USD") == (changed.state, changed.profile.currency)
    assert [
        ("ann", "profile", {"currency": "EUR"}, {"currency": "USD"}),
        ("bob", "state", {"state": "active"}, {"state": "suspended"}),
        ("ann", "profile", {"currency": None, "tax_id": None}, {"currency": "EUR", "tax_id": "1"}),
    ] == [(each.by, each.subject, each.before, each.after) for each in entries(table)]
    assert {"contoso"} == {partition for partition, _ in table.rows}


async def test_what_changes_nothing_leaves_no_entry():
    """A state that is set again is not written, nor is an empty profile for a customer without one."""
    table = MemoryTable()
    records = CustomerRecords(table)
    await records.change("contoso", lambda record: record.with_profile(CustomerProfile()), by="ann", subject="profile")
    assert {} == table.rows
    for _ in range(3):
        await records.change("contoso", suspend, by="ann", subject="state")

    assert 1 == len(entries(table))


async def test_changes_at_once_are_all_made():
    """Each is made on what the others have left, and has its entry."""
    table = MemoryTable()

    def add(number: int) -> Any:
        return lambda record: replace(
            record, budgets_json=json.dumps({**json.loads(record.budgets_json or "{}"), f"b{number}": {}})
        )

    await asyncio.gather(
        *(CustomerRecords(table).change("contoso", add(each), by="ann", subject=f"budget b{each}") for each in range(8))
    )

    record = await CustomerRecords(table).read("contoso")
    assert {f"b{each}" for each in range(8)} == json.loads(record.budgets_json).keys()
    assert {f"budget b{each}" for each in range(8)} == {each.subject for each in entries(table)}


@every_row("fault", [Fault.REFUSED, Fault.LOST, Fault.TWICE])
@every_row("exists", [False, True])
async def test_a_change_and_its_entry_are_one(fault: Fault, exists: bool):
    """Whatever happens to a write, there is an entry for each change that was made, and none for another."""
    table = MemoryTable()
    records = CustomerRecords(table)
    if exists:
        await records.change("contoso", lambda record: replace(record, budgets_json="{}"), by="ann", subject="x")
    table.faults.append(fault)
    for _ in range(2):
        try:
            await records.change("contoso", suspend, by="ann", subject="state")
        except StorageUnavailable:
            continue

    assert "suspended" == (await records.read("contoso")).state
    assert ["state"] == [each.subject for each in entries(table) if each.subject == "state"]


async def test_a_change_that_is_refused_changes_nothing():
    """What `change` raises is raised, and nothing is written."""
    table = MemoryTable()

    def refuse(_: CustomerRecord) -> CustomerRecord:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await CustomerRecords(table).change("contoso", refuse, by="ann", subject="state")

    assert {} == table.rows


async def test_a_worker_reads_a_customer_once_in_ten_seconds():
    """However many ask for it, at once or later; another worker's change holds here by then."""
    table, clock = MemoryTable(), ManualClock()
    here, there = CustomerRecords(table, clock=clock), CustomerRecords(table)
    here.prefetch("contoso")
    first = await asyncio.gather(*(here.recent("contoso") for _ in range(50)))
    assert (1, {"active"}) == (table.operations, {record.state for record in first})

    await there.change("contoso", suspend, by="ann", subject="state")
    before = table.operations
    clock.advance(FRESH_S - 0.1)
    here.prefetch("contoso")
    assert ("active", before) == ((await here.recent("contoso")).state, table.operations)
    clock.advance(0.2)
    assert ("suspended", before + 1) == ((await here.recent("contoso")).state, table.operations)


async def test_a_worker_uses_its_own_change_at_once():
    """Even if a read began before the change and ends after it."""
    table = MemoryTable()
    records = CustomerRecords(table)
    reading = asyncio.create_task(records.recent("contoso"))
    await asyncio.sleep(0)
    await records.change("contoso", suspend, by="ann", subject="state")
    await reading

    assert "suspended" == (await records.recent("contoso")).state


async def test_a_row_that_cannot_be_read_is_read_again():
    """An error is not kept."""
    table = MemoryTable(down=True)
    records = CustomerRecords(table)
    records.prefetch("contoso")
    with pytest.raises(StorageUnavailable):
        await records.recent("contoso")
    table.down = False

    assert "active" == (await records.recent("contoso")).state


def test_an_entry_is_of_bounded_size():
    """Members that do not fit are replaced by their size and hash; the others stay."""
    row = audit_row("~prices", by="x" * 1000, subject="prices", before={}, after={"long": "ä" * MAX_TEXT, "short": 1})
    entry = read_entry(row)

    assert MAX_TEXT > len(row.values["after"].encode())
    assert (1, 2 * MAX_TEXT + 2) == (entry.after["short"], entry.after["long"]["omitted_bytes"])
    assert 200 == len(entry.by)


def test_the_row_has_a_key_of_its_own():
    """It is no job's, record's or audit entry's."""
    assert not RECORD_KEY.startswith(AUDIT_PREFIX)
    assert "_" not in RECORD_KEY
