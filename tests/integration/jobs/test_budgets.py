"""Jobs on a budget through the real parts: two workers on Azurite."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

from shared.billing.bucket_rows import pool_key
from shared.billing.budgets import Budgets
from shared.billing.customer_records import CustomerRecords
from shared.billing.outbox import Outbox
from shared.clock import now
from shared.contract.budget import Budget
from tests.support.harness import Harness


async def test_jobs_at_once_don_t_pass_a_budget(harness: Harness):
    """Of twelve jobs at once on a budget for four, at most four call the endpoint, and none once that is spent."""
    services, customer = harness.services, harness.customer()
    budget = Budget(limit=Decimal(4), unit="jobs", period="month")
    await services.customer_records.change(
        customer.name, lambda record: record.with_budgets({"main": budget}), by="ann", subject="budgets"
    )
    results: dict[str, dict[str, Any]] = {}

    async def run(number: int) -> None:
        body = customer.body(job_id=f"job-{number}")
        while (result := await customer.deliver(body)) is None:  # noqa: ASYNC110  # others have reserved what is left
            await asyncio.sleep(0.05)
        results[f"job-{number}"] = json.loads(result)

    await asyncio.gather(*map(run, range(12)))

    statuses = [result["status"] for result in results.values()]
    assert (4, 8) == (statuses.count("succeeded"), statuses.count("failed"))
    assert {"budget_exceeded"} == {each["error"]["code"] for each in results.values() if each["status"] == "failed"}
    assert 4 == len(customer.account.received)
    other = Budgets(services.table, CustomerRecords(services.table), Outbox(services.table))
    pool = await other.pool(pool_key(customer.name, "main", budget, now())).find()
    assert pool is not None
    assert (4, 0, 4) == (pool.spent, pool.reserved, sum(bucket.share for bucket in pool.buckets))
    events = sorted(row["RowKey"] for row in await customer.rows() if row["RowKey"].startswith("e_"))
    assert [f"e_{now():%Y-%m}_main_jobs_{threshold}" for threshold in (100, 50, 80)] == events
