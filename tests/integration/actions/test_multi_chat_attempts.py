"""`multi_chat` over several attempts: after waits, lost leases, failures of Storage and deadlines."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.errors import AlreadyRunning, RetryLater
from shared.jobs.lease import Lease
from shared.storage.base import RowChanged
from tests.support.endpoint import error
from tests.support.fakes import Fault, MemoryTable
from tests.support.harness import Customer, Harness
from tests.support.scripted_model import ScriptedModel, call_keys, codes, multi_chat, prompts, texts


async def test_waiting_job_repeats_no_call(harness: Harness):
    """
    A job that has to wait is requeued with its answers; its second attempt makes only the missing calls.

    Only answers are stored: a prompt that was refused in the first attempt is called again.
    """
    customer = harness.customer(max_concurrency=4)
    model = ScriptedModel().serve(customer)
    job_prompts = prompts(20)
    refused, throttled = job_prompts[0], job_prompts[9]
    model.scripts |= {refused: [error(400, "invalid_value")] * 2, throttled: [error(429, retry_after="600")]}

    assert await customer.deliver(**multi_chat(job_prompts)) is None

    assert model.calls.total() < 20
    assert len(await customer.usage()) == model.answered.total()
    result = await customer.run(**multi_chat(job_prompts))
    assert ("partial", 2, 19) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert ["request_rejected", *[None] * 19] == codes(result)
    assert [None, *(f"About {prompt}" for prompt in job_prompts[1:])] == texts(result)
    assert Counter(job_prompts[1:]) == model.answered
    assert Counter([*job_prompts, refused, throttled]) == model.calls
    assert [f"job-1_{index:04}" for index in range(1, 20)] == await call_keys(customer)
    assert model.tokens == result["usage"]["input_tokens"] + result["usage"]["output_tokens"]


async def change_row(harness: Harness, customer: Customer, job_id: str, **values: Any) -> None:
    """Change the row of a job behind the worker's back."""
    row = await harness.services.table.read(customer.name, f"j_{job_id}")
    assert row is not None
    await harness.services.table.merge(replace(row, values=values))


async def expire_lease(harness: Harness, customer: Customer, job_id: str) -> None:
    """Let the lease of a job expire."""
    await change_row(harness, customer, job_id, lease_until=datetime.now(UTC) - timedelta(seconds=1))


async def take_over(harness: Harness, customer: Customer, job_id: str) -> Lease:
    """Claim a job that another worker runs, as if its lease had expired."""
    row = await harness.services.table.read(customer.name, f"j_{job_id}")
    assert row is not None
    while True:
        try:
            await expire_lease(harness, customer, job_id)
            lease = await harness.services.ledger.claim(
                customer.name, job_id, fingerprint=row.values["fingerprint"], submitted_at=datetime.now(UTC)
            )
        except (AlreadyRunning, RowChanged):  # a step that the other worker stored in between has renewed its lease
            continue
        assert isinstance(lease, Lease)
        return lease


async def test_lost_lease_ends_the_attempt(harness: Harness):
    """A worker that lost its lease publishes nothing, soon makes no more calls, and records its last calls as lost."""
    customer = harness.customer(max_concurrency=2)
    job_prompts = prompts(40)
    leases: list[Lease] = []

    async def lose_lease(prompt: str) -> None:
        if prompt == job_prompts[10] and not leases:
            model.after_s = 0.5  # much longer than a write takes
            leases.append(await take_over(harness, customer, "job-1"))

    model = ScriptedModel(before=lose_lease).serve(customer)

    assert await customer.deliver(**multi_chat(job_prompts)) is None

    first_calls = model.calls.total()
    model.after_s = 0
    assert first_calls < 25
    kept = [key for key in await call_keys(customer) if "~" not in key]
    lost = [key for key in await call_keys(customer) if "~" in key]
    assert len(kept) < 15
    assert first_calls == len(kept) + len(lost)
    await harness.services.ledger.release(leases[0], RetryLater("Later.", 1))
    result = await customer.run(**multi_chat(job_prompts))
    assert ("succeeded", 3, 40) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [f"job-1_{index:04}" for index in range(40)] + lost == await call_keys(customer)
    assert 40 - len(kept) == model.calls.total() - first_calls


@pytest.mark.usefixtures("without_storage_waits")
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
async def test_failing_storage_stops_the_calls(harness: Harness, fault: Fault):
    """While steps can't be stored, hardly any more calls are made; the next attempt makes only the missing ones."""
    customer = harness.customer(max_concurrency=1)
    model = ScriptedModel(after_s=0.1).serve(customer)  # longer than a write takes
    faulty = harness.services.table
    assert isinstance(faulty, MemoryTable)
    faulty.faults.extend([None, None, None, *[fault] * 3])

    assert await customer.deliver(**multi_chat(prompts(50))) is None

    first_calls = model.calls.total()
    kept = await call_keys(customer)
    assert 2 <= len(kept) <= first_calls < 30
    model.after_s = 0
    faulty.faults.clear()
    await expire_lease(harness, customer, "job-1")  # its release may have failed as well
    result = await customer.run(**multi_chat(prompts(50)))
    assert ("succeeded", 2, 50) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert 50 - len(kept) == model.calls.total() - first_calls
    # If the release failed as well, the attempt counts as one that crashed.
    assert [f"job-1_{index:04}" for index in range(50)] == [
        key for key in await call_keys(customer) if key != "job-1_~1"
    ]


async def test_jobs_with_similar_ids_have_their_own_steps(harness: Harness):
    """Jobs of one customer whose ids begin alike each continue with their own answers."""
    customer = harness.customer(max_concurrency=1)
    model = ScriptedModel().serve(customer)
    ids = ("a", "a_b", "a-b", "a.0000", "a_0000", "a0", "A")
    jobs = {job_id: [f"first of {job_id}", f"second of {job_id}"] for job_id in ids}
    for job_id, (first, second) in jobs.items():
        model.scripts[second] = [error(429, retry_after="600")]
        assert await customer.deliver(**multi_chat([first, second], job_id)) is None

    for job_id, job_prompts in jobs.items():
        result = await customer.run(**multi_chat(job_prompts, job_id))
        assert [f"About {prompt}" for prompt in job_prompts] == texts(result)
        assert 2 == result["usage"]["calls"]

    assert {first: 1 for first, _ in jobs.values()} | {second: 2 for _, second in jobs.values()} == model.calls
    assert sorted(f"{job_id}_{n:04}" for job_id in jobs for n in range(2)) == await call_keys(customer)


async def test_wait_beyond_the_deadline_ends_the_job(harness: Harness):
    """If the endpoint requests a longer wait than the deadline allows, the job ends with the answers that it has."""
    customer = harness.customer(max_concurrency=1)
    model = ScriptedModel().serve(customer)
    model.scripts["2"] = [error(429, message="Slow down.", retry_after="30")]

    result = await customer.run(**multi_chat(["0", "1", "2", "3"], options={"deadline_s": 20}))

    assert ("partial", [None, None, "rate_limited", "rate_limited"]) == (result["status"], codes(result))
    assert "Slow down." in result["output"]["answers"][2]["error"]["message"]
    assert (3, 2) == (model.calls.total(), result["usage"]["calls"])


async def test_deadline_that_passed_in_the_queue_fails_the_job(harness: Harness):
    """A job whose deadline passed while it waited in the queue ends as `timeout`, and makes no more calls."""
    customer = harness.customer(max_concurrency=1)
    model = ScriptedModel().serve(customer)
    model.scripts["1"] = [error(429, retry_after="6")]
    body = customer.body(**multi_chat(["0", "1"], options={"deadline_s": 60}))
    assert await customer.deliver(body) is None
    await change_row(harness, customer, "job-1", submitted_at=datetime.now(UTC) - timedelta(seconds=61))

    result = await customer.run(body)

    assert ("failed", "timeout", 2) == (result["status"], result["error"]["code"], result["attempts"])
    assert {"0": 1, "1": 1} == model.calls
