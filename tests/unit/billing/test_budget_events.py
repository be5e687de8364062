"""Budgets' events: each has one row, whatever becomes of the budget in its period."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from shared.billing.bookings import Booking
from shared.billing.budgets import Budgets
from shared.billing.customer_records import CustomerRecords
from shared.billing.job_budgets import JobBudgets
from shared.billing.outbox import Outbox
from shared.contract.budget import Budget
from shared.storage.base import Row
from tests.support.fakes import MemoryTable
from tests.support.rows import every_row

AT = datetime(2026, 11, 29, tzinfo=UTC)
CUSTOMER = "acme"


async def run_job(table: MemoryTable, job_id: str, unit: str) -> None:
    """Run a job on a worker that knows no bucket. It uses 6 of the budget's limit of 10."""
    budget = Budget(limit=Decimal(10), unit=unit, period="month", thresholds=[50], enforce="soft")
    own = JobBudgets(Budgets(table, CustomerRecords(table), Outbox(table)), CUSTOMER)
    own.request([Booking("main", budget, Decimal(6), lambda _: Decimal(6))], AT)
    key = f"j_{job_id}"
    etag, *_ = await own.write(Row(CUSTOMER, key, {}, await table.insert(Row(CUSTOMER, key, {}))), [])
    record = Row(CUSTOMER, f"u_2026-11-29_{job_id}_0000", {"outcome": "answered"})
    await own.write(Row(CUSTOMER, key, {"state": "done"}, etag), [record])


@every_row("units", [["tokens", "jobs"], ["USD", "EUR"], ["tokens", "tokens"], ["USD", "EUR", "USD"]])
async def test_a_budget_with_another_unit_has_events_of_its_own(units: list[str]):
    """
    It counts anew in the same period, as a connection's budget does when the price book's currency changes. An event
    of the former unit must not refuse the transaction of a job that crosses the line; without such a change, it is one.
    """
    table = MemoryTable()

    for number, unit in enumerate(units):
        await run_job(table, str(number), unit)

    events = [key for _, key in sorted(table.rows) if key.startswith("e_")]
    assert [f"e_2026-11_main_{unit}_50" for unit in sorted(set(units))] == events
    assert {"done"} == {row.values["state"] for (_, key), row in table.rows.items() if key.startswith("j_")}
