"""Onboarding over HTTP: connections are stored, replaced and deleted, in the vault's stand-in."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.http.connections import MAX_SECRET_BYTES
from tests.support.harness import Customer
from tests.support.http_client import send
from tests.support.http_connections import call, members, put
from tests.support.rows import every_row

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


def record(**others: Any) -> bytes:
    """A connection with the marked key."""
    return json.dumps({"endpoint": "https://r.openai.azure.com", "api_key": KEY} | others).encode()


@every_row(
    ("body", "headers", "status", "message"),
    [
        (record(api_key=None), {}, 422, "`api_key`"),
        (record(**{KEY: "x"}), {}, 422, "a member that the contract does not name"),
        (record(endpoint=f"https://{KEY}@x.openai.azure.com"), {}, 422, "`endpoint`"),
        (record(endpoint="https://evil.example/v1", provider="openai"), {}, 422, "ALLOWED_ENDPOINT_SUFFIXES"),
        (record(auth="entra", scope="https://vault.azure.net/.default"), {}, 422, "`scope`"),
        (record(monthly_budget=KEY), {}, 422, "`monthly_budget`"),
        (record(enabled=False), {}, 422, "`enabled` is not a known member"),
        *((body, {}, 400, "must be a JSON object") for body in (KEY.encode(), f'"{KEY}"'.encode(), b"[]")),
        (b"", {}, 400, "Content-Length"),
        (b'{"api_key": "\xff"}', {}, 400, "not valid UTF-8"),
        *((body, {}, 422, "malformed") for body in (b"{", b'{"a":' * 5_000)),
        *((body, {}, 413, "the limit of a secret") for body in (b'{"a":' * 30_000, b"{" + b" " * MAX_SECRET_BYTES)),
        (b"{}", {"content-type": "application/x-www-form-urlencoded"}, 415, "must be application/json"),
        (b"{}", {"content-encoding": "gzip"}, 415, "compressed"),
    ],
    ids=range(18),
)
async def test_an_invalid_connection_is_not_stored(
    newcomer: Customer, body: bytes, headers: dict[str, str], status: int, message: str
):
    """
    422 with the message of a failed job, which names the member and no value. A body that is not a record, or too
    large, is refused without quoting it; over HTTP, so is a bare key. Nothing is stored.
    """
    refused = await call(newcomer, "PUT", body=body, headers=headers)

    code = {400: "invalid_request", 413: "too_large", 415: "unsupported_media_type"}.get(status, "connection_invalid")
    refused.assert_problem(status, code, message)
    assert KEY.encode() not in refused.body
    assert 404 == (await call(newcomer, "GET")).status


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

    refused.assert_problem(422, "connection_disabled", "enabled in Key Vault")
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

    assert (200, 200) == (document.status, listed.status)
    for refused in (stored, deleted):
        refused.assert_problem(503, "unavailable", "Key Vault Secrets Officer")
    assert "Retry-After" not in stored.headers
    assert "request_failed route=put_connection VaultForbids Key Vault does not allow the app to write" in caplog.text
    assert newcomer.account.key not in caplog.text
