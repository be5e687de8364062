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

from shared.errors import AlreadyRunning, RetryLater, StorageUnavailable
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.jobs.step_rows import MAX_STEP_BYTES
from shared.storage.base import Row
from tests.support.endpoint import completion, error
from tests.support.fakes import Fault
from tests.support.faulty_tables import FaultyTable, faulty_table
from tests.support.harness import Customer, Harness, delivery
from tests.support.scripted_model import ScriptedModel, call_key, call_keys, codes, multi_chat, prompts, texts


async def test_waiting_job_repeats_no_call(harness: Harness):
    """A job that has to wait is requeued with its answers; its second attempt makes only the missing calls."""
    customer = harness.customer(max_concurrency=4)
    model = ScriptedModel().serve(customer)
    job_prompts = prompts(20)
    model.scripts[job_prompts[9]] = [error(429, retry_after="600")]

    assert await customer.deliver(**multi_chat(job_prompts)) is None

    assert model.calls.total() < 20
    assert len(await customer.usage()) == model.answered.total()
    result = await customer.run(**multi_chat(job_prompts))
    assert ("succeeded", 2, 20) == (result["status"], result["attempts"], result["usage"]["calls"])
    assert [f"About {prompt}" for prompt in job_prompts] == texts(result)
    assert Counter(job_prompts) == model.answered
    assert Counter([*job_prompts, job_prompts[9]]) == model.calls
    assert [f"job-1_{index:04}" for index in range(20)] == await call_keys(customer)
    assert model.tokens == result["usage"]["input_tokens"] + result["usage"]["output_tokens"]


async def test_refused_prompts_are_called_again(harness: Harness):
    """Only answers are stored: a prompt that was refused in the first attempt is called again in the second."""
    customer = harness.customer(max_concurrency=1)
    model = ScriptedModel().serve(customer)
    model.scripts["0"] = [error(400, "invalid_value")] * 2
    model.scripts["2"] = [error(429, retry_after="600")]
    await customer.deliver(**multi_chat(["0", "1", "2"]))

    result = await customer.run(**multi_chat(["0", "1", "2"]))

    assert ("partial", ["request_rejected", None, None]) == (result["status"], codes(result))
    assert {"0": 2, "1": 1, "2": 2} == model.calls


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


async def test_unreadable_steps_end_the_attempt(harness: Harness):
    """If stored steps can't be read, the attempt ends after one request to Storage, without a call."""
    faulty = faulty_table("memory", harness, pytest.MonkeyPatch())
    worker = FaultyWorker(harness, harness.customer(max_concurrency=1), faulty)
    model = ScriptedModel().serve(worker.customer)
    model.scripts["1"] = [error(429, retry_after="600")]
    assert await worker.deliver(multi_chat(["0", "1"])) is None
    scans = 0
    scan = faulty.table.scan

    async def fail(partition: str, first: str, last: str):
        nonlocal scans
        scans += first.startswith("s_")
        async for row in scan(partition, first, last):
            raise StorageUnavailable(f"Not {row.key}.")
        yield  # a generator, like the real one

    faulty.table.scan = fail  # type: ignore[method-assign]

    assert await worker.deliver(multi_chat(["0", "1"])) is None

    assert (1, {"0": 1, "1": 1}) == (scans, model.calls)


async def test_steps_too_large_for_a_row_are_in_blobs(harness: Harness):
    """A step of more than 60 KB is stored in a blob until the job is done, and is in the result of a later attempt."""
    customer = harness.customer(max_concurrency=1)
    model = ScriptedModel().serve(customer)
    large = "ö" * MAX_STEP_BYTES
    model.scripts["0"] = [completion(large)]
    model.scripts["1"] = [completion("y" * 20_000)]
    model.scripts["2"] = [error(429, retry_after="600")]

    assert await customer.deliver(**multi_chat(["0", "1", "2"], "large")) is None

    steps = {row["RowKey"]: row for row in await customer.rows() if row["RowKey"].startswith("s_")}
    assert {"s_large~0000": True, "s_large~0001": False} == {key: row["in_blob"] for key, row in steps.items()}
    result = await customer.run(**multi_chat(["0", "1", "2"], "large"))
    blob = harness.blobs.get_blob_client(result["output_blob"]["container"], result["output_blob"]["name"])
    stored = json.loads(await (await blob.download_blob()).readall())
    assert [large, "y" * 20_000, "About 2"] == texts(stored)
    assert {"0": 1, "1": 1, "2": 2} == model.calls


async def test_jobs_with_similar_ids_have_their_own_steps(harness: Harness):
    """Jobs of one customer whose ids begin alike each continue with their own answers."""
    customer = harness.customer(max_concurrency=1)
    model = ScriptedModel().serve(customer)
    ids = ["a", "a_b", "a-b", "a.0000", "a_0000", "a0", "A"]
    for job_id in ids:
        model.scripts[f"second of {job_id}"] = [error(429, retry_after="600")]
        assert await customer.deliver(**multi_chat([f"first of {job_id}", f"second of {job_id}"], job_id)) is None

    results = [
        await customer.run(**multi_chat([f"first of {job_id}", f"second of {job_id}"], job_id)) for job_id in ids
    ]

    for job_id, result in zip(ids, results, strict=True):
        assert [f"About first of {job_id}", f"About second of {job_id}"] == texts(result)
        assert 2 == result["usage"]["calls"]
    assert {f"first of {job_id}": 1 for job_id in ids} | {f"second of {job_id}": 2 for job_id in ids} == model.calls
    assert sorted(f"{job_id}_{n:04}" for job_id in ids for n in range(2)) == await call_keys(customer)


async def test_wait_beyond_the_deadline_ends_the_job(harness: Harness):
    """If the endpoint requests a longer wait than the deadline allows, the job ends with the answers that it has."""
    customer = harness.customer(max_concurrency=1)
    model = ScriptedModel().serve(customer)
    model.scripts["2"] = [error(429, message="Slow down.", retry_after="30")]

    result = await customer.run(**multi_chat(["0", "1", "2", "3"], options={"deadline_s": 20}))

    assert ("partial", [None, None, "rate_limited", "rate_limited"]) == (result["status"], codes(result))
    assert "Slow down." in result["output"]["answers"][2]["error"]["message"]
    assert (3, 2) == (model.calls.total(), result["usage"]["calls"])


async def test_wait_beyond_the_deadline_without_answers_fails_the_job(harness: Harness):
    """If no prompt was answered before such a wait, the job fails with the first prompt's error."""
    customer = harness.customer()
    ScriptedModel().serve(customer).scripts["0"] = [error(429, retry_after="30")]

    result = await customer.run(**multi_chat(["0"], options={"deadline_s": 20}))

    assert ("failed", "rate_limited", 429) == (result["status"], result["error"]["code"], result["error"]["status"])


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
