"""`multi_chat` over several attempts: after waits, lost leases, failures of Storage and deadlines."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from shared.errors import AlreadyRunning, RetryLater
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.storage.base import Row
from tests.support.endpoint import completion, error
from tests.support.fakes import Fault
from tests.support.faulty_tables import FaultyTable, faulty_table
from tests.support.harness import Customer, Harness, delivery
from tests.support.scripted_model import ScriptedModel, call_key, call_keys, codes, multi_chat, prompts, texts


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


async def take_over(harness: Harness, customer: Customer, job_id: str) -> Lease:
    """Claim a job that another worker runs, as if its lease had expired."""
    key = {"PartitionKey": customer.name, "RowKey": f"j_{job_id}"}
    fingerprint = (await harness.table.get_entity(*key.values()))["fingerprint"]
    while True:
        await harness.table.update_entity(key | {"lease_until": datetime.now(UTC) - timedelta(seconds=1)})
        try:
            lease = await harness.services.ledger.claim(
                customer.name, job_id, fingerprint=fingerprint, submitted_at=datetime.now(UTC)
            )
        except AlreadyRunning:  # a step that the other worker stored in between has renewed its lease
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


@dataclass(repr=False)
class FaultyWorker:
    """A worker whose ledger is on a table with faults, and a customer."""

    harness: Harness
    customer: Customer
    faulty: FaultyTable

    async def deliver(self, members: dict[str, Any]) -> dict[str, Any] | None:
        """Process a job, and return its result if there is one."""
        services = replace(self.harness.services, ledger=Ledger(self.faulty.table))
        result = await services.worker.process(delivery(json.dumps(self.customer.job(**members)).encode()))
        return None if result is None else json.loads(result)

    async def usage(self) -> list[str]:
        """Return the keys of the customer's usage records, as `call_key`."""
        return [call_key(row.key) async for row in self.faulty.table.scan(self.customer.name, "u_", "u`")]

    async def expire_lease(self) -> None:
        """Let the lease of the customer's job expire."""
        row = await self.faulty.table.read(self.customer.name, "j_job-1")
        assert row is not None
        expired = {"lease_until": datetime.now(UTC) - timedelta(seconds=1)}
        await self.faulty.table.merge(Row(row.partition, row.key, expired, row.etag))


@pytest.fixture(params=["memory", "azure"])
def worker(request: pytest.FixtureRequest, harness: Harness, monkeypatch: pytest.MonkeyPatch) -> FaultyWorker:
    """A worker on a table of either kind, one call at a time."""
    return FaultyWorker(harness, harness.customer(max_concurrency=1), faulty_table(request.param, harness, monkeypatch))


async def test_step_whose_response_got_lost_is_stored(worker: FaultyWorker):
    """If Storage's response to a step got lost and the write was sent again, the job continues normally."""
    model = ScriptedModel().serve(worker.customer)
    worker.faulty.faults.extend([None, None, Fault.TWICE])

    result = await worker.deliver(multi_chat(prompts(6)))

    assert result is not None
    assert ("succeeded", 6, 6) == (result["status"], result["usage"]["calls"], model.calls.total())
    assert [f"job-1_{index:04}" for index in range(6)] == await worker.usage()


@pytest.mark.usefixtures("without_storage_waits")
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
async def test_failing_storage_stops_the_calls(worker: FaultyWorker, fault: Fault):
    """While steps can't be stored, hardly any more calls are made; the next attempt makes only the missing ones."""
    model = ScriptedModel(after_s=0.1).serve(worker.customer)  # longer than a write takes
    worker.faulty.faults.extend([None, None, None, *[fault] * 3])

    assert await worker.deliver(multi_chat(prompts(50))) is None

    first_calls = model.calls.total()
    kept = await worker.usage()
    assert 2 <= len(kept) <= first_calls < 30
    model.after_s = 0
    worker.faulty.faults.clear()
    await worker.expire_lease()  # its release may have failed as well
    result = await worker.deliver(multi_chat(prompts(50)))
    assert result is not None
    assert ("succeeded", 2, 50) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert 50 - len(kept) == model.calls.total() - first_calls
    # If the release failed as well, the attempt counts as one that crashed.
    assert [f"job-1_{index:04}" for index in range(50)] == [key for key in await worker.usage() if key != "job-1_~1"]


@pytest.mark.usefixtures("without_storage_waits")
@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST])
async def test_later_step_is_stored_with_an_earlier_one(worker: FaultyWorker, fault: Fault):
    """A step that could not be stored is stored together with the next one, so that no call is repeated."""
    worker.harness.connect(worker.customer, max_concurrency=2)
    model = ScriptedModel().serve(worker.customer)
    worker.faulty.faults.extend([None, fault])

    async def slow(request: web.Request) -> web.StreamResponse:
        while worker.faulty.faults:  # noqa: ASYNC110  # a deque has no event
            await asyncio.sleep(0.01)
        return await completion("At last.")(request)

    model.scripts |= {"slow": [slow], "never": [completion("At last.")]}

    assert await worker.deliver(multi_chat(["slow", "fast", "never"])) is None

    assert {"slow": 1, "fast": 1} == model.calls
    assert [f"job-1_{index:04}" for index in range(2)] == await worker.usage()
    result = await worker.deliver(multi_chat(["slow", "fast", "never"]))
    assert result is not None
    assert ["At last.", "About fast", "At last."] == texts(result)
    assert {"slow": 1, "fast": 1, "never": 1} == model.calls


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
    body = json.dumps(customer.job(**multi_chat(["0", "1"], options={"deadline_s": 60}))).encode()
    assert await harness.services.worker.process(delivery(body)) is None
    key = {"PartitionKey": customer.name, "RowKey": "j_job-1"}
    await harness.table.update_entity(key | {"submitted_at": datetime.now(UTC) - timedelta(seconds=61)})

    result = await customer.run(body)

    assert ("failed", "timeout", 2) == (result["status"], result["error"]["code"], result["attempts"])
    assert {"0": 1, "1": 1} == model.calls
