"""A job's transaction has a bounded number of rows, however its budgets are divided."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from shared.billing.bookings import Booking
from shared.billing.bucket_rows import pool_key
from shared.billing.budgets import Budgets
from shared.billing.customer_records import CustomerRecords
from shared.billing.job_budgets import JobBudgets
from shared.billing.outbox import Outbox
from shared.contract.budget import MAX_APPLYING, Budget
from shared.jobs.step_rows import MAX_ADDED_ROWS
from shared.storage.base import Row
from tests.support.fakes import MemoryTable
from tests.support.rows import every_row

AT = datetime(2026, 11, 20, tzinfo=UTC)
CUSTOMER = "contoso"


def tokens(values: Mapping[str, Any]) -> Decimal:
    """Return what a usage record of these tests counts."""
    return Decimal(values["tokens"])


@every_row("spent", [1400, 2900, 3100])
@every_row("reserved", [3100, 100])
@every_row("thresholds", [[95], [1, 2, 50, 55, 95]], ids=str)
async def test_a_job_of_many_records_fits_a_transaction(spent: int, reserved: int, thresholds: list[int]):
    """Its budgets may have to gather what they have left from all of their buckets."""
    table, of = MemoryTable(), Budget(limit=Decimal(3200), unit="tokens", period="month", thresholds=thresholds)
    budgets = Budgets(table, CustomerRecords(table), Outbox(table))
    own = JobBudgets(budgets, CUSTOMER)
    etag = await table.insert(Row(CUSTOMER, "j_x", {"state": "running"}))
    own.request([Booking(f"b{number}", of, Decimal(reserved), tokens) for number in range(MAX_APPLYING + 1)], AT)
    (etag,) = await own.write(Row(CUSTOMER, "j_x", {"state": "running"}, etag), ())

    each, *others = [spent - (MAX_ADDED_ROWS - 1) * 10] + [10] * (MAX_ADDED_ROWS - 1)
    records = [
        Row(CUSTOMER, f"u_{number:02}", {"tokens": amount, "outcome": "answered"})
        for number, amount in enumerate([each, *others])
    ]
    await own.write(Row(CUSTOMER, "j_x", {"state": "done"}, etag), records)

    for number in range(MAX_APPLYING + 1):
        pool = await budgets.pool(pool_key(CUSTOMER, f"b{number}", of, AT)).find()
        assert pool is not None
        assert (spent, 0, 3200) == (pool.spent, pool.reserved, sum(bucket.share for bucket in pool.buckets))
        events = [key for _, key in table.rows if key.startswith(f"e_2026-11_b{number}_")]
        assert sum(100 * spent >= threshold * 3200 for threshold in of.thresholds) == len(events)
