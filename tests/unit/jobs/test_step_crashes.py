"""
Chats whose `n` answers are as many calls, on workers that die at each of their operations, beside faults of the calls.

What the model sold and what is on record agree. A call is bought again only if its worker died between its answer and
the transaction that keeps it.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from typing import Any, NamedTuple, cast

import pytest

from tests.support.carried_jobs import Model, asking, carried
from tests.support.crashing_storage import Fate, Mortal, WorkerDied
from tests.support.customers import Customer
from tests.support.endpoint import Answer, error, reset
from tests.support.sampled import Sampled
from tests.support.workers import Memory, Worker, open_worker


class Fault(NamedTuple):
    """What the model answers once, and whether that may have been charged."""

    answer: Answer
    is_unanswered: bool = False


OPTIONS = {"retry_delay_ms": 0}
JOBS = {
    "chat": asking(n=3),
    "multi_chat": {"action": "multi_chat", "input": {"prompts": ["a", "b"], "parameters": {"n": 2}}},
}
FAULTS = {
    "waits": Fault(error(429, retry_after="60")),
    "is repeated": Fault(error(503)),
    "breaks": Fault(reset, is_unanswered=True),
}


def answers_of(result: dict[str, Any]) -> list[str]:
    """Return all answers of a job, in order."""
    outputs = result["output"].get("answers") or [result["output"]]
    return [choice["message"]["content"] for output in outputs for choice in output["choices"]]


def count(worker: Worker, customer: Customer, outcome: str) -> int:
    """Return how many of the customer's records have this outcome."""
    return [row["outcome"] for row in worker.usage(customer)].count(outcome)


async def run(worker: Worker, customer: Customer, model: Model, job: dict[str, Any], fate: Fate) -> dict[str, Any]:
    """Return the job's result, and in it how many calls its first worker, which has this fate, had in its hands."""
    memory, client = worker.memory, cast(Any, Mortal(worker.services.client, fate))
    its_own = Memory(cast(Any, Mortal(memory.table, fate)), memory.blobs, memory.queues, memory.credentials)
    body, result = customer.body(job_id="job", options=OPTIONS, **job), None
    with suppress(WorkerDied):
        result = await open_worker(worker.endpoint, client, memory=its_own).deliver(customer, body)
    await asyncio.sleep(0)
    in_doubt = len(model.sent) - count(worker, customer, "answered")
    if fate.has_died and ("j_job") in [key for partition, key in worker.table.rows if partition == customer.name]:
        await worker.expire_lease(customer, "job")
    while result is None:
        for message in [message for message, _ in worker.requeued()] or [body]:
            result = await worker.another().deliver(customer, message)
    return {**result, "in_doubt": in_doubt}


async def live(worker: Worker, kind: str, fault: Fault | None, at: int, fate: Fate) -> bool:
    """Run a job whose call `at` meets the fault, check what became of it, return whether it had so many operations."""
    customer, model = carried(worker, max_concurrency=1)
    model.text = "Answer {}."
    if fault is not None:
        model.faults[at] = fault.answer

    result = await run(worker, customer, model, JOBS[kind], fate)

    answers, in_doubt = answers_of(result), result["in_doubt"]
    assert "succeeded" == result["status"]
    assert len(answers) == len(set(answers)) == count(worker, customer, "answered") == result["usage"]["calls"]
    assert in_doubt == len(model.sent) - len(answers) <= fate.has_died
    is_unanswered = fault is not None and fault.is_unanswered
    assert count(worker, customer, "unanswered") in range(is_unanswered, 1 + is_unanswered + fate.has_died)
    assert count(worker, customer, "unanswered") >= in_doubt
    return fate.operations >= fate.dies_at


@pytest.mark.parametrize("kind", JOBS)
@pytest.mark.parametrize("after", [False, True])
async def test_a_worker_may_die_at_any_operation(worker: Worker, sampled: Sampled, kind: str, *, after: bool):
    """One more worker buys what is missing."""
    for dies_at in sampled(itertools.count(1)):
        if not await live(worker, kind, None, 0, Fate(dies_at, after)):
            break
    assert dies_at > 10


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("at", [1, 2, pytest.param(3, marks=pytest.mark.long)])
@pytest.mark.parametrize("kind", ["chat", pytest.param("multi_chat", marks=pytest.mark.long)])
async def test_a_worker_may_die_at_any_operation_beside_any_fault(
    worker: Worker, sampled: Sampled, kind: str, name: str, at: int
):
    """See above."""
    for dies_at in sampled(itertools.count(1)):
        if not await live(worker, kind, FAULTS[name], at, Fate(dies_at, dies_at % 2 == 0)):
            break
    assert dies_at > 6


@pytest.mark.long
@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("kind", JOBS)
async def test_a_worker_may_die_at_any_operation_made_or_not_beside_any_fault(
    worker: Worker, kind: str, name: str, at: int
):
    """See above; what the tests above leave out."""
    dies_at = 1
    while await live(worker, kind, FAULTS[name], at, Fate(dies_at, dies_at % 2 == 1)):
        dies_at += 1
