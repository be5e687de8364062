"""Onboarding over HTTP can't decide for which resource the app's own identity is used."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import pytest

from shared.errors import ConnectionInvalid
from tests.support.harness import Customer
from tests.support.http_connections import call, run_test

HOST = "contoso.openai.azure.com"
RECORD = {"endpoint": f"https://{HOST}/openai/v1", "auth": "entra", "default_model": "m"}
TAGS = {"entra_host": HOST}


def bind(customer: Customer, tags: dict[str, str]) -> None:
    """Set the tags of the stored connection, as somebody who may write to the vault does."""
    customer.harness.vault.secrets.update(f"ai--{customer.name}--default", "", {"tags": tags})
    customer.harness.services.connections.forget(customer.name, "default")


def tags_of(customer: Customer) -> dict[str, str]:
    """The tags of the stored connection."""
    return customer.harness.vault.secrets.get(f"ai--{customer.name}--default")[1].tags


async def test_a_connection_without_a_key_waits_for_the_operator(newcomer: Customer):
    """
    It is stored and shown with its settings and its error; a test and a job end with that, before a token is
    requested. Once the operator has bound it, it serves.
    """
    created = await call(newcomer, "PUT", json_body=RECORD)
    shown, tested, job = await call(newcomer, "GET"), await run_test(newcomer), await newcomer.run()
    bind(newcomer, TAGS)
    bound = await call(newcomer, "GET")
    connection = await newcomer.harness.services.connections.resolve(newcomer.name, "default")

    assert (201, 200) == (created.status, shown.status)
    assert created.json["settings"]["endpoint"] == shown.json["settings"]["endpoint"] == RECORD["endpoint"]
    errors = [created.json["error"], shown.json["error"], tested, job["error"]]
    assert {"connection_invalid"} == {error["code"] for error in errors}
    assert all(f"`aijobs customers bind {newcomer.name} --connection default`" in each["message"] for each in errors)
    assert "error" not in bound.json
    assert HOST == connection.endpoint.host


@pytest.mark.parametrize(
    ("changes", "is_kept"),
    [
        ({"default_model": "other", "max_concurrency": 3}, True),
        ({"endpoint": f"https://{HOST.upper()}:443/api/projects/p"}, True),
        ({"scope": "https://ai.azure.com/.default"}, True),
        ({"endpoint": "https://fabrikam.openai.azure.com/openai/v1"}, False),
        ({"endpoint": "https://contoso.services.ai.azure.com/openai/v1"}, False),
        ({"scope": "https://cognitiveservices.azure.com/.default"}, False),
        ({"tenant_id": "fabrikam.com"}, False),
    ],
    ids=str,
)
async def test_a_put_keeps_what_the_operator_allowed_and_no_more(
    newcomer: Customer, changes: dict[str, Any], is_kept: bool
):
    """
    With the same host, scope and tenant the next version may be used, too, and the owner's own tags stay; with another
    it may not, nor after the first ones are put again.
    """
    await call(newcomer, "PUT", json_body=RECORD)
    bind(newcomer, {**TAGS, "Team": "blue"})
    changed = await call(newcomer, "PUT", json_body=RECORD | changes)
    tags = tags_of(newcomer)
    again = await call(newcomer, "PUT", json_body=RECORD)

    assert (200, 200) == (changed.status, again.status)
    assert {"Team": "blue", **(TAGS if is_kept else {})} == tags
    assert [not is_kept] * 2 == ["error" in response.json for response in (changed, again)]
    with nullcontext() if is_kept else pytest.raises(ConnectionInvalid, match="customers bind"):
        await newcomer.harness.services.connections.resolve(newcomer.name, "default")


async def test_a_deleted_connection_loses_what_was_allowed(newcomer: Customer):
    """A connection that is put again after a DELETE has to be bound again, although the vault recovers the secret."""
    await call(newcomer, "PUT", json_body=RECORD)
    bind(newcomer, TAGS)
    await call(newcomer, "DELETE")
    again = await call(newcomer, "PUT", json_body=RECORD)

    assert ({}, "connection_invalid") == (tags_of(newcomer), again.json["error"]["code"])


@pytest.mark.parametrize("name", ["entra_host", "entra_scope", "entra_tenant", "tags"])
async def test_tags_are_no_members(newcomer: Customer, name: str):
    """Nothing in a body sets a tag."""
    refused = await call(newcomer, "PUT", json_body=RECORD | {name: HOST})

    refused.assert_problem(422, "connection_invalid", f"`{name}` is not a known member")


async def test_a_key_that_becomes_an_identity_is_not_bound(newcomer: Customer):
    """The tags of a bare key, which are its settings, are gone with it; so is a tag that was never in use."""
    tags = {**TAGS, "endpoint": RECORD["endpoint"], "Team": "blue", "file-encoding": "utf-8"}
    newcomer.harness.put_secret(f"ai--{newcomer.name}--default", "a-bare-key-0123456789", tags=tags)
    changed = await call(newcomer, "PUT", json_body=RECORD)

    assert {"Team": "blue"} == tags_of(newcomer)
    assert "connection_invalid" == changed.json["error"]["code"]


async def test_a_body_with_a_byte_order_mark_is_read(newcomer: Customer):
    """What an editor wrote before the JSON does not matter."""
    created = await call(newcomer, "PUT", body=b"\xef\xbb\xbf" + json.dumps(RECORD).encode())

    assert 201 == created.status
