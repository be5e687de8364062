"""The sweep and budgets: buckets of old periods are removed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from shared.batches.queries import BatchQueries
from shared.batches.records import BatchRecord, batch_row, new_batch_id
from shared.billing.bucket_rows import pool_key
from shared.billing.buckets import new_buckets, quantum_of, terms_of
from shared.contract.budget import Budget
from shared.jobs.batch_message import batch_key
from shared.retention.budget_rows import BudgetRows
from shared.storage.base import Row
from tests.support.budget_jobs import CUSTOMER
from tests.support.fakes import MemoryTable

BUDGET = Budget(limit=Decimal(100), unit="USD", period="month", notify="https://contoso.example/b")
AT = datetime(2026, 11, 11, tzinfo=UTC)


async def spend(table: MemoryTable, at: datetime, spent: str, **first: Any) -> None:
    """Make the budget's buckets of a month, and spend so much in it."""
    key = pool_key(CUSTOMER, "main", BUDGET, at)
    head, *others = map(key.row, new_buckets(terms_of(BUDGET), quantum_of("USD")))
    await table.insert(
        Row(CUSTOMER, head.key, {**head.values, "spent": spent, **first}),
        beside=[Row(CUSTOMER, each.key, each.values) for each in others],
    )


async def test_buckets_of_old_periods_are_removed():
    """Those of months before the cutoff, of budgets of days, too; a customer without a row has none."""
    table, rows = MemoryTable(), BudgetRows(MemoryTable())
    await spend(table, AT.replace(month=8), "1")
    await spend(table, AT.replace(month=9), "1")
    day = pool_key(CUSTOMER, "daily", Budget(limit=Decimal(1), unit="jobs", period="day"), AT.replace(month=8))
    await table.insert(Row(CUSTOMER, day.bucket_key(0), {}))
    await table.insert(Row(CUSTOMER, f"{day.prefix}~closed", {}))
    assert "" == await rows.remove(CUSTOMER, "", before="2026-09")

    await BudgetRows(table).remove(CUSTOMER, "", before="2026-09")

    assert {"2026-09"} == {key.rsplit("_", 2)[1] for _, key in table.rows}


async def test_batches_are_no_buckets():
    """The sweep of budgets leaves a batch's row, however old it is, and a list of batches has no budget's."""
    table = MemoryTable()
    await spend(table, AT, "1")
    batch = BatchRecord(CUSTOMER, new_batch_id(AT), "", "default", "gpt-4o", "chat/completions", AT, AT, AT, AT)
    await table.insert(batch_row(batch))

    await BudgetRows(table).remove(CUSTOMER, "", before="2026-11")

    assert (CUSTOMER, batch_key(batch.batch_id)) in table.rows
    listed, _ = await BatchQueries(table).newest(CUSTOMER, after="", limit=9)
    assert [batch.batch_id] == [each.batch_id for each in listed]
