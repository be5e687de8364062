"""Jobs that name several connections, on workers that die at each of their operations: journals and records agree."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import Any, cast

import pytest

from tests.support.crashing_storage import Fate, Mortal, WorkerDied
from tests.support.customers import Customer
from tests.support.endpoint import completion
from tests.support.sampled import Sampled
from tests.support.several_connections import BOTH, NO_QUOTA, served
from tests.support.workers import Memory, Worker, open_worker

MANY = {"action": "multi_chat", "input": {"prompts": ["1", "2", "3"]}}


async def run(worker: Worker, customer: Customer, job: dict[str, Any], fate: Fate) -> dict[str, Any]:
    """Return the job's result: its first worker has this fate, and others go on if it dies."""
    memory, client = worker.memory, cast(Any, Mortal(worker.services.client, fate))
    its_own = Memory(cast(Any, Mortal(memory.table, fate)), memory.blobs, memory.queues, memory.credentials)
    body, result = customer.body(job_id="job", connection=BOTH, **job), None
    with suppress(WorkerDied):
        result = await open_worker(worker.endpoint, client, memory=its_own).deliver(customer, body)
    while fate.has_died or result is None:
        fate.has_died = False
        if ("j_job") in [key for partition, key in worker.table.rows if partition == customer.name]:
            await worker.expire_lease(customer, "job")
        messages = [body for body, _ in worker.requeued()] or [body]
        for message in messages:
            result = await worker.another().deliver(customer, message)
    return result


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("job", [{}, MANY], ids=["one call", "three calls"])
async def test_each_call_is_on_record_where_it_was_made(
    worker: Worker, sampled: Sampled, job: dict[str, Any], after: bool
):
    """The first connection answers one of three calls, and has no quota then. At most one call is bought again."""
    for dies_at in sampled(itertools.count(1)):
        customer = worker.customer(max_concurrency=1)
        other = Customer(customer.name, worker.endpoint.account())
        worker.connect(other, "second", max_concurrency=1)
        bought = [1, 2] if job else [0, 1]
        customer.account.answers[:] = [completion("One.")] * bought[0] + [NO_QUOTA] * 9
        fate = Fate(dies_at, after)

        result = await run(worker, customer, job, fate)

        has_died = fate.operations >= dies_at
        assert ("succeeded", "second", [("default", "quota_exhausted")]) == served(result)
        records = [(row["connection"], row["outcome"]) for row in worker.usage(customer)]
        unanswered = [name for name, outcome in records if outcome == "unanswered"]
        assert len(unanswered) <= has_died
        assert sum(bought) == len(records) - len(unanswered)
        # A call is never the other one's: what an endpoint has answered is answered there, or its worker died with it.
        calls = len(other.account.received)
        assert calls in range(records.count(("second", "answered")), 1 + [name for name, _ in records].count("second"))
        assert bought[0] == 0 or "default" in [name for name, _ in records]
        if not has_died:
            break
    assert dies_at > 6
