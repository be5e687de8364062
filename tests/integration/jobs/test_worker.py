"""Jobs through the real parts: Azurite, the vault stand-in, an AI endpoint over HTTP."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared.contract.job import decode_job
from shared.contract.result import MESSAGE_LIMIT
from shared.jobs import attempt
from shared.jobs.fingerprint import fingerprint
from shared.upstream import retry
from tests.support.endpoint import Endpoint, completion, error
from tests.support.harness import Harness, decoded, delivery, open_harness


async def test_a_chat_job_ends_with_a_result(harness: Harness):
    """A chat job's result names the job, its answer, usage, connection and times, and repeats its metadata."""
    customer = harness.customer()

    result = await customer.run(job_id="job-1", metadata={"order": "7"})

    assert ("Hello.", "stop") == (result["output"]["text"], result["output"]["finish_reason"])
    for name in ("output", "submitted_at", "started_at", "finished_at"):
        assert result.pop(name)
    assert {
        "job_id": "job-1",
        "customer": customer.name,
        "action": "chat",
        "model": "gpt-4o",
        "status": "succeeded",
        "metadata": {"order": "7"},
        "attempts": 1,
        "usage": {
            "calls": 1,
            "input_tokens": 11,
            "output_tokens": 7,
            "cached_tokens": 0,
            "reasoning_tokens": 0,
            "images": 0,
        },
        "connection": {
            "name": "default",
            "source": "key_vault",
            "provider": "azure_openai",
            "billed_to": "customer",
        },
    } == result


async def test_a_usage_record_is_written_with_the_finished_job(harness: Harness):
    """A call leaves one usage record with the provider's own counts, and the job's row is done."""
    customer = harness.customer()
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 64},
        "completion_tokens_details": {"reasoning_tokens": 40},
    }
    customer.account.will_answer(completion(usage=usage))

    await customer.run(job_id="billed")

    (record,) = await customer.usage()
    (row,) = [row for row in await customer.rows() if row["RowKey"] == "j_billed"]
    assert f"u_{datetime.now(UTC):%Y-%m}_billed_{row['incarnation']}_0000" == record["RowKey"]
    assert (100, 50, 64, 40, 1) == tuple(
        record[name] for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens", "calls")
    )
    assert (True, "customer", "req-1") == (record["reported"], record["billed_to"], record["request_id"])
    assert ("done", "succeeded") == (row["state"], row["status"])


async def test_a_requeued_job_is_in_the_jobs_queue(harness: Harness, monkeypatch: pytest.MonkeyPatch):
    """A job whose endpoint asks for a longer wait than a call sits out is hidden in its queue for that long."""
    monkeypatch.setattr(retry, "MAX_INLINE_WAIT_S", 0.5)
    customer = harness.customer()
    customer.account.will_answer(error(429, retry_after="2"))
    start = time.monotonic()

    published = await customer.deliver(message_id="m-1")

    assert published is None
    job = await requeued(harness, customer.name)
    assert "m-1" == job["job_id"]
    assert time.monotonic() - start >= 2
    result = await customer.run(json.dumps(job).encode())
    assert ("succeeded", 2, "m-1") == (result["status"], result["attempts"], result["job_id"])


async def requeued(harness: Harness, customer: str) -> dict[str, Any]:
    """Wait for the customer's message in the jobs queue, and take it out."""
    queue = harness.queues.get_queue_client(harness.environment["JOBS_QUEUE"])
    async with asyncio.timeout(60):
        while True:
            async for message in queue.receive_messages(messages_per_page=32, visibility_timeout=1):
                job = json.loads(base64.b64decode(message.content))
                if job["customer"] == customer:
                    await queue.delete_message(message)
                    return job
            await asyncio.sleep(0.1)


async def test_a_large_result_is_in_its_blob(harness: Harness):
    """A result that does not fit a message is in its blob, and the message says where and what."""
    customer = harness.customer()
    customer.account.will_answer(completion("word " * 20_000))

    published = await customer.deliver(job_id="large")

    assert published is not None
    assert len(published) <= MESSAGE_LIMIT
    result = json.loads(published)
    blob = result["output_blob"]
    client = harness.blobs.get_blob_client(blob["container"], blob["name"])
    data = await (await client.download_blob()).readall()
    properties = await client.get_blob_properties()
    assert "output" not in result
    assert f"{customer.name}/large/result.json" == blob["name"]
    assert (len(data), hashlib.sha256(data).hexdigest()) == (blob["size"], blob["sha256"])
    assert blob["content_type"] == properties.content_settings.content_type
    assert "word " * 20_000 == json.loads(data)["output"]["text"]


async def test_a_result_goes_to_its_own_queue(harness: Harness):
    """A result for an allowed queue is a message there."""
    customer, special = harness.customer(), harness.environment["ALLOWED_RESULT_QUEUES"]

    assert await customer.deliver(job_id="special", output={"queue": special}) is None

    assert ["special"] == [json.loads(body)["job_id"] for body in await harness.messages(special)]


async def test_an_input_is_read_from_a_blob(harness: Harness):
    """`input_blob` names an input that does not fit a message."""
    customer, prompt = harness.customer(), "x" * 200_000
    container = harness.environment["INPUT_CONTAINERS"]
    client = harness.blobs.get_blob_client(container, f"{customer.name}/big.json")
    await client.upload_blob(json.dumps({"prompt": prompt}).encode())
    job = customer.job(input_blob=f"{container}/{customer.name}/big.json")
    del job["input"]

    result = await customer.run(json.dumps(job).encode())

    assert "succeeded" == result["status"]
    assert prompt == customer.account.received[0].json["messages"][0]["content"]


@pytest.mark.parametrize(
    "submitted_at",
    [
        "2026-11-20T13:12:00",
        "0001-01-01T00:00:00+14:00",
        "0001-01-01T00:00:00Z",  # Azurite takes it; Azure's tables begin in 1601
        "yesterday",
        7,
        None,
        {},
    ],
)
async def test_a_strange_submission_time_does_no_harm(harness: Harness, submitted_at: Any):
    """Whatever a caller writes into `_envelope`, its job ends with a result."""
    customer = harness.customer()

    result = await customer.run(_envelope={"submitted_at": submitted_at})

    assert result["status"] == "succeeded" or result["error"]["code"] in {"invalid_job", "timeout"}


async def test_a_dead_letter_without_an_id_is_found_by_its_content(harness: Harness):
    """A job without `job_id` has a new message id in the poison queue, and ends under its first one."""
    customer = harness.customer()
    body = json.dumps(customer.job()).encode()
    await harness.services.ledger.claim(
        customer.name,
        "first-id",
        fingerprint=fingerprint(decode_job(body, default_id="first-id")),
        submitted_at=datetime.now(UTC),
    )
    expired = {"lease_until": datetime.now(UTC) - timedelta(seconds=1)}
    await harness.table.update_entity({"PartitionKey": customer.name, "RowKey": "j_first-id", **expired})

    result = decoded(await harness.services.worker.dead_letter(delivery(body)))

    assert ("first-id", "internal", 2) == (result["job_id"], result["error"]["code"], result["attempts"])
    assert [] == customer.account.received


async def test_a_missing_container_requeues_the_job_and_ends_it(
    azurite: Azurite, vault: Vault, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
):
    """While the results container is missing a job that needs it is requeued, makes no call, and ends."""
    monkeypatch.setattr(attempt, "STORAGE_WAITS_S", ())
    async with open_harness(azurite, vault, endpoint) as opened:
        await opened.blobs.delete_container(opened.environment["RESULTS_CONTAINER"])
        customer = opened.customer()

        published = [await customer.deliver(job_id="unkept", output={"blob": True}) for _ in range(6)]

    result = decoded(published[5])
    assert [None] * 5 == published[:5]
    assert ("internal", 6) == (result["error"]["code"], result["attempts"])
    assert "ContainerNotFound" in result["error"]["message"]
    assert [] == customer.account.received
