"""Jobs over HTTP: the list of a customer's jobs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.http.jobs import MAX_PAGE_SIZE
from tests.support.harness import Customer, Harness
from tests.support.http_client import HttpResponse, send
from tests.support.http_jobs import post, run_queue


@pytest.fixture(name="harness")
def _harness(own_harness: Harness) -> Harness:
    return own_harness


@pytest.fixture
def customer(harness: Harness) -> Customer:
    """A customer of one test."""
    return harness.customer()


CONTINUATIONS = [{"continuation": text} for text in ("x", "t_1_a", "t_" + "1" * 14, "j_a", "t_" + "1" * 14 + "_a/b")]


async def listed(customer: Customer, **query: Any) -> HttpResponse:
    """A page of the customer's jobs."""
    texts = {name: str(value) for name, value in query.items()}
    return await send(customer.harness, "GET", f"customers/{customer.name}/jobs", query=texts)


async def test_jobs_are_listed_newest_first(customer: Customer):
    """Pages follow each other without a gap or a repetition, although other jobs are submitted meanwhile."""
    for number in range(5):
        await post(customer, job_id=f"j{number}")
        await asyncio.sleep(0.002)
    first = await listed(customer, limit=2)
    await post(customer, job_id="new")
    second = await listed(customer, limit=2, continuation=first.json["continuation"])
    third = await listed(customer, limit=2, continuation=second.json["continuation"])

    pages = [[job["job_id"] for job in page.json["jobs"]] for page in (first, second, third)]
    assert [["j4", "j3"], ["j2", "j1"], ["j0"]] == pages
    assert "continuation" not in third.json


async def test_a_page_follows_a_deleted_job(customer: Customer):
    """A continuation is valid although its row was deleted since."""
    for number in range(2):
        await post(customer, job_id=f"j{number}")
        await asyncio.sleep(0.002)
    first = await listed(customer, limit=1)
    row = {"PartitionKey": customer.name, "RowKey": first.json["continuation"]}
    await customer.harness.table.delete_entity(row)
    second = await listed(customer, continuation=first.json["continuation"])

    assert ["j0"] == [job["job_id"] for job in second.json["jobs"]]


async def test_jobs_are_listed_by_status(customer: Customer):
    """Only those of one status, as in their status documents."""
    for number in range(3):
        await post(customer, job_id=f"done{number}")
    await run_queue(customer)
    await post(customer, job_id="queued")

    for status, expected in {"succeeded": {"done0", "done1", "done2"}, "queued": {"queued"}, "failed": set()}.items():
        page = await listed(customer, status=status)
        assert expected == {job["job_id"] for job in page.json["jobs"]}, status


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": str(MAX_PAGE_SIZE + 1)}, {"limit": "²"}, {"status": "lost"}, *CONTINUATIONS]
)
async def test_an_invalid_query_is_refused(customer: Customer, query: dict[str, str]):
    """400 with the parameter's name."""
    refused = await listed(customer, **query)

    assert (400, "invalid_request") == (refused.status, refused.json["code"])
    assert f"`{next(iter(query))}`" in refused.json["detail"]


async def test_jobs_from_the_queue_are_listed(customer: Customer):
    """A job from the queue has a status, a result and an entry in the list."""
    await customer.run(job_id="queued-1")

    assert ["queued-1"] == [job["job_id"] for job in (await listed(customer)).json["jobs"]]
    status = await send(customer.harness, "GET", f"jobs/{customer.name}/queued-1")
    assert ("succeeded", "chat") == (status.json["status"], status.json["action"])
