"""`respond` over HTTP: an endpoint with the background, and the official client."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from local.provider import server
from local.provider.account import Account
from local.provider.faults import ResponseFault
from tests.support.endpoint import pixels
from tests.support.harness import Customer, Harness, decoded
from tests.support.sdks import openai

WITHIN_S = 20.0
PDF = b"%PDF-1.7 a document"


@pytest_asyncio.fixture(loop_scope="session")
async def account() -> AsyncIterator[Account]:
    """An account at the local provider."""
    async with server.start() as running:
        running.durations.queued_s = running.durations.responding_s = 0.2
        yield running.account(style="azure")


def customer_of(harness: Harness, account: Account) -> Customer:
    """A customer with a connection to the account."""
    customer = harness.customer(connection=None)
    harness.connect(customer, endpoint=account.url, api_key=account.key)
    return customer


async def finish(customer: Customer, body: bytes) -> dict[str, Any]:
    """Process a job's messages as they come until it has a result."""
    published = await customer.deliver(body)
    async with asyncio.timeout(WITHIN_S):
        while published is None:
            await asyncio.sleep(0.1)
            for message in await customer.harness.messages(customer.harness.environment["BATCHES_QUEUE"]):
                await customer.harness.services.batch_worker.process(message)
            for message in await customer.queued():
                published = await customer.deliver(message)
    return dict(decoded(published))


async def test_a_response_from_the_message_to_the_result(harness: Harness, account: Account) -> None:
    """Two attempts, a call, a record; what was waited for is gone."""
    customer = customer_of(harness, account)
    result = await finish(customer, customer.body(action="respond", input={"input": "Say it."}))

    assert ("succeeded", "Echo: Say it.", 2) == (result["status"], result["output"]["text"], result["attempts"])
    (record,) = await customer.usage()
    assert ("answered", 1, "respond") == (record["outcome"], record["calls"], record["action"])
    keys = {row["RowKey"] for row in await customer.rows()}
    marker = f"m_response-{hashlib.sha256(result['output']['id'].encode()).hexdigest()[:40]}"
    assert marker in keys
    assert not [key for key in keys if key.startswith("w_")]


@pytest.mark.long
async def test_the_request_is_the_official_clients(harness: Harness, account: Account) -> None:
    """But for the metadata that names its creation. The official client reads the same response."""
    customer = customer_of(harness, account)
    container = harness.environment["INPUT_CONTAINERS"]
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}]
    parameters: dict[str, Any] = {"tools": tools, "metadata": {"order": "1"}, "max_output_tokens": 50}
    for name, data in {"a.pdf": PDF, "b.png": pixels()}.items():
        await harness.services.blobs.write(container, f"{customer.name}/{name}", data, "application/octet-stream")

    def content(pdf: dict[str, str], image: dict[str, str]) -> list[dict[str, Any]]:
        return [
            {"type": "input_text", "text": "What is it?"},
            {"type": "input_file", **pdf},
            {"type": "input_image", "detail": "low", **image},
        ]

    named = content({"blob": f"{container}/{customer.name}/a.pdf"}, {"blob": f"{container}/{customer.name}/b.png"})
    items = [{"role": "user", "content": named}]
    body = customer.body(
        action="respond", input={"input": items, "instructions": "Be brief.", "parameters": parameters}
    )
    result = await finish(customer, body)
    (ours,) = account.responses.values()

    urls = [
        f"data:{kind};base64,{base64.b64encode(data).decode()}"
        for kind, data in {"application/pdf": PDF, "image/png": pixels()}.items()
    ]
    inlined = content({"filename": "a.pdf", "file_data": urls[0]}, {"image_url": urls[1]})
    async with openai.AsyncOpenAI(base_url=account.url, api_key=account.key) as client:
        created = await client.responses.create(
            model="gpt-4o",
            input=[{"role": "user", "content": inlined}],  # type: ignore[list-item, misc]
            instructions="Be brief.",
            background=True,
            store=True,
            **parameters,
        )
        theirs = account.responses[created.id]
        assert {"order": "1", "customer_job": ours.request["metadata"]["customer_job"]} == ours.request["metadata"]
        assert theirs.request == {**ours.request, "metadata": {"order": "1"}}
        read = await client.responses.retrieve(result["output"]["id"])
    assert (read.output_text, read.status) == (result["output"]["text"], result["output"]["status"])
    assert read.usage is not None
    assert read.usage.total_tokens == result["usage"]["total_tokens"]


async def test_a_cancelled_job_cancels_its_response(harness: Harness, account: Account) -> None:
    """As the official client sees it."""
    account.faults.responses.add(ResponseFault("completed", in_progress_s=60))
    customer = customer_of(harness, account)
    body = customer.body(job_id="job", action="respond", input={"input": "Say it."})
    assert await customer.deliver(body) is None
    assert "cancelled" == await harness.services.updates.cancel(customer.name, "job")
    result = await finish(customer, body)
    assert "cancelled" == result["error"]["code"]
    (response,) = account.responses
    async with openai.AsyncOpenAI(base_url=account.url, api_key=account.key) as client:
        assert "cancelled" == (await client.responses.retrieve(response)).status
    assert ["unanswered"] == [record["outcome"] for record in await customer.usage()]
