"""Onboarding over HTTP: connections are stored, replaced and deleted, in the vault's stand-in."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shared.http.connections import MAX_SECRET_BYTES
from tests.support.harness import Customer, Harness
from tests.support.http_client import send
from tests.support.http_connections import call, members, put

KEY = "MARKED-0123456789abcdef-KEY"


@pytest.fixture
def customer(harness: Harness) -> Customer:
    """A customer that is not onboarded yet."""
    return harness.customer(connection=None)


async def test_a_customer_is_onboarded_and_served(customer: Customer):
    """201 with the path, 200 for the next version; a job then runs on what was stored."""
    created = await put(customer)
    again = await put(customer, default_model="gpt-5")
    result = await customer.run()

    path = f"/api/customers/{customer.name}/connections/default"
    assert (201, path, 200) == (created.status, created.headers["Location"], again.status)
    assert created.json["version"] != again.json["version"]
    assert ("succeeded", "gpt-5") == (result["status"], result["model"])
    _, stored = customer.harness.vault.secrets.get(f"ai--{customer.name}--default")
    assert members(customer, default_model="gpt-5") | {"auth": "api_key"} == json.loads(stored.value)
    assert "application/json" == stored.content_type


async def test_this_worker_uses_a_new_version_at_once(customer: Customer):
    """A job after the PUT runs on the new version although the old one was cached; likewise after a DELETE."""
    await put(customer, default_model="old")
    first = await customer.run()
    await put(customer, default_model="new")
    second = await customer.run()
    await call(customer, "DELETE")
    third = await customer.run()

    assert ["old", "new"] == [first["model"], second["model"]]
    assert "connection_not_found" == third["error"]["code"]


async def test_a_read_that_began_before_a_put_is_not_cached(customer: Customer):
    """It serves whoever waits for it, and nobody after the PUT."""
    harness, connections = customer.harness, customer.harness.services.connections
    harness.connect(customer, default_model="old")
    arrived, proceed = asyncio.Event(), asyncio.Event()

    async def delay(request: Any, handler: Any) -> Any:
        response = await handler(request)
        if customer.name in request.path and not arrived.is_set():
            arrived.set()
            await proceed.wait()
        return response

    harness.vault.read_middleware = delay
    try:
        reading = asyncio.create_task(connections.resolve(customer.name, "default"))
        await arrived.wait()
        await put(customer, default_model="new")
        proceed.set()
        before, after = await reading, await connections.resolve(customer.name, "default")
    finally:
        harness.vault.read_middleware = None

    assert ("old", "new") == (before.default_model, after.default_model)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"api_key": None}, "`api_key`"),
        ({"api_kye": "x"}, "`api_kye` is not a known member"),
        ({KEY: "x"}, "a member that the contract does not name"),
        ({"endpoint": None}, "`endpoint`"),
        ({"endpoint": KEY}, "`endpoint`"),
        ({"endpoint": f"https://{KEY}@x.openai.azure.com"}, "`endpoint`"),
        ({"endpoint": f"https://x.openai.azure.com/?key={KEY}"}, "`endpoint`"),
        ({"endpoint": "https://evil.example/v1", "provider": "openai"}, "ALLOWED_ENDPOINT_SUFFIXES"),
        ({"endpoint": "https://169.254.169.254/v1", "provider": "openai"}, "`endpoint`"),
        ({"provider": KEY}, "`provider`"),
        ({"auth": "entra", "scope": "https://vault.azure.net/.default"}, "`scope`"),
        ({"max_concurrency": 0}, "`max_concurrency`"),
        ({"monthly_budget": KEY}, "`monthly_budget`"),
        ({"api_key": f"{KEY}\n{KEY}"}, "`api_key`"),
        ({"organization": "a\r\nb"}, "`organization`"),
        ({"enabled": False}, "`enabled` is not a known member"),
    ],
)
async def test_an_invalid_connection_is_not_stored(customer: Customer, others: dict[str, Any], message: str):
    """422 with the message of a failed job, which names the member and no value; nothing is stored."""
    record = {
        name: value for name, value in members(customer, **({"api_key": KEY} | others)).items() if value is not None
    }
    refused = await call(customer, "PUT", json_body=record)

    assert (422, "connection_invalid") == (refused.status, refused.json["code"])
    assert message in refused.json["detail"]
    assert KEY.encode() not in refused.body
    assert 404 == (await call(customer, "GET")).status


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (KEY.encode(), {}, 400),
        (f'"{KEY}"'.encode(), {}, 400),
        (b"", {}, 400),
        (b"[]", {}, 400),
        (b'{"api_key": "\xff"}', {}, 400),
        (b"{", {}, 422),
        (b'{"a":' * 30_000, {}, 413),
        (b'{"a":' * 5_000, {}, 422),
        (b"{" + b" " * MAX_SECRET_BYTES, {}, 413),
        (b"{}", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"content-encoding": "gzip"}, 415),
    ],
)
async def test_an_invalid_body_is_refused(customer: Customer, body: bytes, headers: dict[str, str], status: int):
    """A bare key is invalid over HTTP; a body that is not a record, or too large, is refused without quoting it."""
    refused = await call(customer, "PUT", body=body, headers=headers)

    assert (status, "application/problem+json") == (refused.status, refused.media_type)
    assert KEY.encode() not in refused.body


@pytest.mark.parametrize(("name", "valid"), [("Default", False), ("a--b", False), ("x" * 51, False), ("x" * 50, True)])
async def test_names_are_the_contracts(harness: Harness, name: str, valid: bool):
    """An invalid name is refused; the longest pair of names fits a secret's name."""
    customer = harness.customer(connection=None)
    customer.name = f"{customer.name}-{'y' * (49 - len(customer.name))}"
    stored = await put(customer, name)
    shown = await call(customer, "GET", name)

    assert ((201, 200) if valid else (400, 404)) == (stored.status, shown.status)


async def test_a_connection_is_deleted(customer: Customer):
    """204, then 404; its name can be put again, over what the vault still keeps of it."""
    await put(customer)
    deleted, missing, absent = [await call(customer, method) for method in ("DELETE", "DELETE", "GET")]
    again = await put(customer)
    result = await customer.run()

    assert (204, b"", 404, 404) == (deleted.status, deleted.body, missing.status, absent.status)
    assert (201, "succeeded") == (again.status, result["status"])
    assert [] == [name for name in customer.harness.vault.secrets.deleted if customer.name in name]


async def test_a_change_can_have_preconditions(customer: Customer):
    """`If-None-Match: *` creates, and never replaces; `If-Match` changes only what has that tag; else 412."""
    absent = await put(customer, headers={"if-match": "*"})
    created = await put(customer, headers={"if-none-match": "*"})
    tag = (await call(customer, "GET")).headers["ETag"]
    refused = [
        await put(customer, headers={"if-none-match": "*"}),
        await put(customer, headers={"if-none-match": f'"x", W/{tag}'}),
        *[
            await call(customer, method, json_body=members(customer), headers={"if-match": other})
            for method in ("PUT", "DELETE")
            for other in ('"other"', f"W/{tag}", "other", '"*"')
        ],
        await call(customer, "DELETE", headers={"if-none-match": "*"}),
    ]
    same = await call(customer, "GET")
    changed = await put(customer, default_model="new", headers={"if-match": f'"other", {tag}', "if-none-match": '"x"'})
    stale = await put(customer, default_model="newer", headers={"if-match": tag})
    unquoted = (await call(customer, "GET")).headers["ETag"].strip('"')
    newest = await put(customer, default_model="newest", headers={"if-match": unquoted})
    deleted = await call(customer, "DELETE", headers={"if-match": "*"})
    missing = await call(customer, "DELETE", headers={"if-match": "*"})

    assert (412, 201, tag) == (absent.status, created.status, same.headers["ETag"])
    assert {(412, "precondition_failed")} == {(response.status, response.json["code"]) for response in refused}
    assert (200, 412, 200) == (changed.status, stale.status, newest.status)
    assert (204, 404) == (deleted.status, missing.status)


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_disabled_connection_stays_disabled(customer: Customer, deleted: bool):
    """It can't be replaced, nor after it is deleted."""
    harness, name = customer.harness, f"ai--{customer.name}--default"
    await put(customer)
    harness.vault.secrets.update(name, "", {"attributes": {"enabled": False}})
    if deleted:
        await call(customer, "DELETE")
    refused = await put(customer)
    result = await customer.run()

    assert (422, "connection_disabled") == (refused.status, refused.json["code"])
    assert "enabled in Key Vault" in refused.json["detail"]
    assert "connection_disabled" == result["error"]["code"]


async def test_a_vault_that_may_not_be_written_names_the_role(customer: Customer, caplog: pytest.LogCaptureFixture):
    """503 with the role that the app's identity needs; what does not need the role works."""
    customer.harness.connect(customer, "known")
    customer.harness.vault.read_only = True
    try:
        stored, deleted = await put(customer), await call(customer, "DELETE", "known")
        document = await call(customer, "GET", "known")
        listed = await send(customer.harness, "GET", f"customers/{customer.name}/connections")
    finally:
        customer.harness.vault.read_only = False

    assert (503, 503, 200, 200) == (stored.status, deleted.status, document.status, listed.status)
    assert "Key Vault Secrets Officer" in stored.json["detail"]
    assert "Key Vault Secrets Officer" in deleted.json["detail"]
    assert "Retry-After" not in stored.headers
    assert "request_failed route=put_connection Problem Key Vault does not allow the app to write" in caplog.text
    assert customer.account.key not in caplog.text
