"""Tokens: what another customer has looks as if it did not exist, and a result needs the role Jobs.Read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from local.vault.server import Vault
from shared.http.routes import ROUTES, Route
from tests.support.endpoint import Endpoint, error
from tests.support.harness import Customer, Harness
from tests.support.http_client import HttpResponse, run_queue, send
from tests.support.http_connections import put
from tests.support.memory_harness import open_memory_harness
from tests.support.principals import token
from tests.support.rows import every_row
from tests.support.signatures import new_secret
from tests.support.webhook_sender import Sender

WRITES = {"put_connection", "delete_connection", "test_connection"}


@pytest_asyncio.fixture(scope="module")
async def entra(vault: Vault, endpoint: Endpoint) -> AsyncIterator[Harness]:
    """The app behind App Service authentication."""
    settings = {"HTTP_AUTH": "entra", "WEBSITE_AUTH_ENABLED": "True"}
    async with open_memory_harness(vault, endpoint, **settings) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module")
async def two_customers(entra: Harness) -> tuple[Customer, Customer]:
    """Two customers, each with a finished job under the same id, and a connection."""
    mine, other = entra.customer(), entra.customer()
    for customer in (mine, other):
        await customer.run(job_id="secret")
    return mine, other


@every_row(
    "route", [route for route in ROUTES if route.role and "{customer}" in route.path], ids=lambda route: route.name
)
async def test_a_tied_token_gets_the_same_for_others_as_for_nobody(
    entra: Harness, two_customers: tuple[Customer, Customer], route: Route
):
    """
    A tied token gets the same bytes and headers for what another customer has and for what does not exist.

    Changes of a connection are refused before the connection is read. What is the operator's alone is refused for its
    own customer, too.
    """
    mine, other = two_customers
    headers = token(*filter(None, (route.role for route in ROUTES)), customer=mine.name)

    async def respond(customer: str, job_id: str = "secret") -> HttpResponse:
        path = route.path.format(customer=customer, job_id=job_id, name="default", statement="2020-01")
        return await send(entra, route.method, path, headers=headers)

    theirs = await respond(other.name)

    assert theirs == await respond("nobody-at-all")
    assert (403 if route.name in WRITES or route.is_operators else 404) == theirs.status
    assert other.name.encode() not in theirs.body
    assert ["secret"] == [row["RowKey"][2:] for row in await other.rows() if row["RowKey"].startswith("j_")]
    if "{job_id}" in route.path:
        assert theirs == await respond(mine.name, "missing")
    if route.method == "GET":
        # No month is closed here, and there is no budget; see unit/http/test_statements and test_budgets.
        own = 404 if route.name in {"read_statement", "read_budget"} else 200
        assert (403 if route.is_operators else own) == (await respond(mine.name)).status


@every_row("route", [route for route in ROUTES if "HEAD" in route.methods], ids=lambda route: route.name)
async def test_head_needs_the_role_that_get_needs(
    entra: Harness, two_customers: tuple[Customer, Customer], route: Route
):
    """What a response's status and headers reveal is no less guarded than its body."""
    mine, other = two_customers
    paths = [
        route.path.format(customer=each.name, job_id="secret", name="default", statement="2020-01")
        for each in ([mine, other] if "{customer}" in route.path else [mine])
    ]
    for headers in ({}, token("Jobs.Submit", customer=mine.name), token(route.role or "", customer=mine.name)):
        for path in paths:
            get, head = [await send(entra, method, path, headers=headers) for method in ("GET", "HEAD")]
            assert (get.status, get.headers) == (head.status, head.headers)


async def test_a_tied_token_raises_no_budget_of_a_connection(entra: Harness):
    """It can lower a `monthly_budget` or make one, but neither raise it nor leave it out; the operator can."""
    customer = entra.customer()
    tied, operator = token("Connections.Write", customer=customer.name), token("Connections.Write", "Customers.All")
    steps = [(tied, None), (tied, 10), (tied, 10), (tied, 10.01), (tied, None), (tied, 9), (tied, 10), (operator, None)]
    responses = [
        await put(customer, "capped", headers=headers, **({} if budget is None else {"monthly_budget": budget}))
        for headers, budget in steps
    ]

    assert [201, 200, 200, 403, 403, 200, 403, 200] == [response.status for response in responses]
    responses[3].assert_problem(403, "forbidden", "`monthly_budget` is 10.")


async def test_a_tied_token_submits_for_its_customer_alone(entra: Harness, two_customers: tuple[Customer, Customer]):
    """A job of its customer is accepted; another customer's is refused and not recorded."""
    mine, other = two_customers
    headers = token("Jobs.Submit", customer=mine.name)

    accepted = await send(entra, "POST", "jobs", json_body=mine.job(job_id="new"), headers=headers)
    refused = await send(entra, "POST", "jobs", json_body=other.job(job_id="new"), headers=headers)
    await entra.messages(entra.environment["JOBS_QUEUE"])

    assert (202, 403, "forbidden") == (accepted.status, refused.status, refused.json["code"])
    assert [] == [row for row in await other.rows() if row["RowKey"] == "j_new"]


WAIT = {"prefer": "wait=1"}
ENDS = {"an answer": None, "an error": error(400, message="MARKED, said the endpoint.")}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("again", [{}, WAIT], ids=["at once", "with a wait"])
async def test_a_result_needs_the_role_for_it(entra: Harness, end: str, again: dict[str, str]):
    """
    Who may only submit gets the status of a job, submitted for the first time or again, and nothing of its result: the
    answer, or what the endpoint says. `Prefer: wait` is ignored, and nothing waits.
    """
    customer = entra.customer()
    customer.account.will_answer(*filter(None, [ENDS[end]]))
    submit = token("Jobs.Submit", customer=customer.name)
    both = token("Jobs.Submit", "Jobs.Read", customer=customer.name)
    job = customer.job(job_id="secret")
    responses = [await send(entra, "POST", "jobs", json_body=job, headers=submit | WAIT)]
    (result,) = await run_queue(customer)
    responses += [await send(entra, "POST", "jobs", json_body=job, headers=submit | again)]
    status, answer = [await send(entra, "POST", "jobs", json_body=job, headers=both | more) for more in ({}, WAIT)]

    secret_text = str(result["output"]["text"] if end == "an answer" else result["error"]["message"])
    assert [(202, "queued"), (202, result["status"])] == [(each.status, each.json["status"]) for each in responses]
    for response in responses:
        assert "error" not in response.json
        assert secret_text.encode() not in response.body
        assert "Preference-Applied" not in response.headers
    assert (202, result.get("error")) == (status.status, status.json.get("error"))
    assert (200, result) == (answer.status, answer.json)
    for path in (f"jobs/{customer.name}/secret/result", f"jobs/{customer.name}/secret"):
        (await send(entra, "GET", path, headers=submit)).assert_problem(403, "forbidden", "Jobs.Read")


async def test_a_cancellation_does_not_report_why_a_job_waits(entra: Harness):
    """Why a job waits is the endpoint's sentence, which needs the role for results."""
    seen = []
    for roles in (("Jobs.Submit",), ("Jobs.Submit", "Jobs.Read")):
        customer = entra.customer()
        customer.account.will_answer(error(429, message="MARKED", retry_after="3600"))
        assert await customer.deliver(job_id="slow") is None
        headers = token(*roles, customer=customer.name)
        cancelled = await send(entra, "DELETE", f"jobs/{customer.name}/slow", headers=headers)
        assert (200, "cancelled") == (cancelled.status, cancelled.json["status"])
        seen.append("MARKED" in cancelled.body.decode())
    await entra.messages(entra.environment["JOBS_QUEUE"])

    assert [False, True] == seen


async def test_a_signature_reads_no_result(entra: Harness):
    """With tokens, who signs webhooks gets the job's status and no result, however often the webhook is sent."""
    customer, secret = entra.customer(), new_secret()
    entra.put_secret(f"webhook--{customer.name}", secret)
    sender = Sender(customer, secret)
    first = await sender.send(sender.job(), headers=WAIT)
    (result,) = await run_queue(customer)
    again = await sender.send(sender.job(), headers=WAIT)

    assert [(202, "queued"), (202, "succeeded")] == [(each.status, each.json["status"]) for each in (first, again)]
    assert result["output"]["text"].encode() not in again.body
