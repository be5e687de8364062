"""Profiles and states over HTTP: the operator writes them, and a tied caller sees its own, without what is not its."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from shared.billing.audit import AuditTrail
from tests.support.memory_app import OPERATOR, MemoryApp, tied
from tests.support.rows import every_row

PROFILE = {
    "legal_name": "Contoso GmbH",
    "currency": "EUR",
    "bill_outcomes": ["answered", "lost"],
    "external_ids": {"stripe": "cus_1"},
    "notify": "https://contoso.example/billing",
}
OWN = {name: PROFILE[name] for name in ("legal_name", "currency", "notify")}
BODIES: dict[str, Any] = {"profile": PROFILE, "state": {"state": "suspended"}}


@pytest.fixture
def app() -> MemoryApp:
    """An app of one test."""
    return MemoryApp()


async def test_a_profile_is_read_as_it_was_written(app: MemoryApp):
    """A PUT replaces all of it, and has the `ETag` that GET then has. Before the first one it is empty."""
    empty = await app.send("GET", "customers/contoso/profile")
    written = await app.send("PUT", "customers/contoso/profile", PROFILE)
    read = await app.send("GET", "customers/contoso/profile")
    replaced = await app.send("PUT", "customers/contoso/profile", {"tax_id": "DE1"})

    assert [(200, {}), (200, PROFILE), (200, PROFILE), (200, {"tax_id": "DE1"})] == [
        (each.status, each.json) for each in (empty, written, read, replaced)
    ]
    assert written.headers["ETag"] == read.headers["ETag"]
    unchanged = await app.send("GET", "customers/contoso/profile", headers={**OPERATOR, "if-none-match": "*"})
    assert 304 == unchanged.status


async def test_a_state_is_read_as_it_was_written(app: MemoryApp):
    """A customer is active until it is suspended, and can be active again."""
    states = [await app.send("GET", "customers/contoso/state")]
    for state in ("suspended", "active"):
        states.append(await app.send("PUT", "customers/contoso/state", {"state": state}))
        states.append(await app.send("GET", "customers/contoso/state"))

    assert ["active", "suspended", "suspended", "active", "active"] == [each.json["state"] for each in states]


@pytest.mark.parametrize("name", BODIES)
async def test_a_tied_caller_writes_nothing(app: MemoryApp, name: str):
    """Whatever its roles: neither its own nor another's, and nothing is recorded."""
    for customer in ("contoso", "fabrikam"):
        refused = await app.send("PUT", f"customers/{customer}/{name}", BODIES[name], tied("contoso"))
        refused.assert_problem(403, "forbidden", "operator's alone")

    assert {} == app.table.rows


async def test_a_tied_caller_sees_its_own_without_what_is_the_operators(app: MemoryApp):
    """No `bill_outcomes` and no `external_ids`; another customer looks as one that does not exist."""
    for customer in ("contoso", "fabrikam"):
        for name, body in BODIES.items():
            await app.send("PUT", f"customers/{customer}/{name}", body)

    profile, state = [await app.send("GET", f"customers/contoso/{name}", headers=tied()) for name in BODIES]
    assert (OWN, {"state": "suspended"}) == (profile.json, state.json)
    for name in BODIES:
        others = await app.send("GET", f"customers/fabrikam/{name}", headers=tied())
        others.assert_problem(404, "not_found")
        assert others == await app.send("GET", f"customers/nobody/{name}", headers=tied())


@every_row(
    ("name", "body", "error"),
    [
        ("profile", {"currency": "euro"}, "`currency` must be an ISO 4217 code"),
        ("profile", {"notify": "http://contoso.example"}, "The `notify` must begin with https://."),
        ("profile", {"notify": "https://10.0.0.1/x"}, "The `notify` must name a public host"),
        ("profile", {"notify": "https://localhost/x"}, "The `notify` must not be on this machine"),
        ("profile", [], "The profile must be an object"),
        ("state", {"state": "closed"}, "`state` must be one of active, suspended."),
        ("state", {}, "`state` is missing."),
        ("state", {"state": "active", "why": "x"}, "`why` is not a known member."),
    ],
)
async def test_an_invalid_body_names_its_member(app: MemoryApp, name: str, body: Any, error: str):
    """400, and nothing is recorded."""
    refused = await app.send("PUT", f"customers/contoso/{name}", body)

    refused.assert_problem(400, "invalid_request", error)
    assert {} == app.table.rows


async def test_an_invalid_name_is_refused(app: MemoryApp):
    """As on all routes: 404 for GET, 400 for what changes something."""
    (await app.send("GET", "customers/Not-Valid/profile")).assert_problem(404, "not_found")
    (await app.send("PUT", "customers/Not-Valid/state", {"state": "active"})).assert_problem(400, "invalid_request")


async def test_what_changes_nothing_is_not_recorded(app: MemoryApp):
    """An empty profile for a customer without one, and the state that holds already."""
    for name, body in (("profile", {}), ("state", {"state": "active"})):
        assert 200 == (await app.send("PUT", f"customers/contoso/{name}", body)).status

    assert {} == app.table.rows


@pytest.mark.parametrize("name", BODIES)
async def test_of_two_who_change_it_at_once_one_is_refused(app: MemoryApp, name: str):
    """With `If-Match`, nobody overwrites what somebody else has just written, not even at the same time."""
    etag = (await app.send("GET", f"customers/contoso/{name}")).headers["ETag"]
    headers = {**OPERATOR, "if-match": etag}
    responses = await asyncio.gather(
        *(app.send("PUT", f"customers/contoso/{name}", BODIES[name], headers) for _ in range(2))
    )

    assert [200, 412] == sorted(each.status for each in responses)
    assert BODIES[name] == (await app.send("GET", f"customers/contoso/{name}")).json


async def test_each_change_names_its_caller(app: MemoryApp):
    """The audit trail has what was changed, by whom, from what and to what."""
    for name, body in BODIES.items():
        await app.send("PUT", f"customers/contoso/{name}", body)
    entries, _ = await AuditTrail(app.table).page("contoso", after="", limit=10)

    assert [
        ("token", "state", {"state": "active"}, {"state": "suspended"}),
        ("token", "profile", dict.fromkeys(PROFILE), PROFILE),
    ] == [(each.by, each.subject, each.before, each.after) for each in entries]
