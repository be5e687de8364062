"""Onboarding over HTTP: connections are stored, replaced and deleted, in the vault's stand-in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.http.connections import MAX_SECRET_BYTES
from tests.support.harness import Customer
from tests.support.http_client import send
from tests.support.http_connections import call, members, put

KEY = "MARKED-0123456789abcdef-KEY"


async def test_a_customer_is_onboarded_and_served(newcomer: Customer):
    """
    201 with the path, 200 for the next version. A job then runs on what was stored, at once, although this worker had
    the old version cached; likewise after a DELETE.
    """
    created, first = await put(newcomer), await newcomer.run()
    again, second = await put(newcomer, default_model="gpt-5"), await newcomer.run()
    _, stored = newcomer.harness.vault.secrets.get(f"ai--{newcomer.name}--default")
    await call(newcomer, "DELETE")
    third = await newcomer.run()

    path = f"/api/customers/{newcomer.name}/connections/default"
    assert (201, path, 200) == (created.status, created.headers["Location"], again.status)
    assert created.json["version"] != again.json["version"]
    assert [("succeeded", "gpt-4o"), ("succeeded", "gpt-5")] == [
        (job["status"], job["model"]) for job in (first, second)
    ]
    assert "connection_not_found" == third["error"]["code"]
    assert members(newcomer, default_model="gpt-5") | {"auth": "api_key"} == json.loads(stored.value)
    assert "application/json" == stored.content_type


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"api_key": None}, "`api_key`"),
        ({KEY: "x"}, "a member that the contract does not name"),
        ({"endpoint": f"https://{KEY}@x.openai.azure.com"}, "`endpoint`"),
        ({"endpoint": "https://evil.example/v1", "provider": "openai"}, "ALLOWED_ENDPOINT_SUFFIXES"),
        ({"auth": "entra", "scope": "https://vault.azure.net/.default"}, "`scope`"),
        ({"monthly_budget": KEY}, "`monthly_budget`"),
        ({"enabled": False}, "`enabled` is not a known member"),
    ],
)
async def test_an_invalid_connection_is_not_stored(newcomer: Customer, others: dict[str, Any], message: str):
    """422 with the message of a failed job, which names the member and no value; nothing is stored."""
    record = {
        name: value for name, value in members(newcomer, **({"api_key": KEY} | others)).items() if value is not None
    }
    refused = await call(newcomer, "PUT", json_body=record)

    assert (422, "connection_invalid") == (refused.status, refused.json["code"])
    assert message in refused.json["detail"]
    assert KEY.encode() not in refused.body
    assert 404 == (await call(newcomer, "GET")).status


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
async def test_an_invalid_body_is_refused(newcomer: Customer, body: bytes, headers: dict[str, str], status: int):
    """A bare key is invalid over HTTP; a body that is not a record, or too large, is refused without quoting it."""
    refused = await call(newcomer, "PUT", body=body, headers=headers)

    assert (status, "application/problem+json") == (refused.status, refused.media_type)
    assert KEY.encode() not in refused.body


@pytest.mark.parametrize(("name", "valid"), [("Default", False), ("a--b", False), ("x" * 51, False), ("x" * 50, True)])
async def test_names_are_the_contracts(newcomer: Customer, name: str, valid: bool):
    """An invalid name is refused; the longest pair of names fits a secret's name."""
    newcomer.name = f"{newcomer.name}-{'y' * (49 - len(newcomer.name))}"
    stored = await put(newcomer, name)
    shown = await call(newcomer, "GET", name)

    assert ((201, 200) if valid else (400, 404)) == (stored.status, shown.status)


async def test_a_connection_is_deleted(newcomer: Customer):
    """204, then 404; its name can be put again, over what the vault still keeps of it."""
    await put(newcomer)
    deleted, missing, absent = [await call(newcomer, method) for method in ("DELETE", "DELETE", "GET")]
    again = await put(newcomer)
    result = await newcomer.run()

    assert (204, b"", 404, 404) == (deleted.status, deleted.body, missing.status, absent.status)
    assert (201, "succeeded") == (again.status, result["status"])
    assert [] == [name for name in newcomer.harness.vault.secrets.deleted if newcomer.name in name]


async def test_a_change_can_have_preconditions(newcomer: Customer):
    """`If-None-Match: *` creates, and never replaces; `If-Match` changes only what has that tag; else 412."""
    absent = await put(newcomer, headers={"if-match": "*"})
    created = await put(newcomer, headers={"if-none-match": "*"})
    tag = (await call(newcomer, "GET")).headers["ETag"]
    refused = [
        await put(newcomer, headers={"if-none-match": "*"}),
        await put(newcomer, headers={"if-none-match": f'"x", W/{tag}'}),
        await put(newcomer, headers={"if-match": f"W/{tag}"}),
        await call(newcomer, "DELETE", headers={"if-match": f"W/{tag}"}),
        await call(newcomer, "DELETE", headers={"if-none-match": "*"}),
    ]
    same = await call(newcomer, "GET")
    changed = await put(newcomer, default_model="new", headers={"if-match": f'"other", {tag}', "if-none-match": '"x"'})
    stale = await put(newcomer, default_model="newer", headers={"if-match": tag})
    deleted = await call(newcomer, "DELETE", headers={"if-match": "*"})
    missing = await call(newcomer, "DELETE", headers={"if-match": "*"})

    assert (412, 201, tag) == (absent.status, created.status, same.headers["ETag"])
    assert {(412, "precondition_failed")} == {(response.status, response.json["code"]) for response in refused}
    assert (200, 412) == (changed.status, stale.status)
    assert (204, 404) == (deleted.status, missing.status)


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_disabled_connection_stays_disabled(newcomer: Customer, deleted: bool):
    """It can't be replaced, nor after it is deleted."""
    harness, name = newcomer.harness, f"ai--{newcomer.name}--default"
    await put(newcomer)
    harness.vault.secrets.update(name, "", {"attributes": {"enabled": False}})
    if deleted:
        await call(newcomer, "DELETE")
    refused = await put(newcomer)
    result = await newcomer.run()

    assert (422, "connection_disabled") == (refused.status, refused.json["code"])
    assert "enabled in Key Vault" in refused.json["detail"]
    assert "connection_disabled" == result["error"]["code"]


async def test_a_vault_that_may_not_be_written_names_the_role(newcomer: Customer, caplog: pytest.LogCaptureFixture):
    """503 with the role that the app's identity needs; what does not need the role works."""
    newcomer.harness.connect(newcomer, "known")
    newcomer.harness.vault.read_only = True
    try:
        stored, deleted = await put(newcomer), await call(newcomer, "DELETE", "known")
        document = await call(newcomer, "GET", "known")
        listed = await send(newcomer.harness, "GET", f"customers/{newcomer.name}/connections")
    finally:
        newcomer.harness.vault.read_only = False

    assert (503, 503, 200, 200) == (stored.status, deleted.status, document.status, listed.status)
    assert "Key Vault Secrets Officer" in stored.json["detail"]
    assert "Key Vault Secrets Officer" in deleted.json["detail"]
    assert "Retry-After" not in stored.headers
    assert "request_failed route=put_connection Problem Key Vault does not allow the app to write" in caplog.text
    assert newcomer.account.key not in caplog.text
