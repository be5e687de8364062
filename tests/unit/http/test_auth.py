"""Authorization: function keys, Entra roles, tokens that are tied to a customer."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from shared.http.app import HttpApp
from shared.http.auth import Caller, read_caller
from shared.http.messages import Request, Response
from shared.http.problems import Problem
from shared.http.routes import ROUTES, Role, Route
from shared.settings import Settings, read_settings
from tests.support.principals import BEARER, encoded, token
from tests.support.rows import every_row

KEY = read_settings({"JobStorage": "UseDevelopmentStorage=true"})
UNPROTECTED = read_settings({"JobStorage": "UseDevelopmentStorage=true", "HTTP_AUTH": "entra"})
ROLES = get_args(Role)
GUARDED = [route for route in ROUTES if route.role is not None]
LONG_ROLE = "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"
PRINCIPAL = token()["x-ms-client-principal"]
READER = {"typ": "roles", "val": "Jobs.Read"}
ALL = {"typ": "roles", "val": "Customers.All"}


def entra(customer_claim: str = "customer") -> Settings:
    """The settings of an app behind App Service authentication."""
    setup = {"HTTP_AUTH": "entra", "WEBSITE_AUTH_ENABLED": "True", "ENTRA_CUSTOMER_CLAIM": customer_claim}
    return read_settings({"JobStorage": "UseDevelopmentStorage=true", **setup})


async def call(settings: Settings, route: Route, headers: dict[str, str]) -> tuple[int, Any]:
    """The status of the response, and the caller that the route's handler got, or else the problem."""

    async def handler(_: Request, caller: Caller) -> Response:
        callers.append(caller)
        return Response(200)

    callers: list[Caller] = []
    response = await HttpApp(settings, {route.name: handler}).handle(route.name, Request("GET", "", headers=headers))
    if callers:
        return response.status, callers[0]
    assert "application/problem+json" == response.media_type
    return response.status, json.loads(response.body)["code"]


@every_row("route", ROUTES, ids=lambda route: route.name)
async def test_each_route_has_its_guard(route: Route):
    """
    With a key, which the host has checked, a route requires no more, and a principal is ignored. With Entra, it
    requires its role, or one of its two, and no other is enough. A route without a role is open to everybody. What is
    the operator's alone refuses every caller that is tied to a customer.
    """
    if route.role is None:
        for settings in (KEY, entra(), UNPROTECTED):
            assert (200, Caller(frozenset())) == await call(settings, route, {})
        return
    for headers in ({}, token()):
        assert (200, Caller()) == await call(KEY, route, headers)
    assert (401, "unauthorized") == await call(entra(), route, {})
    for role in ROLES:
        is_enough = role in route.roles and not route.is_operators
        expected = (200, Caller(frozenset({role}), "acme")) if is_enough else (403, "forbidden")
        for typ in ("roles", LONG_ROLE):
            assert expected == await call(entra(), route, token(role, typ=typ, customer="acme"))
    others = [role for role in ROLES if role not in route.roles]
    assert (403, "forbidden") == await call(entra(), route, token(*others, customer="acme"))
    assert (403, "forbidden") == await call(entra(), route, token(*ROLES, typ="groups", customer="acme"))


@every_row("route", GUARDED, ids=lambda route: route.name)
async def test_a_token_without_a_customer_reaches_nobody(route: Route):
    """Without the claim, all other roles together give access to no customer; Customers.All gives it, to every one."""
    others = [role for role in ROLES if role != "Customers.All"]
    everything = (200, Caller(frozenset({"Customers.All", route.role})))

    assert (403, "forbidden") == await call(entra(), route, token(*others))
    assert (403, "forbidden") == await call(entra("extn.customer"), route, token(*others, customer="acme"))
    assert everything == await call(entra(), route, token("Customers.All", str(route.role)))
    with pytest.raises(Problem, match=r"needs the claim customer, or the role Customers\.All"):
        read_caller(token(*others), entra())


@every_row("route", GUARDED, ids=lambda route: route.name)
async def test_a_principal_without_app_service_authentication_is_not_trusted(
    caplog: pytest.LogCaptureFixture, route: Route
):
    """If App Service authentication is not in front, a principal can be forged: 503, and the log says why."""
    with pytest.raises(Problem, match="HTTP_AUTH") as refused:
        read_caller(token(*ROLES), UNPROTECTED)

    assert "Retry-After" not in refused.value.headers
    assert (503, "unavailable") == await call(UNPROTECTED, route, token(*ROLES))
    assert f"request_failed route={route.name} Problem HTTP_AUTH is entra, but" in caplog.text


@every_row(
    "headers",
    [
        {},
        BEARER,
        *({**BEARER, "x-ms-client-principal": text} for text in ("", "***", "e30", "é", f"{PRINCIPAL},{PRINCIPAL}")),
        *(encoded(principal) for principal in ({}, None, [], "claims", b"\xff\xfe", b'{"claims": ' + b"[" * 9000)),
        *(encoded({"claims": claims}) for claims in (None, 1, "roles", [1], [["typ", "roles"]], READER)),
        encoded(b'{"claims": [{"typ": "roles", "val": "\\ud800"}]}'),
    ],
    ids=range(20),
)
def test_an_invalid_principal_is_refused(headers: dict[str, str]):
    """401, whatever is invalid about it."""
    with pytest.raises(Problem) as refused:
        read_caller(headers, entra())

    assert (401, "unauthorized") == (refused.value.status, refused.value.code)


@every_row(
    "headers",
    [
        {},
        {"cookie": "AppServiceAuthSession=a"},
        *({"authorization": value} for value in ("", "Basic YTpi", "a.b.c", "Bearerish a.b.c")),
        *(
            {**BEARER, "cookie": cookie}
            for cookie in (
                "AppServiceAuthSession=a",
                "AppServiceAuthSession1=a",
                "theme=dark; AppServiceAuthSession=a",
                "theme=dark;AppServiceAuthSession=a",
                "theme=dark,AppServiceAuthSession=a",
            )
        ),
    ],
    ids=str,
)
@every_row("route", GUARDED, ids=lambda route: route.name)
async def test_a_session_cookie_is_refused(headers: dict[str, str], route: Route):
    """
    A principal counts only with a bearer token, and never beside the session cookie, which browsers send with
    requests that another site makes. It is a 401 on every route, before anything is done.
    """
    principal = {"x-ms-client-principal": token(*ROLES, customer="acme")["x-ms-client-principal"]}

    assert (401, "unauthorized") == await call(entra(), route, {**principal, **headers})


@pytest.mark.parametrize(
    "headers",
    [{"authorization": "bearer a.b.c"}, {**BEARER, "cookie": "theme=dark; MyAppServiceAuthSession=a; ARRAffinity=1"}],
    ids=str,
)
def test_other_cookies_make_no_difference(headers: dict[str, str]):
    """The scheme is read in any case, and cookies that authenticate nobody may be there."""
    assert read_caller({"x-ms-client-principal": token(*ROLES)["x-ms-client-principal"], **headers}, entra())


@every_row(
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
    ids=str,
)
def test_an_invalid_role_claim_is_ignored(claim: dict[str, Any]):
    """A claim of another form is not a role: 403, as without it."""
    with pytest.raises(Problem) as refused:
        read_caller(encoded({"claims": [claim, {"typ": "customer", "val": "acme"}]}), entra()).check_role("Jobs.Read")

    assert (403, "forbidden") == (refused.value.status, refused.value.code)


@every_row(
    "value",
    [
        *(
            {"val": value}
            for value in (None, ["a"], 7, {}, True, "", " ", "Contoso", "contoso ", "*", "a--b", "a" * 51)
        ),
        {},
    ],
    ids=str,
)
@every_row("others", [[], [{"typ": "customer", "val": "contoso"}]], ids=["alone", "beside a valid one"])
def test_a_customer_claim_that_is_no_customers_id_is_refused(value: dict[str, Any], others: list[Any]):
    """An invalid claim does not give the caller access to every customer, whatever its roles: 403."""
    with pytest.raises(Problem, match="claim customer is not 1 to 50 lower-case letters") as refused:
        read_caller(encoded({"claims": [READER, ALL, *others, {"typ": "customer", **value}]}), entra())

    assert (403, "forbidden") == (refused.value.status, refused.value.code)


@every_row(
    ("setting", "claims", "customer"),
    [
        ("customer", [], None),
        ("customer", [("customer", "contoso")], "contoso"),
        ("customer", [("customer", "contoso"), ("customer", "contoso")], "contoso"),
        *(("extn.Customer", [(name, "contoso")], "contoso") for name in ("extn.customer", "EXTN.CUSTOMER")),
        ("extn.customer", [("extn.Customer", "contoso")], "contoso"),
        ("extn.customer", [("customer", "contoso")], None),
    ],
)
def test_the_setting_names_the_customer_claim(setting: str, claims: list[tuple[str, str]], customer: str | None):
    """Neither in a token nor in the setting is its name case-sensitive: no spelling gives access to all."""
    principal = {"claims": [READER, ALL, *({"typ": typ, "val": value} for typ, value in claims)]}

    assert Caller(frozenset({"Jobs.Read", "Customers.All"}), customer) == read_caller(
        encoded(principal), entra(setting)
    )


def test_a_token_with_two_customers_is_refused():
    """It is unclear which customer it is tied to, however the claims' names are spelled."""
    claims = [READER, {"typ": "customer", "val": "contoso"}, {"typ": "Customer", "val": "fabrikam"}]

    with pytest.raises(Problem, match="more than one customer") as refused:
        read_caller(encoded({"claims": claims}), entra())
    assert (403, "forbidden") == (refused.value.status, refused.value.code)


def test_a_tied_caller_acts_for_its_customer_alone():
    """What another customer has is not found, in the words for what does not exist; changes are forbidden: 403."""
    operator = Caller(frozenset({"Customers.All"}))
    tied = [Caller(roles, "contoso") for roles in (frozenset(), frozenset({"Customers.All"}))]
    for caller, customer in ((Caller(), "fabrikam"), (operator, "fabrikam"), *((each, "contoso") for each in tied)):
        caller.check_reads(customer, "job")
        caller.check_writes(customer)

    for caller in (*tied, Caller(frozenset(ROLES) - {"Customers.All"})):
        with pytest.raises(Problem, match="There is no such job") as hidden:
            caller.check_reads("fabrikam", "job")
        with pytest.raises(Problem, match="another customer") as forbidden:
            caller.check_writes("fabrikam")
        assert [(404, "not_found"), (403, "forbidden")] == [
            (each.value.status, each.value.code) for each in (hidden, forbidden)
        ]


@every_row(
    ("claims", "name"),
    [
        ({"name": "Ann Lee", "oid": "9f3c"}, "Ann Lee (9f3c)"),
        ({"preferred_username": "ann@contoso.example", "oid": "9f3c"}, "ann@contoso.example (9f3c)"),
        (
            {
                "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name": "Ann",
                "http://schemas.microsoft.com/identity/claims/objectidentifier": "9f3c",
            },
            "Ann (9f3c)",
        ),
        ({"azp": "11aa", "oid": "9f3c"}, "11aa (9f3c)"),
        ({"appid": "11aa"}, "11aa"),
        ({"oid": "9f3c"}, "9f3c"),
        ({"name": "", "oid": ""}, "token"),
        ({"name": "Ann\n\x1b[31m", "oid": "9f3c"}, "Ann[31m (9f3c)"),
        ({}, "token"),
    ],
    ids=str,
)
def test_a_caller_has_a_name_for_the_audit_trail(claims: dict[str, str], name: str):
    """A person's name or an application's id, and the object id; without a token, it is the function key."""
    roles = [{"typ": "roles", "val": "Customers.All"}]
    headers = encoded({"claims": [*roles, *({"typ": typ, "val": value} for typ, value in claims.items())]})

    assert name == read_caller(headers, entra()).name
    assert "function key" == read_caller({}, KEY).name
