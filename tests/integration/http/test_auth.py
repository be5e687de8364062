"""Tokens that are tied to a customer: what another customer has looks as if it did not exist."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared.http.routes import ROUTES, Route
from tests.support.endpoint import Endpoint
from tests.support.harness import Customer, Harness, open_harness
from tests.support.http_client import HttpResponse, send
from tests.support.principals import token

WRITES = {"put_connection", "delete_connection", "test_connection"}


@pytest_asyncio.fixture(scope="module")
async def entra(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[Harness]:
    """The app behind App Service authentication."""
    settings = {"HTTP_AUTH": "entra", "WEBSITE_AUTH_ENABLED": "True"}
    async with open_harness(azurite, vault, endpoint, **settings) as opened:
        yield opened


@pytest_asyncio.fixture
async def two_customers(entra: Harness) -> tuple[Customer, Customer]:
    """Two customers, each with a finished job under the same id, and a connection."""
    mine, other = entra.customer(), entra.customer()
    for customer in (mine, other):
        await customer.run(job_id="secret")
    return mine, other


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.role and "{customer}" in route.path], ids=lambda route: route.name
)
async def test_a_tied_token_gets_the_same_for_others_as_for_nobody(
    entra: Harness, two_customers: tuple[Customer, Customer], route: Route
):
    """
    A tied token gets the same bytes and headers for what another customer has and for what does not exist.

    Changes of a connection are refused before the connection is read.
    """
    mine, other = two_customers
    headers = token(*filter(None, (route.role for route in ROUTES)), customer=mine.name)

    async def respond(customer: str, job_id: str = "secret") -> HttpResponse:
        path = route.path.format(customer=customer, job_id=job_id, name="default")
        return await send(entra, route.method, path, headers=headers)

    theirs = await respond(other.name)

    assert theirs == await respond("nobody-at-all")
    assert (403 if route.name in WRITES else 404) == theirs.status
    assert other.name.encode() not in theirs.body
    assert ["secret"] == [row["RowKey"][2:] for row in await other.rows() if row["RowKey"].startswith("j_")]
    if "{job_id}" in route.path:
        assert theirs == await respond(mine.name, "missing")
    if route.method == "GET":
        assert 200 == (await respond(mine.name)).status


async def test_a_tied_token_submits_for_its_customer_alone(entra: Harness, two_customers: tuple[Customer, Customer]):
    """A job of its customer is accepted; another customer's is refused and not recorded."""
    mine, other = two_customers
    headers = token("Jobs.Submit", customer=mine.name)

    accepted = await send(entra, "POST", "jobs", json_body=mine.job(job_id="new"), headers=headers)
    refused = await send(entra, "POST", "jobs", json_body=other.job(job_id="new"), headers=headers)
    await entra.messages(entra.environment["JOBS_QUEUE"])

    assert (202, 403, "forbidden") == (accepted.status, refused.status, refused.json["code"])
    assert [] == [row for row in await other.rows() if row["RowKey"] == "j_new"]
