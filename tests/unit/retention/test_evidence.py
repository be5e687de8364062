"""Credits and debits and the audit trail are kept as long as closed months, and no longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shared.billing.adjustments import Adjustments
from shared.billing.audit import AuditTrail, audit_key_prefix
from shared.clock import now
from shared.contract.adjustment import NewAdjustment
from shared.jobs.schedule import Schedule
from shared.retention.evidence import EvidenceRemoval
from shared.retention.sweep import Sweep
from shared.settings import read_settings
from shared.storage.base import Row
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import MemoryQueues, MemoryTable

SOON = now() + timedelta(days=1)
"""Everything that the tests write was written before."""


async def filled() -> MemoryTable:
    """Return a table with credits in two months, of which one has a document, and an audit trail; of two customers."""
    table = MemoryTable(page_size=2)
    for customer in ("contoso", "fabrikam"):
        for month in ("2026-10", "2026-11"):
            for number in range(3):
                new = NewAdjustment(
                    id=f"{month}-{number}", month=month, amount="-1", currency="USD", description="Credit"
                )
                await Adjustments(table).add(customer, new, by="ann")
        await table.insert(Row(customer, "x_2026-11-1", {}))
        await table.insert(Row(customer, "n_00000001", {}))
    return table


def keys(table: MemoryTable, customer: str) -> set[str]:
    """Return the keys of a customer's rows, of audit entries only how they begin."""
    return {"a_" if key.startswith("a_") else key for name, key in table.rows if name == customer}


async def remove(table: MemoryTable, before: datetime | None) -> None:
    """Remove all pages of contoso."""
    removal = EvidenceRemoval(table, before)
    for work in (removal.remove_adjustments, removal.remove_audit):
        after = await work("contoso", "")
        while after:
            after = await work("contoso", after)


async def test_what_was_written_before_is_removed():
    """With the rows of ids; what a document may name stays with it, and another customer's rows stay."""
    table = await filled()
    others = keys(table, "fabrikam")
    await remove(table, SOON)

    november = {f"d_{kind}2026-11-{number}" for number in range(3) for kind in ("id_", "2026-11_")}
    assert {*november, "x_2026-11-1", "n_00000001"} == keys(table, "contoso")
    assert others == keys(table, "fabrikam")
    del table.rows["contoso", "x_2026-11-1"]
    await remove(table, SOON)
    assert {"n_00000001"} == keys(table, "contoso")


async def test_what_is_younger_stays():
    """And everything, if it is kept forever."""
    for before in (now() - timedelta(minutes=1), None):
        table = await filled()
        rows = dict(table.rows)
        await remove(table, before)

        assert rows == table.rows


async def test_audit_entries_are_removed_by_their_time():
    """An entry of the very year that is kept stays, the one before it goes."""
    table = MemoryTable()
    await AuditTrail(table).append("contoso", by="ann", subject="x", before={}, after={})
    kept = {key for _, key in table.rows}
    for at in (datetime(2015, 12, 31, 23, 59, tzinfo=UTC), datetime(2016, 1, 1, tzinfo=UTC)):
        await table.insert(Row("contoso", f"{audit_key_prefix(at)}_00000000", {}))
    await remove(table, datetime(2016, 1, 1, tzinfo=UTC))

    assert {*kept, f"{audit_key_prefix(datetime(2016, 1, 1, tzinfo=UTC))}_00000000"} == {key for _, key in table.rows}


async def test_a_sweep_removes_them_with_closed_months():
    """By RETAIN_STATEMENTS_YEARS; 0 keeps them."""
    for years in ("10", "0"):
        table, blobs = await filled(), MemoryBlobs()
        del table.rows["contoso", "x_2026-11-1"]
        before = keys(table, "contoso")
        settings = read_settings({"JobStorage": "UseDevelopmentStorage=true", "RETAIN_STATEMENTS_YEARS": years})
        schedule = Schedule(table, MemoryQueues(), "jobs", "callbacks", "batches")
        await Sweep(table, blobs, settings, schedule).run(now() + timedelta(days=366 * 12))

        assert (before if years == "0" else {"n_00000001"}) == keys(table, "contoso")
