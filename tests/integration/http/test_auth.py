"""Who may do what over HTTP: function keys, Entra's roles, tokens that are tied to a customer."""

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
from tests.support.harness import Customer, World, open_world
from tests.support.http_client import Answered, knock

ROLES = ("Jobs.Submit", "Jobs.Read", "Billing.Read", "Connections.Write")
GUARDED = [route for route in ROUTES if route.role is not None]
LONG_ROLE = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"


@pytest_asyncio.fixture(scope="module")
async def entra(azurite: Azurite, vault: Vault, endpoint: Endpoint) -> AsyncIterator[World]:
    """The app behind App Service authentication."""
    settings = {"HTTP_AUTH": "entra", "WEBSITE_AUTH_ENABLED": "True"}
    async with open_world(azurite, vault, endpoint, **settings) as opened:
        yield opened


def encoded(principal: Any) -> dict[str, str]:
    """The header that App Service authentication adds, with this in it."""
    text = principal if isinstance(principal, bytes) else json.dumps(principal).encode()
    return {"X-MS-CLIENT-PRINCIPAL": base64.b64encode(text).decode()}


def token(*roles: str, customer: str | None = None, typ: str = "roles") -> dict[str, str]:
    """The header of a caller with these roles, tied to a customer if one is given."""
    claims = [{"typ": typ, "val": role} for role in roles]
    claims += [] if customer is None else [{"typ": "customer", "val": customer}]
    return encoded({"auth_typ": "aad", "claims": claims, "name_typ": "name", "role_typ": "roles"})


async def ask(world: World, route: Route, customer: str = "nobody", **headers: str) -> Answered:
    """A request to a route, about things that do not exist."""
    path = route.path.format(customer=customer, job_id="nothing", name="nothing")
    return await knock(world, route.method, path, body=b"{}", headers=headers)


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.name)
async def test_whoever_has_the_key_may_everything(world: World, route: Route):
    """The host has asked for the key: no route asks for more, and a principal says nothing."""
    for headers in ({}, token()):
        assert (await ask(world, route, **headers)).status not in {401, 403, 503}


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.name)
async def test_nobody_may_nothing(entra: World, route: Route):
    """With Entra, a request without a principal is refused by every guarded route."""
    refused = await ask(entra, route)

    assert (401, "unauthorized", "application/problem+json") == (
        refused.status,
        refused.json["code"],
        refused.media_type,
    )


@pytest.mark.parametrize("name", ["openapi", "docs"])
async def test_the_interface_is_open(entra: World, name: str):
    """What the interface is, anybody may read."""
    (route,) = [one for one in ROUTES if one.name == name]

    assert 200 == (await ask(entra, route)).status


@pytest.mark.parametrize("route", GUARDED, ids=lambda route: route.name)
async def test_a_role_opens_its_routes_and_no_other(entra: World, route: Route):
    """Each route asks for one role, and no other will do; a role in the claim's long name is one as well."""
    for role in ROLES:
        for typ in ("roles", LONG_ROLE):
            answered = await ask(entra, route, **token(role, typ=typ))
            assert (role == route.role) == (answered.status != 403), role
    without = await ask(entra, route, **token(*(role for role in ROLES if role != route.role)))
    elsewhere = await ask(entra, route, **token(*ROLES, typ="groups"))
    assert (403, "forbidden") == (without.status, without.json["code"])
    assert 403 == elsewhere.status


async def test_a_header_that_nobody_takes_away_is_not_believed(
    azurite: Azurite, vault: Vault, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
):
    """Where App Service authentication is not in front, a principal can be forged: 503, and the log says why."""
    async with open_world(azurite, vault, endpoint, HTTP_AUTH="entra") as world:
        for route in GUARDED:
            refused = await ask(world, route, **token(*ROLES))
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
async def test_a_principal_that_can_not_be_read_is_nobody(entra: World, headers: dict[str, str]):
    """401, whatever is wrong with it."""
    for route in GUARDED:
        assert 401 == (await ask(entra, route, **headers)).status


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
async def test_a_claim_that_says_nothing_gives_nothing(entra: World, claim: dict[str, Any]):
    """A claim of another form is no role: 403, as without it."""
    (route,) = [one for one in ROUTES if one.name == "read_job"]

    assert 403 == (await ask(entra, route, **encoded({"claims": [claim]}))).status


@pytest_asyncio.fixture
async def two(entra: World) -> tuple[Customer, Customer]:
    """Two customers, each with a job that is done under one id, and a connection."""
    mine, other = entra.customer(), entra.customer()
    for customer in (mine, other):
        await customer.run(job_id="secret")
    return mine, other


READS = [route for route in GUARDED if "{customer}" in route.path and route.method != "PUT"]


@pytest.mark.parametrize("route", READS, ids=lambda route: route.name)
async def test_what_is_others_looks_like_what_is_not_there(entra: World, two: tuple[Customer, Customer], route: Route):
    """
    To a tied token, another customer's things and things that nobody has are the same bytes and headers.

    What changes a connection is refused before anything is looked for.
    """
    mine, other = two
    asked = token(*ROLES, customer=mine.name)

    async def look(customer: str) -> Answered:
        path = route.path.format(customer=customer, job_id="secret", name="default")
        return await knock(entra, route.method, path, headers=asked)

    theirs, nobodys = await look(other.name), await look("nobody-at-all")

    assert theirs == nobodys
    assert (403 if route.name in {"delete_connection", "test_connection"} else 404) == theirs.status
    assert other.name.encode() not in theirs.body
    assert ["secret"] == [row["RowKey"][2:] for row in await other.rows() if row["RowKey"].startswith("j_")]


@pytest.mark.parametrize("name", ["read_job", "read_result"])
async def test_others_jobs_look_like_ones_own_that_do_not_exist(
    entra: World, two: tuple[Customer, Customer], name: str
):
    """An id of another customer's job tells no more than an id of nobody's."""
    mine, other = two
    (route,) = [one for one in ROUTES if one.name == name]
    asked = token("Jobs.Read", customer=mine.name)

    theirs = await knock(entra, "GET", route.path.format(customer=other.name, job_id="secret"), headers=asked)
    missing = await knock(entra, "GET", route.path.format(customer=mine.name, job_id="missing"), headers=asked)
    own = await knock(entra, "GET", route.path.format(customer=mine.name, job_id="secret"), headers=asked)

    assert theirs == missing
    assert (404, 200) == (theirs.status, own.status)


async def test_a_tied_token_submits_for_its_customer_alone(entra: World, two: tuple[Customer, Customer]):
    """Its own job is taken; another's is refused, and leaves nothing on record."""
    mine, other = two
    asked = token("Jobs.Submit", customer=mine.name)

    taken = await knock(entra, "POST", "jobs", json_body=mine.job(job_id="new"), headers=asked)
    refused = await knock(entra, "POST", "jobs", json_body=other.job(job_id="new"), headers=asked)
    await entra.messages(entra.environment["JOBS_QUEUE"])

    assert (202, 403, "forbidden") == (taken.status, refused.status, refused.json["code"])
    assert [] == [row for row in await other.rows() if row["RowKey"] == "j_new"]


async def test_a_token_of_two_customers_is_nobodys(entra: World, two: tuple[Customer, Customer]):
    """Which one it is tied to can't be told; the same one twice can."""
    mine, other = two
    (route,) = [one for one in ROUTES if one.name == "list_jobs"]
    role = {"typ": "roles", "val": "Jobs.Read"}

    def tied(*customers: str) -> dict[str, str]:
        return encoded({"claims": [role, *({"typ": "customer", "val": one} for one in customers)]})

    both = await ask(entra, route, mine.name, **tied(mine.name, other.name))
    twice = await ask(entra, route, mine.name, **tied(mine.name, mine.name))

    assert (403, 200) == (both.status, twice.status)


@pytest.mark.parametrize("said", [{"val": None}, {"val": ["a"]}, {"val": 7}, {"val": {}}, {"val": True}, {}], ids=str)
async def test_a_customer_that_is_no_text_is_nobody(entra: World, two: tuple[Customer, Customer], said: dict[str, Any]):
    """A claim that is there and names nobody does not make the caller one that sees every customer's: 403."""
    mine, _ = two
    role, named = {"typ": "roles", "val": "Jobs.Read"}, {"typ": "customer", "val": mine.name}
    (route,) = [one for one in ROUTES if one.name == "list_jobs"]

    for claims in ([role, {"typ": "customer", **said}], [role, named, {"typ": "customer", **said}]):
        refused = await ask(entra, route, mine.name, **encoded({"claims": claims}))
        assert (403, "forbidden") == (refused.status, refused.json["code"])


async def test_the_claims_name_may_be_written_in_any_case(azurite: Azurite, vault: Vault, endpoint: Endpoint):
    """`Customer` in a token ties it as `customer` does, and the setting likewise: no spelling opens everything."""
    role = {"typ": "roles", "val": "Jobs.Read"}
    (route,) = [one for one in ROUTES if one.name == "list_jobs"]
    settings = {"HTTP_AUTH": "entra", "WEBSITE_AUTH_ENABLED": "True", "ENTRA_CUSTOMER_CLAIM": "extn.Customer"}
    async with open_world(azurite, vault, endpoint, **settings) as world:
        for name in ("extn.customer", "EXTN.CUSTOMER", "extn.Customer"):
            claims = [role, {"typ": name, "val": "contoso"}]
            statuses = [
                (await ask(world, route, one, **encoded({"claims": claims}))).status for one in ("contoso", "x")
            ]
            assert [200, 404] == statuses


async def test_the_claim_of_the_customer_is_the_operators_choice(azurite: Azurite, vault: Vault, endpoint: Endpoint):
    """ENTRA_CUSTOMER_CLAIM names it."""
    settings = {"HTTP_AUTH": "entra", "WEBSITE_AUTH_ENABLED": "True", "ENTRA_CUSTOMER_CLAIM": "extn.customer"}
    claims = [{"typ": "roles", "val": "Jobs.Read"}, {"typ": "extn.customer", "val": "contoso"}]
    (route,) = [one for one in ROUTES if one.name == "list_jobs"]
    async with open_world(azurite, vault, endpoint, **settings) as world:
        own = await ask(world, route, "contoso", **encoded({"claims": claims}))
        other = await ask(world, route, "fabrikam", **encoded({"claims": claims}))

    assert (200, 404) == (own.status, other.status)
