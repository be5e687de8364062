"""Changes of connections over HTTP leave audit entries, which never contain a key."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from shared.billing.audit import AuditTrail
from shared.errors import StorageUnavailable
from shared.http.auth import Caller
from shared.http.messages import Request
from tests.support.fakes import MemoryTable
from tests.support.harness import Customer
from tests.support.http_client import send
from tests.support.http_connections import members, put, resource

KEY = "MARKED-0123456789abcdef-KEY"


async def entries(customer: Customer) -> list[dict[str, Any]]:
    """The customer's audit trail, the newest first, without price books that other tests publish for everybody."""
    response = await send(customer.harness, "GET", f"customers/{customer.name}/audit")
    assert KEY not in response.body.decode()
    return [entry for entry in response.json["entries"] if entry["subject"] != "price book"]


async def test_each_change_of_a_connection_has_an_entry(newcomer: Customer):
    """A version for a new key, what differs for a new setting, everything for a new or deleted connection."""
    path = f"customers/{newcomer.name}/connections/spare"
    await put(newcomer, "spare", api_key=KEY)
    await put(newcomer, "spare", api_key=f"{KEY}-2")
    await put(newcomer, "spare", api_key=f"{KEY}-2", default_model="gpt-5.5")
    await send(newcomer.harness, "DELETE", path)
    await send(newcomer.harness, "DELETE", path)

    deleted, changed, rotated, created = await entries(newcomer)
    assert {("connection spare", "function key")} == {
        (each["subject"], each["by"]) for each in (deleted, changed, rotated, created)
    }
    assert {None} == {*created["before"].values(), *deleted["after"].values()}
    assert {"version", "endpoint", "provider", "auth", "default_model"} == created["after"].keys()
    assert ["version"] == [*rotated["before"]] == [*rotated["after"]]
    assert ({"gpt-4o", rotated["after"]["version"]}, {"gpt-5.5", deleted["before"]["version"]}) == (
        {*changed["before"].values()},
        {*changed["after"].values()},
    )
    assert "gpt-5.5" == deleted["before"]["default_model"]
    assert [] == [row for row in await newcomer.rows() if KEY in str(row)]


async def test_a_change_that_is_refused_has_no_entry(newcomer: Customer):
    """Neither an invalid connection nor an unmet precondition."""
    await put(newcomer, "spare", api_key=KEY, endpoint="nonsense")
    await put(newcomer, "spare", api_key=KEY, headers={"if-match": '"x"'})

    assert [] == await entries(newcomer)


async def test_what_cannot_be_recorded_is_not_changed(newcomer: Customer):
    """While Storage is down, a connection is neither stored nor deleted."""
    await put(newcomer)
    secret = newcomer.harness.vault.secrets.live[f"ai--{newcomer.name}--default"]
    versions = [*secret.versions]
    broken = replace(resource(newcomer.harness), audit=AuditTrail(MemoryTable(down=True)))
    params, body = {"customer": newcomer.name, "name": "default"}, json.dumps(members(newcomer)).encode()

    with pytest.raises(StorageUnavailable):
        await broken.put(Request("PUT", "", params, {}, {"content-type": "application/json"}, body), Caller())
    with pytest.raises(StorageUnavailable):
        await broken.delete(Request("DELETE", "", params), Caller())

    assert versions == secret.versions
    assert newcomer.harness.vault.secrets.live[f"ai--{newcomer.name}--default"] is secret
