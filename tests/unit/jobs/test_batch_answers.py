"""Answers that came out of a provider's batch: how each action records them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from shared.upstream.client import UpstreamClient
from shared.upstream.messages import LARGE_BYTES, Response
from tests.support.clients import Tokens
from tests.support.customers import Customer
from tests.support.endpoint import Endpoint, completion
from tests.support.workers import Worker, open_worker

CHAT = {"action": "chat", "input": {"prompt": "Hello?"}}
ACTIONS: dict[str, dict[str, Any]] = {
    "chat": CHAT,
    "multi_chat": {"action": "multi_chat", "input": {"prompts": ["Hello?"]}},
    "summarize": {"action": "summarize", "input": {"text": "A text."}},
    "embed": {"action": "embed", "input": {"texts": ["A text."]}},
    "embed as a file": {"action": "embed", "input": {"texts": ["A text."], "format": "npy"}},
}


class BatchClient(UpstreamClient):
    """The HTTP client, whose answers count as those of one line of a batch."""

    def __init__(self) -> None:
        super().__init__(Tokens(), allow_local=True)

    async def send(self, *args: Any, **kwargs: Any) -> Response:
        """Return the answer as one out of a batch."""
        return replace(await super().send(*args, **kwargs), processing="batch", metered_as="line-1")


@pytest_asyncio.fixture(loop_scope="session")
async def client() -> AsyncIterator[BatchClient]:
    """A client for one test."""
    client = BatchClient()
    yield client
    await client.close()


@pytest.fixture
def worker(endpoint: Endpoint, client: BatchClient) -> Worker:
    """A worker with that client."""
    return open_worker(endpoint, client)


def records(worker: Worker, customer: Customer) -> list[dict[str, Any]]:
    """The usage records of a customer's calls."""
    rows = worker.table.rows.items()
    return [dict(row.values) for (name, key), row in rows if name == customer.name and key.startswith("u_")]


@pytest.mark.parametrize("action", ACTIONS)
async def test_each_action_records_a_batch(worker: Worker, action: str):
    """The record and the result say so, whether the call belongs to a step or to the job."""
    customer = worker.customer()

    result = await worker.run(customer, job_id="job", **ACTIONS[action])

    (record,) = records(worker, customer)
    assert ("batch", "answered") == (record["processing"], record["outcome"])
    assert ("succeeded", "batch") == (result["status"], result["usage"]["processing"])
    assert (customer.name, "m_line-1") in worker.table.rows


@pytest.mark.long
async def test_a_large_answer_records_a_batch(worker: Worker):
    """Read in another process, it is still one out of a batch."""
    customer = worker.customer()
    customer.account.will_answer(completion("x" * LARGE_BYTES))

    await worker.run(customer, **CHAT)

    assert ["batch"] == [record["processing"] for record in records(worker, customer)]


async def test_a_line_is_metered_once(worker: Worker):
    """What is answered from a line that has a record gets no other one."""
    customer = worker.customer()

    results = [await worker.run(customer, job_id=job_id, **CHAT) for job_id in ("first", "second")]

    assert ["succeeded"] * 2 == [result["status"] for result in results]
    assert ["batch"] == [record["processing"] for record in records(worker, customer)]
