"""Authorization over HTTP: function keys, Entra roles, tokens that are tied to a customer."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from local.stack.azurite import Azurite
from local.vault.server import Vault
from shared.http.routes import ROUTES, Route
from tests.support.endpoint import Endpoint
from tests.support.harness import Customer, Harness, open_harness
from tests.support.http_client import HttpResponse, send

ROLES = ("Jobs.Submit", "Jobs.Read", "Billing.Read", "Connections.Write")
GUARDED = [route for route in ROUTES if route.role is not None]
LONG_ROLE = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"


@pytest_asyncio.fixture(scope="module")
async def entra(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[Harness]:
    """The app behind App Service authentication."""
    settings = {"HTTP_AUTH": "entra", "WEBSITE_AUTH_ENABLED": "True"}
    async with open_harness(azurite, vault, endpoint, **settings) as opened:
        yield opened


def encoded(principal: Any) -> dict[str, str]:
    """The header of App Service authentication, with this principal."""
    text = principal if isinstance(principal, bytes) else json.dumps(principal).encode()
    return {"X-MS-CLIENT-PRINCIPAL": base64.b64encode(text).decode()}


def token(*roles: str, customer: str | None = None, typ: str = "roles") -> dict[str, str]:
    """The header of a caller with these roles, tied to a customer if one is given."""
    claims = [{"typ": typ, "val": role} for role in roles]
    claims += [] if customer is None else [{"typ": "customer", "val": customer}]
    return encoded({"auth_typ": "aad", "claims": claims, "name_typ": "name", "role_typ": "roles"})


async def call(harness: Harness, route: Route, customer: str = "nobody", **headers: str) -> HttpResponse:
    """The response to a request for things that do not exist."""
    path = route.path.format(customer=customer, job_id="nothing", name="nothing")
    return await send(harness, route.method, path, body=b"{}", headers=headers)


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.name)
async def test_a_key_gives_access_to_every_route(harness: Harness, route: Route):
    """The host has checked the key: no route requires more, and a principal is ignored."""
    for headers in ({}, token()):
        assert (await call(harness, route, **headers)).status not in {401, 403, 503}


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.name)
async def test_a_request_without_a_principal_is_refused(entra: Harness, route: Route):
    """With Entra, every guarded route responds 401 to a request without a principal."""
    refused = await call(entra, route)

    assert (401, "unauthorized", "application/problem+json") == (
        refused.status,
        refused.json["code"],
        refused.media_type,
    )


@pytest.mark.parametrize("name", ["openapi", "docs"])
async def test_documentation_is_open(entra: Harness, name: str):
    """Anybody may read the OpenAPI document and its page."""
    (route,) = [route for route in ROUTES if route.name == name]

    assert 200 == (await call(entra, route)).status


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.name)
async def test_a_role_gives_access_to_its_routes_alone(entra: Harness, route: Route):
    """Each route requires one role, and no other is enough; the claim's long name works as well."""
    for role in ROLES:
        for typ in ("roles", LONG_ROLE):
            response = await call(entra, route, **token(role, typ=typ))
            assert (role == route.role) == (response.status != 403), role
    without = await call(entra, route, **token(*(role for role in ROLES if role != route.role)))
    elsewhere = await call(entra, route, **token(*ROLES, typ="groups"))
    assert (403, "forbidden") == (without.status, without.json["code"])
    assert 403 == elsewhere.status


async def test_a_principal_without_app_service_authentication_is_not_trusted(
    azurite: Azurite, vault: Vault, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
):
    """If App Service authentication is not in front, a principal can be forged: 503, and the log says why."""
    async with open_harness(azurite, vault, endpoint, HTTP_AUTH="entra") as harness:
        for route in GUARDED:
            refused = await call(harness, route, **token(*ROLES))
            assert (503, "unavailable") == (refused.status, refused.json["code"])
            assert "HTTP_AUTH" in refused.json["detail"]
            assert "Retry-After" not in refused.headers
            assert f"request_failed route={route.name} Problem HTTP_AUTH is entra, but" in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        {"x-ms-client-principal": ""},
        {"x-ms-client-principal": "***"},
        {"x-ms-client-principal": "e30"},
        {"x-ms-client-principal": "é"},
        encoded({}),
        encoded(None),
        encoded([]),
        encoded("claims"),
        encoded({"claims": None}),
        encoded({"claims": 1}),
        encoded({"claims": "roles"}),
        encoded({"claims": [1]}),
        encoded({"claims": [["typ", "roles"]]}),
        encoded({"claims": {"typ": "roles", "val": "Jobs.Read"}}),
        encoded(b"\xff\xfe"),
        encoded(b'{"claims": [{"typ": "roles", "val": "\\ud800"}]}'),
        encoded(b'{"claims": ' + b"[" * 9000),
        {"x-ms-client-principal": ",".join([next(iter(token("Jobs.Read").values()))] * 2)},
    ],
    ids=range(18),
)
async def test_an_invalid_principal_is_refused(entra: Harness, headers: dict[str, str]):
    """401, whatever is invalid about it."""
    for route in GUARDED:
        assert 401 == (await call(entra, route, **headers)).status


@pytest.mark.parametrize(
    "claim",
    [
        {"typ": "roles"},
        {"typ": "roles", "val": None},
        {"typ": "roles", "val": ["Jobs.Read"]},
        {"typ": ["roles"], "val": "Jobs.Read"},
        {"typ": None, "val": "Jobs.Read"},
        {"val": "Jobs.Read"},
        {"typ": "roles", "val": "jobs.read"},
        {"typ": "roles", "val": "Jobs.Read Jobs.Submit"},
    ],
    ids=range(8),
)
async def test_an_invalid_role_claim_is_ignored(entra: Harness, claim: dict[str, Any]):
    """A claim of another form is not a role: 403, as without it."""
    (route,) = [route for route in ROUTES if route.name == "read_job"]

    assert 403 == (await call(entra, route, **encoded({"claims": [claim]}))).status


@pytest_asyncio.fixture
async def two_customers(entra: Harness) -> tuple[Customer, Customer]:
    """Two customers, each with a finished job under the same id, and a connection."""
    mine, other = entra.customer(), entra.customer()
    for customer in (mine, other):
        await customer.run(job_id="secret")
    return mine, other


READS = [route for route in GUARDED if "{customer}" in route.path and route.method != "PUT"]


@pytest.mark.parametrize("route", READS, ids=lambda route: route.name)
async def test_a_tied_token_gets_the_same_for_others_as_for_nobody(
    entra: Harness, two_customers: tuple[Customer, Customer], route: Route
):
    """
    A tied token gets the same bytes and headers for what another customer has and for what does not exist.

    Changes of a connection are refused before the connection is read.
    """
    mine, other = two_customers
    headers = token(*ROLES, customer=mine.name)

    async def read(customer: str) -> HttpResponse:
        path = route.path.format(customer=customer, job_id="secret", name="default")
        return await send(entra, route.method, path, headers=headers)

    theirs, missing = await read(other.name), await read("nobody-at-all")

    assert theirs == missing
    assert (403 if route.name in {"delete_connection", "test_connection"} else 404) == theirs.status
    assert other.name.encode() not in theirs.body
    assert ["secret"] == [row["RowKey"][2:] for row in await other.rows() if row["RowKey"].startswith("j_")]


@pytest.mark.parametrize("name", ["read_job", "read_result"])
async def test_another_customers_job_looks_like_a_missing_one(
    entra: Harness, two_customers: tuple[Customer, Customer], name: str
):
    """The id of another customer's job reveals no more than an id that does not exist."""
    mine, other = two_customers
    (route,) = [route for route in ROUTES if route.name == name]
    headers = token("Jobs.Read", customer=mine.name)

    theirs = await send(entra, "GET", route.path.format(customer=other.name, job_id="secret"), headers=headers)
    missing = await send(entra, "GET", route.path.format(customer=mine.name, job_id="missing"), headers=headers)
    own = await send(entra, "GET", route.path.format(customer=mine.name, job_id="secret"), headers=headers)

    assert theirs == missing
    assert (404, 200) == (theirs.status, own.status)


async def test_a_tied_token_submits_for_its_customer_alone(entra: Harness, two_customers: tuple[Customer, Customer]):
    """A job of its customer is accepted; another customer's is refused and not recorded."""
    mine, other = two_customers
    headers = token("Jobs.Submit", customer=mine.name)

    accepted = await send(entra, "POST", "jobs", json_body=mine.job(job_id="new"), headers=headers)
    refused = await send(entra, "POST", "jobs", json_body=other.job(job_id="new"), headers=headers)
    await entra.messages(entra.environment["JOBS_QUEUE"])

    assert (202, 403, "forbidden") == (accepted.status, refused.status, refused.json["code"])
    assert [] == [row for row in await other.rows() if row["RowKey"] == "j_new"]


async def test_a_token_with_two_customers_is_refused(entra: Harness, two_customers: tuple[Customer, Customer]):
    """It is unclear which customer it is tied to; the same customer twice is clear."""
    mine, other = two_customers
    (route,) = [route for route in ROUTES if route.name == "list_jobs"]
    role = {"typ": "roles", "val": "Jobs.Read"}

    def tied(*customers: str) -> dict[str, str]:
        return encoded({"claims": [role, *({"typ": "customer", "val": customer} for customer in customers)]})

    both = await call(entra, route, mine.name, **tied(mine.name, other.name))
    twice = await call(entra, route, mine.name, **tied(mine.name, mine.name))

    assert (403, 200) == (both.status, twice.status)


@pytest.mark.parametrize("value", [{"val": None}, {"val": ["a"]}, {"val": 7}, {"val": {}}, {"val": True}, {}], ids=str)
async def test_a_customer_claim_that_is_not_a_string_is_refused(
    entra: Harness, two_customers: tuple[Customer, Customer], value: dict[str, Any]
):
    """An invalid claim does not give the caller access to every customer: 403."""
    mine, _ = two_customers
    role, named = {"typ": "roles", "val": "Jobs.Read"}, {"typ": "customer", "val": mine.name}
    (route,) = [route for route in ROUTES if route.name == "list_jobs"]

    for claims in ([role, {"typ": "customer", **value}], [role, named, {"typ": "customer", **value}]):
        refused = await call(entra, route, mine.name, **encoded({"claims": claims}))
        assert (403, "forbidden") == (refused.status, refused.json["code"])


async def test_the_claims_name_is_not_case_sensitive(azurite: Azurite, vault: Vault, endpoint: Endpoint):
    """`Customer` in a token ties it as `customer` does, and so in the setting: no spelling gives access to all."""
    role = {"typ": "roles", "val": "Jobs.Read"}
    (route,) = [route for route in ROUTES if route.name == "list_jobs"]
    settings = {"HTTP_AUTH": "entra", "WEBSITE_AUTH_ENABLED": "True", "ENTRA_CUSTOMER_CLAIM": "extn.Customer"}
    async with open_harness(azurite, vault, endpoint, **settings) as harness:
        for name in ("extn.customer", "EXTN.CUSTOMER", "extn.Customer"):
            claims = [role, {"typ": name, "val": "contoso"}]
            statuses = [
                (await call(harness, route, customer, **encoded({"claims": claims}))).status
                for customer in ("contoso", "x")
            ]
            assert [200, 404] == statuses


async def test_the_setting_names_the_customer_claim(azurite: Azurite, vault: Vault, endpoint: Endpoint):
    """ENTRA_CUSTOMER_CLAIM is the name of the claim."""
    settings = {"HTTP_AUTH": "entra", "WEBSITE_AUTH_ENABLED": "True", "ENTRA_CUSTOMER_CLAIM": "extn.customer"}
    claims = [{"typ": "roles", "val": "Jobs.Read"}, {"typ": "extn.customer", "val": "contoso"}]
    (route,) = [route for route in ROUTES if route.name == "list_jobs"]
    async with open_harness(azurite, vault, endpoint, **settings) as harness:
        own = await call(harness, route, "contoso", **encoded({"claims": claims}))
        other = await call(harness, route, "fabrikam", **encoded({"claims": claims}))

    assert (200, 404) == (own.status, other.status)
