"""The sweep and budgets: projections once, and buckets of old periods."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from shared.billing.bucket_rows import pool_key
from shared.billing.buckets import new_buckets, quantum_of, terms_of
from shared.contract.budget import Budget
from shared.retention import budget_rows
from shared.retention.budget_rows import BudgetRows
from shared.storage.base import Row
from tests.support.budget_jobs import CUSTOMER, customer_row
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


def events(table: MemoryTable) -> list[dict[str, Any]]:
    """Return the bodies of the customer's events."""
    return [json.loads(row.values["body"]) for (_, key), row in sorted(table.rows.items()) if key.startswith("e_")]


@pytest.mark.parametrize(
    ("day", "spent", "projected"),
    [(11, "33.5", "100.5000"), (11, "33", None), (3, "90", None), (11, "100", None), (4, "10", "100.0000")],
)
async def test_a_budget_that_will_be_exceeded_has_one_event(
    monkeypatch: pytest.MonkeyPatch, day: int, spent: str, projected: str | None
):
    """After three days, if what is spent so far comes to the limit by the end of the month, and only once."""
    table, at = MemoryTable(), AT.replace(day=day)
    monkeypatch.setattr(budget_rows, "now", lambda: at)
    await table.insert(customer_row({"main": BUDGET}))
    await spend(table, at, spent)

    for _ in range(2):
        assert "" == await BudgetRows(table).sweep(CUSTOMER, "", before="")

    assert ([projected] if projected else []) == [event["data"]["projected"] for event in events(table)]
    assert all(event["type"] == "budget.projected" for event in events(table))


async def test_buckets_of_old_periods_are_removed():
    """Those of months before the cutoff, of budgets of days, too; a customer without a row has none."""
    table, rows = MemoryTable(), BudgetRows(MemoryTable())
    await spend(table, AT.replace(month=8), "1")
    await spend(table, AT.replace(month=9), "1")
    day = pool_key(CUSTOMER, "daily", Budget(limit=Decimal(1), unit="jobs", period="day"), AT.replace(month=8))
    await table.insert(Row(CUSTOMER, day.bucket_key(0), {}))
    assert "" == await rows.sweep(CUSTOMER, "", before="2026-09")

    await BudgetRows(table).sweep(CUSTOMER, "", before="2026-09")

    assert {"2026-09"} == {key.rsplit("_", 2)[1] for _, key in table.rows}
