"""Budgets that will be used up before their month ends are noticed, once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.billing.bucket_rows import pool_key
from shared.billing.buckets import new_buckets, quantum_of, terms_of
from shared.billing.budgets import Budgets
from shared.billing.customer_records import CustomerRecords
from shared.billing.outbox import Outbox
from shared.contract.budget import Budget
from shared.jobs import projections
from shared.jobs.projections import Projections
from shared.storage.base import Row
from tests.support.budget_jobs import CUSTOMER, customer_row
from tests.support.fakes import MemoryTable
from tests.support.rows import every_row

BUDGET = Budget(limit=Decimal(100), unit="USD", period="month", notify="https://contoso.example/b")
AT = datetime(2026, 11, 11, tzinfo=UTC)


async def table_with(budget: Budget = BUDGET, *, customer: str = CUSTOMER, table: MemoryTable | None = None) -> Any:
    """Return a table in which a customer has a budget, and its buckets of the month of AT."""
    table = table or MemoryTable()
    row = customer_row({"main": budget})
    head, *others = map(
        pool_key(customer, "main", budget, AT).row, new_buckets(terms_of(budget), quantum_of(budget.unit))
    )
    await table.insert(Row(customer, row.key, row.values), beside=[Row(customer, r.key, r.values) for r in others])
    await table.insert(Row(customer, head.key, head.values))
    return table


async def spend(table: MemoryTable, spent: str) -> None:
    """Have so much be spent."""
    row = table.rows[CUSTOMER, pool_key(CUSTOMER, "main", BUDGET, AT).bucket_key(0)]
    await table.merge(Row(row.partition, row.key, {"spent": spent}, row.etag))


async def look(table: MemoryTable, at: datetime, seconds: float = 60) -> bool:
    """Look at all budgets as the timer does."""
    budgets = Budgets(table, CustomerRecords(table), Outbox(table))
    return await Projections(table, budgets).run(at, seconds=seconds)


def events(table: MemoryTable) -> list[dict[str, Any]]:
    """Return the bodies of all customers' events."""
    return [json.loads(row.values["body"]) for (_, key), row in sorted(table.rows.items()) if key.startswith("e_")]


@every_row(
    ("day", "spent", "projected"),
    [(11, "33.5", "100.5000"), (11, "33", None), (3, "90", None), (11, "100", None), (4, "10", "100.0000")],
)
async def test_a_budget_that_will_be_exceeded_has_one_event(day: int, spent: str, projected: str | None):
    """After three closed days, if their average comes to the limit by the end of the month, and only once."""
    table = await table_with()
    await spend(table, spent)

    for hour in (0, 1, 23):
        assert await look(table, AT.replace(day=day) + timedelta(hours=hour))

    assert ([projected] if projected else []) == [event["data"]["projected"] for event in events(table)]
    assert all(event["type"] == "budget.projected" for event in events(table))
    assert all(event["data"]["spent"] == spent for event in events(table))


async def test_only_closed_days_count():
    """What is spent on a day counts from the next day on, when the day is closed."""
    table = await table_with()
    await spend(table, "20")
    await look(table, AT)
    await spend(table, "90")  # in the course of the day

    await look(table, AT + timedelta(hours=23))
    before = events(table)
    await look(table, AT + timedelta(hours=24))

    assert [] == before
    assert [("90", "245.4545")] == [(e["data"]["spent"], e["data"]["projected"]) for e in events(table)]


async def test_a_limit_that_is_lowered_is_noticed_within_an_hour():
    """The average of the closed days is compared with the limit as it is."""
    table = await table_with()
    await spend(table, "20")
    await look(table, AT)
    row = table.rows[CUSTOMER, "customer"]
    lower = customer_row({"main": Budget(limit=Decimal(50), unit="USD", period="month")})
    await table.merge(Row(CUSTOMER, "customer", lower.values, row.etag))

    await look(table, AT + timedelta(hours=1))

    assert ["60.0000"] == [event["data"]["projected"] for event in events(table)]


async def test_a_look_costs_little():
    """Two reads a budget; budgets of days, and those that no job has used, have no event."""
    table = await table_with()
    await look(table, AT)
    daily = Budget(limit=Decimal(1), unit="jobs", period="day")
    await table_with(daily, customer="daily", table=table)
    before = table.operations

    await look(table, AT.replace(month=12) + timedelta(hours=1))

    assert [] == events(table)
    # The position, the customers one after the other, their rows; of the monthly budget its row, and its buckets.
    assert table.operations - before <= 1 + 3 + 2 + 2


async def test_a_run_whose_time_is_up_is_continued(monkeypatch: pytest.MonkeyPatch):
    """The next run begins with the customers behind the last one, and the one after that with all again."""
    table = await table_with()
    monkeypatch.setattr(projections, "_PAGE", 1)
    for name in ("a", "z"):
        await table_with(customer=name, table=table)
        for partition in (name, CUSTOMER):
            row = table.rows[partition, pool_key(partition, "main", BUDGET, AT).bucket_key(0)]
            await table.merge(Row(row.partition, row.key, {"spent": "50"}, row.etag))

    ends = [await look(table, AT, seconds=0) for _ in range(4)]

    assert [False, False, False, True] == ends
    assert ["a", CUSTOMER, "z"] == [event["data"]["customer"] for event in events(table)]
    assert "" == table.rows["~projections", "position"].values["customer"]
