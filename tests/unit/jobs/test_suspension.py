"""A suspended customer's jobs end before anything of the customer's is used; the check costs a job nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from shared.billing.customer_records import CustomerRecords
from shared.errors import StorageUnavailable
from tests.support.customers import Customer
from tests.support.endpoint import error
from tests.support.fakes import MemoryTable
from tests.support.manual_clock import ManualClock
from tests.support.workers import OpenWorker, Worker


async def put(worker: Worker, customer: Customer, state: Literal["active", "suspended"]) -> None:
    """Write the customer's state, as the HTTP app of another worker does."""
    await CustomerRecords(worker.table).change(
        customer.name, lambda record: record.with_state(state), by="ann", subject="state"
    )


async def test_a_suspended_customers_job_ends_without_a_call(worker: Worker):
    """It has a result, as every accepted job; no connection is read, and another customer's job runs."""
    customer, other = worker.customer(connection=None), worker.customer()
    await put(worker, customer, "suspended")
    result, others = await worker.run(customer, job_id="x"), await worker.run(other)

    assert ("failed", "customer_suspended") == (result["status"], result["error"]["code"])
    assert f"Customer {customer.name} is suspended" in result["error"]["message"]
    assert ("succeeded", []) == (others["status"], customer.account.received)
    assert "connection" not in result
    assert (0, []) == (result["usage"]["calls"], worker.usage(customer))
    assert result == await worker.run(customer, job_id="x")  # the stored result


async def test_it_holds_within_ten_seconds(open_worker: OpenWorker):
    """On every worker, and so does its end."""
    clock = ManualClock()
    worker = open_worker()
    records = CustomerRecords(worker.table, clock=clock)
    worker = replace(worker, services=replace(worker.services, customer_records=records))
    customer = worker.customer()
    statuses = []
    for state in ("suspended", "active"):
        statuses.append((await worker.run(customer))["status"])
        await put(worker, customer, state)
        clock.advance(10)
    statuses.append((await worker.run(customer))["status"])

    assert ["succeeded", "failed", "succeeded"] == statuses


async def test_a_job_that_waits_ends_when_it_is_due(worker: Worker):
    """What an earlier attempt was billed stays in its usage; the endpoint is not called again."""
    customer = worker.customer()
    body = await worker.defer(customer, "slow")
    await put(worker, customer, "suspended")
    another = worker.another()
    calls = len(customer.account.received)
    result = await another.run(customer, body)

    assert ("failed", "customer_suspended") == (result["status"], result["error"]["code"])
    assert calls == len(customer.account.received)


async def test_a_job_that_is_done_is_replayed(worker: Worker):
    """What was paid for is delivered, however often its message comes."""
    customer = worker.customer()
    body = customer.body(job_id="x")
    first = await worker.run(customer, body)
    await put(worker, customer, "suspended")

    assert first == await worker.another().run(customer, body)


async def test_a_job_costs_no_further_operation(worker: Worker):
    """A customer's row is read once in ten seconds, side by side with the first claim; the price book once a minute."""
    customer = worker.customer()
    counts = []
    for _ in range(3):
        before = worker.table.operations
        await worker.run(customer)
        counts.append(worker.table.operations - before)

    assert [4, 2, 2] == counts


class UnreadableRow(MemoryTable):
    """A table that can't read the customers' rows."""

    async def read(self, partition: str, key: str) -> Any:
        """Raise StorageUnavailable for a customer's row."""
        if key == "customer":
            raise StorageUnavailable("The row can't be read.")
        return await super().read(partition, key)


async def test_a_row_that_cannot_be_read_lets_the_job_wait(worker: Worker):
    """Nothing is called meanwhile, and no attempt counts as failed."""
    customer = worker.customer()
    records = CustomerRecords(UnreadableRow())
    broken = replace(worker, services=replace(worker.services, customer_records=records))

    assert await broken.deliver(customer, job_id="x") is None
    assert ([], 0) == (customer.account.received, worker.row(customer, "x")["failed_attempts"])
    ((body, _),) = worker.requeued()
    assert "succeeded" == (await worker.run(customer, body))["status"]


@pytest.mark.parametrize("failures", [1, 2])
async def test_parts_that_were_paid_for_are_billed(worker: Worker, failures: int):
    """A job of many calls that is suspended between two attempts has the usage of those that it made."""
    customer = worker.customer()
    customer.account.will_answer(*[error(429, message="Slow down.", retry_after="3600")] * failures)
    body = customer.body(action="multi_chat", job_id="many", input={"prompts": ["a", "b", "c"]})
    await worker.deliver(customer, body)
    answered = len(worker.usage(customer))
    await put(worker, customer, "suspended")
    result = await worker.another().run(customer, worker.wakeup(customer, "many"))

    assert ("customer_suspended", answered) == (result["error"]["code"], result["usage"]["calls"])
    assert answered == len(worker.usage(customer))
