"""A job that is new reserves of its customer's budget in the transaction that claims it."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from aiohttp import web

from shared.billing.bucket_moves import Pool
from shared.billing.bucket_rows import pool_key
from shared.clock import now
from shared.contract.budget import Budget
from tests.support.customers import Customer
from tests.support.fakes import Fault
from tests.support.loopback import Answer
from tests.support.workers import Worker

USED = 18
"""Tokens of the endpoint's answer."""
INPUT = {"prompt": "Hello?", "parameters": {"max_tokens": 100}}
MAIN = Budget(limit=Decimal(100_000), unit="tokens", period="month")


def pool(worker: Worker, customer: Customer) -> Pool:
    """Return the buckets of the budget, as the table has them."""
    key = pool_key(customer.name, "main", MAIN, now())
    rows = sorted(row for row in worker.table.rows if row[0] == customer.name and row[1].startswith(key.prefix))
    return Pool([key.read(worker.table.rows[row]) for row in rows], Decimal(1))


async def warm(worker: Worker, customer: Customer) -> None:
    """Give the customer the budget, and have the worker know it, its buckets and the connection."""
    records = worker.services.customer_records
    await records.change(customer.name, lambda record: record.with_budgets({"main": MAIN}), by="ann", subject="budgets")
    for _ in range(4):
        await worker.run(customer, input=INPUT)


async def operations(worker: Worker, customer: Customer, **members: Any) -> int:
    """Run a job; return how many operations of the table it took."""
    before = worker.table.operations
    assert "succeeded" == (await worker.run(customer, input=INPUT, **members))["status"]
    return worker.table.operations - before


async def test_a_claim_reserves(worker: Worker):
    """Two transactions for a job: while its call is under way, its row and the bucket say what is reserved."""
    customer = worker.customer()
    await warm(worker, customer)
    seen = list[tuple[str, Decimal]]()

    async def look(request: web.Request, answer: Answer) -> web.StreamResponse:
        seen.append((worker.row(customer, "x")["reservation"], pool(worker, customer).reserved))
        return await answer(request)

    customer.account.around = look

    assert 2 == await operations(worker, customer, job_id="x")

    ((reservation, reserved),) = seen
    assert [reserved] == [Decimal(str(each[4])) for each in msgspec.json.decode(reservation)]
    assert (5 * USED, 0) == (pool(worker, customer).spent, pool(worker, customer).reserved)


async def test_a_bucket_that_another_worker_has_changed_is_read_again(worker: Worker):
    """The claim is repeated with what the bucket now holds, and both workers' jobs count."""
    customer, other = worker.customer(), worker.another()
    await warm(worker, customer)
    await other.services.customer_records.recent(customer.name)
    for number in range(6):
        await operations((worker, other)[number % 2], customer)

    assert (10 * USED, 0) == (pool(worker, customer).spent, pool(worker, customer).reserved)


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
async def test_a_claim_whose_answer_does_not_come_leaves_nothing_reserved(worker: Worker, fault: Fault):
    """The job is requeued. Once it has run, nothing is reserved; what a lost claim has reserved may have been used."""
    customer = worker.customer()
    await warm(worker, customer)
    worker.table.faults = deque([fault])
    assert await worker.deliver(customer, job_id="x", input=INPUT) is None
    row = worker.table.rows.get((customer.name, "j_x"))
    assert (row is not None) == (fault is Fault.LOST)
    if row is not None:
        worker.table.rows[customer.name, "j_x"] = replace(row, values={**row.values, "lease_until": now()})

    result = await worker.run(customer, worker.requeued()[-1][0])

    assert "succeeded" == result["status"]
    assert 0 == pool(worker, customer).reserved
    assert pool(worker, customer).spent >= 5 * USED


async def test_a_job_that_is_done_reserves_nothing(worker: Worker):
    """A redelivered message gets the stored result, and the budget stays as it is."""
    customer = worker.customer()
    await warm(worker, customer)
    first = await worker.run(customer, job_id="x", input=INPUT)
    before = pool(worker, customer)

    assert first == await worker.run(customer, job_id="x", input=INPUT)

    assert (before.spent, 0) == (pool(worker, customer).spent, pool(worker, customer).reserved)
