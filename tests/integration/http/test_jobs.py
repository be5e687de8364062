"""Jobs over HTTP, on Azurite: their status, result and list, and cancelling them."""

from __future__ import annotations

import asyncio

import pytest

from shared.http.request_parsing import MAX_PAGE_SIZE
from tests.support.endpoint import completion
from tests.support.harness import Customer, Harness
from tests.support.http_client import HttpResponse, post, run_queue, send


@pytest.fixture
def customer(own_harness: Harness) -> Customer:
    """A customer of one test with a connection, in a harness whose queues no other module uses."""
    return own_harness.customer()


async def test_a_job_is_accepted_and_followed_to_its_result(customer: Customer):
    """202 with the path of its status, which goes from queued to succeeded; then there is a result."""
    accepted = await post(customer, job_id="order-1", metadata={"a": "b"})

    path = f"jobs/{customer.name}/order-1"
    assert (202, f"/api/{path}") == (accepted.status, accepted.headers["Location"])
    assert 0 < int(accepted.headers["Retry-After"])
    assert ("queued", 0, "chat") == tuple(accepted.json[name] for name in ("status", "attempts", "action"))
    assert 404 == (await send(customer.harness, "GET", f"{path}/result")).status

    (published,) = await run_queue(customer)

    status = await send(customer.harness, "GET", path)
    result = await send(customer.harness, "GET", f"{path}/result")
    assert ("succeeded", 1) == (status.json["status"], status.json["attempts"])
    assert f"/api/{path}/result" == status.json["links"]["result"]
    assert published == result.json
    assert ("Hello.", {"a": "b"}) == (result.json["output"]["text"], result.json["metadata"])
    assert accepted.json["submitted_at"] == result.json["submitted_at"]


async def test_status_and_result_have_etags(customer: Customer):
    """
    With it, the response is 304 without a body; after a change it is complete again. The result has the output that
    did not fit the message.
    """
    customer.account.will_answer(completion("y" * 60_000))
    await post(customer, job_id="tagged")
    path = f"jobs/{customer.name}/tagged"
    tag = (await send(customer.harness, "GET", path)).headers["ETag"]
    same = await send(customer.harness, "GET", path, headers={"if-none-match": f'"other", W/{tag}'})
    (published,) = await run_queue(customer)
    changed = await send(customer.harness, "GET", path, headers={"if-none-match": tag})
    result = await send(customer.harness, "GET", f"{path}/result")
    headers = {"if-none-match": result.headers["ETag"]}
    unchanged = await send(customer.harness, "GET", f"{path}/result", headers=headers)

    assert (304, b"", tag) == (same.status, same.body, same.headers["ETag"])
    assert (200, "succeeded") == (changed.status, changed.json["status"])
    assert ("output" in published, "y" * 60_000) == (False, result.json["output"]["text"])
    assert (304, b"") == (unchanged.status, unchanged.body)


@pytest.mark.parametrize("job_id", ["nothing", "..", "a%2Fb", "x" * 200, "ü"])
async def test_unknown_and_invalid_ids_are_not_found(customer: Customer, job_id: str):
    """An unknown id and an invalid one get the same response."""
    for method in ("GET", "DELETE"):
        refused = await send(customer.harness, method, f"jobs/{customer.name}/{job_id}")
        refused.assert_problem(404, "not_found", "There is no such job.")


async def test_a_queued_job_can_be_cancelled(customer: Customer):
    """It ends as cancelled without a call, however often it is cancelled; one that has ended is a conflict."""
    await post(customer, job_id="off")
    path = f"jobs/{customer.name}/off"
    cancelled = await send(customer.harness, "DELETE", path)
    (result,) = await run_queue(customer)
    late = await send(customer.harness, "DELETE", path)
    calls = [*customer.account.received]
    await customer.run(job_id="done")
    ended = await send(customer.harness, "DELETE", f"jobs/{customer.name}/done")

    assert (200, "cancelled") == (cancelled.status, cancelled.json["status"])
    assert ("failed", "cancelled") == (result["status"], result["error"]["code"])
    assert [] == calls
    assert (200, "cancelled") == (late.status, late.json["status"])
    assert late.json == (await send(customer.harness, "GET", path)).json
    ended.assert_problem(409, "conflict")


async def listed(customer: Customer, **query: str) -> HttpResponse:
    """A page of the customer's jobs."""
    return await send(customer.harness, "GET", f"customers/{customer.name}/jobs", query=query)


async def test_jobs_are_listed_newest_first(customer: Customer):
    """
    Pages follow each other without a gap or a repetition, although other jobs are submitted meanwhile, and the entry
    at which one starts is deleted.
    """
    for number in range(5):
        await post(customer, job_id=f"j{number}")
        await asyncio.sleep(0.002)
    first = await listed(customer, limit="2")
    await post(customer, job_id="new")
    row = {"PartitionKey": customer.name, "RowKey": first.json["continuation"]}
    await customer.harness.table.delete_entity(row)
    second = await listed(customer, limit="2", continuation=first.json["continuation"])
    third = await listed(customer, limit="2", continuation=second.json["continuation"])

    pages = [[job["job_id"] for job in page.json["jobs"]] for page in (first, second, third)]
    assert [["j4", "j3"], ["j2", "j1"], ["j0"]] == pages
    assert "continuation" not in third.json


async def test_jobs_are_listed_by_status(customer: Customer):
    """Only those of one status, as in their status documents; jobs from the queue are in the list, too."""
    await post(customer, job_id="posted")
    await run_queue(customer)
    await customer.run(job_id="sent")
    await post(customer, job_id="queued")

    for status, expected in {"succeeded": {"posted", "sent"}, "queued": {"queued"}, "failed": set()}.items():
        page = await listed(customer, status=status)
        assert expected == {job["job_id"] for job in page.json["jobs"]}, status
        assert {(status, "chat")} >= {(job["status"], job["action"]) for job in page.json["jobs"]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("limit", text) for text in ("0", str(MAX_PAGE_SIZE + 1), "²")),
        *(("continuation", text) for text in ("x", "j_a", "t_", "u_2026-11", "t_00000000000000_a'")),
        ("status", "lost"),
    ],
)
async def test_an_invalid_query_is_refused(customer: Customer, name: str, value: str):
    """400 with the parameter's name."""
    refused = await listed(customer, **{name: value})

    refused.assert_problem(400, "invalid_request", f"`{name}`")


async def test_a_continuation_shows_no_other_customer(customer: Customer):
    """One of another customer's list, or an invented one, shows the customer's own jobs or nothing."""
    other = customer.harness.customer()
    for each in (customer, other):
        await post(each, job_id="first")
        await post(each, job_id="two")
    page = await listed(other, limit="1")

    for continuation in (page.json["continuation"], "t_00000000000000_a", "t_99999999999999_a"):
        response = await listed(customer, continuation=continuation)
        assert 200 == response.status
        assert {customer.name} >= {job["customer"] for job in response.json["jobs"]}
