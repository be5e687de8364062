"""Onboarding over HTTP: connections are shown and listed, from the vault's stand-in."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from shared.http.auth import Caller
from shared.http.messages import Request
from shared.http.problems import Problem
from tests.support.doc_samples import blocks, members_of
from tests.support.harness import Customer
from tests.support.http_client import send
from tests.support.http_connections import call, members, resource, run_test
from tests.support.log_texts import log_texts

KEY = "MARKED-0123456789abcdef-KEY"


ENDPOINTS = [
    {"endpoint": "https://r.openai.azure.com/openai/v1"},
    {"endpoint": "https://r.openai.azure.com/openai/deployments/d%20d/chat/completions?api-version=2025-01-01"},
    {"endpoint": "https://r.openai.azure.com", "max_concurrency": 3, "monthly_budget": 10.5},
    {"endpoint": "https://r.services.ai.azure.com/models", "api_version": "2024-05-01-preview"},
    {"endpoint": "https://r.services.ai.azure.com/api/projects/p"},
    {"endpoint": "https://r.models.ai.azure.com"},
    {"api_key": "sk-0123456789", "organization": "org-1", "project": "p-1"},
    {"endpoint": "http://127.0.0.1:9/gate/way/openai/deployments/d", "provider": "azure_openai"},
    {"endpoint": "https://r.openai.azure.com", "auth": "entra", "tenant_id": "contoso.com"},
]


@pytest.mark.parametrize("record", ENDPOINTS, ids=str)
async def test_settings_can_be_put_as_they_are_shown(newcomer: Customer, record: dict[str, Any]):
    """What GET shows, with the key added, is an equivalent connection; one without a key stays bound."""
    record = {"api_key": KEY, "default_model": "m", "batch_model": "b"} | record
    created = await call(newcomer, "PUT", json_body=record)
    tags = {"entra_host": "r.openai.azure.com", "entra_tenant": "contoso.com"}
    newcomer.harness.vault.secrets.update(f"ai--{newcomer.name}--default", "", {"tags": tags})
    document = await call(newcomer, "GET")
    keyless = {name: value for name, value in record.items() if name == "api_key" and record.get("auth") != "entra"}
    again = await call(newcomer, "PUT", json_body=document.json["settings"] | keyless)
    connections = newcomer.harness.services.connections

    assert (201, 200) == (created.status, again.status), again.body
    assert created.json["settings"] == document.json["settings"] == again.json["settings"]
    assert {"default_model": "m", "batch_model": "b"}.items() <= document.json["settings"].items()
    assert "api_key" not in document.json["settings"]
    assert (await connections.resolve(newcomer.name, "default")).endpoint.url("chat/completions", "m")


async def test_a_connection_is_shown_without_its_key(newcomer: Customer):
    """It has settings, version and dates, also if it is a bare key with tags. It has an ETag."""
    tags = {"endpoint": "https://r.openai.azure.com", "default_model": "m", "team": "ours"}
    attributes = {"exp": 4_000_000_000}
    newcomer.harness.put_secret(f"ai--{newcomer.name}--spare", KEY, tags=tags, attributes=attributes)
    document = await call(newcomer, "GET", "spare")
    unchanged = await call(newcomer, "GET", "spare", headers={"if-none-match": document.headers["ETag"]})

    assert ("spare", True, "2096-10-02T07:06:40.000Z") == tuple(
        document.json[name] for name in ("name", "enabled", "expires_on")
    )
    expected = {"endpoint": "https://r.openai.azure.com/openai", "provider": "azure_openai", "auth": "api_key"}
    assert expected | {"default_model": "m"} == document.json["settings"]
    assert {"version", "created_at", "updated_at"} <= set(document.json)
    assert KEY.encode() not in document.body
    assert 304 == unchanged.status


def secret(**members: Any) -> str:
    """The value of a connection with the marked key."""
    return json.dumps({"api_key": KEY, "endpoint": "https://r.openai.azure.com"} | members)


@pytest.mark.parametrize(
    ("value", "attributes", "code"),
    [
        *((value, {}, "connection_invalid") for value in (KEY, f'{{"api_key": "{KEY}", ', secret(api_key=[KEY]))),
        *((secret(endpoint=url), {}, "connection_invalid") for url in (KEY, f"https://{KEY}@x.openai.azure.com")),
        (secret(endpoint=f"https://x.openai.azure.com?key={KEY}"), {}, "connection_invalid"),
        (secret(provider=KEY), {}, "connection_invalid"),
        (secret(api_key=f"{KEY}\n", endpoint="https://evil.example", provider="openai"), {}, "connection_invalid"),
        (secret(), {"enabled": False}, "connection_disabled"),
        (secret(), {"exp": 1_600_000_000}, "connection_expired"),
        (secret(), {"nbf": 4_000_000_000}, "connection_expired"),
    ],
)
async def test_an_invalid_connection_has_its_error(
    newcomer: Customer, caplog: pytest.LogCaptureFixture, value: str, attributes: dict[str, Any], code: str
):
    """GET and a test report what a job would end with; neither they nor the log have a value. Nothing is sent."""
    caplog.set_level(logging.DEBUG)
    newcomer.harness.put_secret(f"ai--{newcomer.name}--default", value, attributes=attributes)
    document = await call(newcomer, "GET")
    outcome = await run_test(newcomer)
    job = await newcomer.run()

    assert (200, code) == (document.status, document.json["error"]["code"])
    assert (code, code) == (outcome["code"], job["error"]["code"])
    assert document.json["enabled"] == attributes.get("enabled", True)
    assert job["error"]["message"] == outcome["message"]
    assert KEY not in "\n".join([document.body.decode(), json.dumps([outcome, job]), *log_texts(caplog)])
    assert [] == newcomer.account.received


async def test_connections_are_listed_without_their_values(newcomer: Customer):
    """All connections of a customer over the vault's pages, and no others; no value is read."""
    harness = newcomer.harness
    names = {f"c{number}" for number in range(30)}
    for name in names:
        harness.connect(newcomer, name)
    harness.put_secret(f"ai--{newcomer.name}x--other", "x")
    harness.put_secret(f"webhook--{newcomer.name}", "x")
    harness.vault.secrets.update(f"ai--{newcomer.name}--c7", "", {"attributes": {"enabled": False}})
    reads = harness.vault.reads.total()
    listed = await send(harness, "GET", f"customers/{newcomer.name}/connections")
    nobody = await send(harness, "GET", "customers/nobody-at-all/connections")

    assert sorted(names) == [connection["name"] for connection in listed.json["connections"]]
    assert ["c7"] == [connection["name"] for connection in listed.json["connections"] if not connection["enabled"]]
    assert (200, {"connections": []}) == (nobody.status, nobody.json)
    assert reads == harness.vault.reads.total()
    assert newcomer.account.key.encode() not in listed.body


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE", "POST"])
async def test_a_vault_that_is_down_is_reported(newcomer: Customer, method: str):
    """503 with `Retry-After`."""
    newcomer.harness.vault.outage = True
    try:
        action = "/test" if method == "POST" else ""
        refused = await call(newcomer, method, action=action, json_body=members(newcomer) if method == "PUT" else {})
    finally:
        newcomer.harness.vault.outage = False

    refused.assert_problem(503, "unavailable")
    assert 0 < int(refused.headers["Retry-After"])


async def test_an_app_without_a_vault_is_reported(newcomer: Customer):
    """503 with the setting's name."""
    own = replace(resource(newcomer.harness), vault=None)
    request = Request("GET", "", {"customer": newcomer.name, "name": "default"})

    with pytest.raises(Problem, match="KEY_VAULT_URL") as refused:
        await own.read(request, Caller())
    assert (503, "unavailable") == (refused.value.status, refused.value.code)


async def test_requests_of_the_docs_have_the_responses_of_the_docs(newcomer: Customer):
    """Every request on the page, in its order, has the status and the members on the page."""
    samples = blocks("docs/onboard.md", "http")
    methods = set()
    for request, shown in zip(samples[::2], samples[1::2], strict=True):
        method, path = request.split()[:2]
        methods.add(method)
        if path.endswith("/test"):  # the page's endpoint is not ours to call
            newcomer.harness.connect(newcomer)
        own = path.removeprefix("/api/").replace("contoso", newcomer.name)
        sent, expected = (block.partition("\n\n")[2].strip() for block in (request, shown))
        response = await send(newcomer.harness, method, own, body=sent.encode())

        assert int(shown.split()[1]) == response.status, response.body
        assert not expected or members_of(json.loads(expected)) <= members_of(response.json)

    assert {"PUT", "GET", "POST", "DELETE"} == methods
