"""Onboarding over HTTP: through the door, into the vault's stand-in, and out to the endpoint that records."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import re
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from shared.billing.usage_records import counted
from shared.connections import probe
from shared.connections.endpoint_url import encode_segment
from shared.errors import StorageUnavailable
from shared.http.auth import Caller
from shared.http.connections import MAX_SECRET_BYTES, ConnectionsResource
from shared.http.messages import Request
from shared.http.problems import Problem
from shared.upstream.client import UpstreamClient
from tests.support.endpoint import completion, error, reply, reset
from tests.support.fakes import Fault, MemoryTable
from tests.support.harness import Customer, World
from tests.support.http_client import Answered, knock
from tests.support.log_texts import log_texts as texts

KEY = "MARKED-0123456789abcdef-KEY"
DOCS = Path(__file__).parents[3] / "docs/onboard.md"


@pytest.fixture
def customer(world: World) -> Customer:
    """A customer that is not onboarded yet."""
    return world.customer(connection=None)


def members(customer: Customer, **others: Any) -> dict[str, Any]:
    """The members of a connection to the customer's account."""
    return {
        "endpoint": f"{customer.world.endpoint.url}/openai/v1",
        "provider": "azure_openai",
        "api_key": customer.account.key,
        "default_model": "gpt-4o",
    } | others


async def call(customer: Customer, method: str, name: str = "default", *, action: str = "", **more: Any) -> Answered:
    """A request about one connection."""
    return await knock(customer.world, method, f"customers/{customer.name}/connections/{name}{action}", **more)


async def put(
    customer: Customer, name: str = "default", /, *, headers: dict[str, str] | None = None, **others: Any
) -> Answered:
    """Keeps a connection."""
    return await call(customer, "PUT", name, json_body=members(customer, **others), headers=headers)


async def tried(customer: Customer, name: str = "default", **asked: Any) -> dict[str, Any]:
    """What comes of trying a connection."""
    answered = await call(customer, "POST", name, action="/test", json_body=asked)
    assert 200 == answered.status, answered.body
    assert answered.json["ok"] == ("code" not in answered.json)
    return answered.json


async def test_a_customer_is_onboarded_and_served(customer: Customer):
    """201 with where it is, 200 for the next version; a job then runs on what was kept."""
    made = await put(customer)
    again = await put(customer, default_model="gpt-5")
    result = await customer.run()

    path = f"/api/customers/{customer.name}/connections/default"
    assert (201, path, 200) == (made.status, made.headers["Location"], again.status)
    assert made.json["version"] != again.json["version"]
    assert ("succeeded", "gpt-5") == (result["status"], result["model"])
    _, kept = customer.world.vault.secrets.get(f"ai--{customer.name}--default")
    assert members(customer, default_model="gpt-5") | {"auth": "api_key"} == json.loads(kept.value)
    assert "application/json" == kept.content_type


async def test_this_worker_uses_what_was_put_at_once(customer: Customer):
    """A job after the PUT runs on the new version, though the old one was in memory; likewise after a DELETE."""
    await put(customer, default_model="old")
    first = await customer.run()
    await put(customer, default_model="new")
    second = await customer.run()
    await call(customer, "DELETE")
    third = await customer.run()

    assert ["old", "new"] == [first["model"], second["model"]]
    assert "connection_not_found" == third["error"]["code"]


async def test_what_is_being_read_while_it_is_put_is_not_kept(customer: Customer):
    """A read that began before the PUT serves whoever waits for it, and nobody after it."""
    world, connections = customer.world, customer.world.services.connections
    world.connect(customer, default_model="old")
    came, go = asyncio.Event(), asyncio.Event()

    async def around(request: Any, handler: Any) -> Any:
        answer = await handler(request)
        if customer.name in request.path and not came.is_set():
            came.set()
            await go.wait()
        return answer

    world.vault.read_middleware = around
    try:
        reading = asyncio.create_task(connections.resolve(customer.name, "default"))
        await came.wait()
        await put(customer, default_model="new")
        go.set()
        before, after = await reading, await connections.resolve(customer.name, "default")
    finally:
        world.vault.read_middleware = None

    assert ("old", "new") == (before.default_model, after.default_model)


@pytest.mark.parametrize(
    ("others", "says"),
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
async def test_what_would_not_serve_is_not_kept(customer: Customer, others: dict[str, Any], says: str):
    """422 in the words that a job would fail with, naming the member and none of the values; nothing is kept."""
    given = {
        name: value for name, value in members(customer, **({"api_key": KEY} | others)).items() if value is not None
    }
    refused = await call(customer, "PUT", json_body=given)

    assert (422, "connection_invalid") == (refused.status, refused.json["code"])
    assert says in refused.json["detail"]
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
async def test_what_is_no_object_is_refused(customer: Customer, body: bytes, headers: dict[str, str], status: int):
    """A bare key is none over HTTP; what can't be read, or kept, is refused without a word of it."""
    refused = await call(customer, "PUT", body=body, headers=headers)

    assert (status, "application/problem+json") == (refused.status, refused.media_type)
    assert KEY.encode() not in refused.body


@pytest.mark.parametrize(("name", "there"), [("Default", False), ("a--b", False), ("x" * 51, False), ("x" * 50, True)])
async def test_names_are_the_contracts(world: World, name: str, there: bool):
    """A name that is none is refused; the longest pair of names fits a secret's name."""
    customer = world.customer(connection=None)
    customer.name = f"{customer.name}-{'y' * (49 - len(customer.name))}"
    kept = await put(customer, name)
    found = await call(customer, "GET", name)

    assert ((201, 200) if there else (400, 404)) == (kept.status, found.status)


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


@pytest.mark.parametrize("given", ENDPOINTS, ids=str)
async def test_settings_that_are_shown_can_be_put(customer: Customer, given: dict[str, Any]):
    """What GET shows, with the key again, is a connection that means the same."""
    given = {"api_key": KEY, "default_model": "m"} | given
    made = await call(customer, "PUT", json_body=given)
    shown = await call(customer, "GET")
    keyless = {name: value for name, value in given.items() if name == "api_key" and given.get("auth") != "entra"}
    again = await call(customer, "PUT", json_body=shown.json["settings"] | keyless)
    connections = customer.world.services.connections

    assert (201, 200) == (made.status, again.status), again.body
    assert made.json["settings"] == shown.json["settings"] == again.json["settings"]
    assert {"default_model": "m"}.items() <= shown.json["settings"].items()
    assert "api_key" not in shown.json["settings"]
    assert (await connections.resolve(customer.name, "default")).endpoint.url("chat/completions", "m")


async def test_a_connection_is_shown_with_all_but_its_key(world: World):
    """Settings, version and dates; also of a bare key with tags. It has an ETag."""
    customer = world.customer(connection=None)
    tags = {"endpoint": "https://r.openai.azure.com", "default_model": "m", "team": "ours"}
    attributes = {"exp": 4_000_000_000}
    world.keep(f"ai--{customer.name}--spare", KEY, tags=tags, attributes=attributes)
    shown = await call(customer, "GET", "spare")
    known = await call(customer, "GET", "spare", headers={"if-none-match": shown.headers["ETag"]})

    assert ("spare", True, "2096-10-02T07:06:40.000Z") == tuple(
        shown.json[name] for name in ("name", "enabled", "expires_on")
    )
    expected = {"endpoint": "https://r.openai.azure.com/openai", "provider": "azure_openai", "auth": "api_key"}
    assert expected | {"default_model": "m"} == shown.json["settings"]
    assert {"version", "created_at", "updated_at"} <= set(shown.json)
    assert KEY.encode() not in shown.body
    assert 304 == known.status


@pytest.mark.parametrize(
    ("value", "attributes", "code"),
    [
        (KEY, {}, "connection_invalid"),
        (f'{{"api_key": "{KEY}", "endpoint": "{KEY}"}}', {}, "connection_invalid"),
        (f'{{"api_key": "{KEY}", "endpoint": "https://a.example/v1", "provider": "openai"}}', {}, "connection_invalid"),
        (f'{{"api_key": "{KEY}", "endpoint": "https://r.openai.azure.com"}}', {"enabled": False},
         "connection_disabled"),
        (f'{{"api_key": "{KEY}", "endpoint": "https://r.openai.azure.com"}}', {"exp": 1_600_000_000},
         "connection_expired"),
        (f'{{"api_key": "{KEY}", "endpoint": "https://r.openai.azure.com"}}', {"nbf": 4_000_000_000},
         "connection_expired"),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_connection_is_shown(
    customer: Customer, value: str, attributes: dict[str, Any], code: str
):
    """GET and a trial say what a job would end with, without a value; nothing is sent."""
    customer.world.keep(f"ai--{customer.name}--default", value, attributes=attributes)
    shown = await call(customer, "GET")
    found = await tried(customer)
    job = await customer.run()

    assert (200, code, code, code) == (shown.status, shown.json["error"]["code"], found["code"], job["error"]["code"])
    assert shown.json["enabled"] == attributes.get("enabled", True)
    assert job["error"]["message"] == found["message"]
    assert KEY not in shown.body.decode() + json.dumps(found)


async def test_a_key_in_a_wrong_member_is_not_shown(customer: Customer):
    """Whatever member repeats the key, it does not come out."""
    given = members(customer, api_key=KEY, default_model=KEY, organization=f"org-{KEY}")
    given["endpoint"] += f"#{KEY}"
    answers = [await call(customer, "PUT", json_body=given), await call(customer, "GET")]

    assert "***" == answers[1].json["settings"]["default_model"]
    assert [] == [one.body for one in answers if KEY.encode() in one.body]


@pytest.mark.parametrize(
    ("key", "address"),
    [
        (KEY, f"https://{KEY}.openai.azure.com/openai/v1"),
        ("Ab+CdEf0123456789==", "https://r.openai.azure.com/openai/deployments/Ab%2BCdEf0123456789%3D%3D"),
        ("Ab+Cd:Ef0123456789==", "https://r.openai.azure.com/openai/deployments/Ab%2BCd%3AEf0123456789%3D%3D"),
    ],
)
async def test_a_key_in_the_address_is_not_shown(customer: Customer, key: str, address: str):
    """Neither as a host, which is written in lower case, nor as a deployment, however it is encoded."""
    given = {"api_key": key, "endpoint": address, "default_model": "m"}
    answers = [await call(customer, "PUT", json_body=given), await call(customer, "GET")]

    assert [201, 200] == [one.status for one in answers]
    assert all(b"***" in one.body for one in answers)
    spellings = {key.lower(), quote(key, safe="").lower(), encode_segment(key).lower()}
    assert [] == [one for one in answers for text in spellings if text in one.body.decode().lower()]


async def test_a_trial_does_not_show_a_key_that_is_the_host(customer: Customer):
    """The sentence of a host that can't be reached names it, and so it would name the key."""
    key = "MARKED0123456789KEY"
    await put(customer, api_key=key, endpoint=f"https://{key}.openai.azure.com/openai/v1", default_model=key)
    found = await tried(customer)

    assert ("provider_unavailable", None, "***") == (found["code"], found.get("status"), found["model"])
    assert key.lower() not in json.dumps(found).lower()


async def test_a_trials_answer_of_millions_of_lists_is_no_answer(customer: Customer):
    """What would take twenty times its size to read is not read; the call is on record."""
    await put(customer)
    customer.account.will_answer(reply(b'{"choices": [' + b"[]," * 2_000_000 + b"[]]}"))
    found = await tried(customer)

    assert ("provider_unavailable", 200) == (found["code"], found["status"])
    assert 1 == len(await customer.usage())


async def test_connections_are_listed_without_reading_one(world: World):
    """All of a customer's, over the pages of the vault, and none of others; no value is read."""
    customer = world.customer(connection=None)
    names = {f"c{number}" for number in range(30)}
    for name in names:
        world.connect(customer, name)
    world.keep(f"ai--{customer.name}x--other", "x")
    world.keep(f"webhook--{customer.name}", "x")
    world.vault.secrets.update(f"ai--{customer.name}--c7", "", {"attributes": {"enabled": False}})
    reads = world.vault.reads.total()
    listed = await knock(world, "GET", f"customers/{customer.name}/connections")
    nobody = await knock(world, "GET", "customers/nobody-at-all/connections")

    assert sorted(names) == [one["name"] for one in listed.json["connections"]]
    assert ["c7"] == [one["name"] for one in listed.json["connections"] if not one["enabled"]]
    assert (200, {"connections": []}) == (nobody.status, nobody.json)
    assert reads == world.vault.reads.total()
    assert customer.account.key.encode() not in listed.body


async def test_a_connection_is_removed(customer: Customer):
    """204, then 404; its name can be put again, over what the vault still keeps of it."""
    await put(customer)
    removed, gone, absent = [await call(customer, method) for method in ("DELETE", "DELETE", "GET")]
    again = await put(customer)
    result = await customer.run()

    assert (204, b"", 404, 404) == (removed.status, removed.body, gone.status, absent.status)
    assert (201, "succeeded") == (again.status, result["status"])
    assert [] == [name for name in customer.world.vault.secrets.deleted if customer.name in name]


async def test_a_change_can_depend_on_what_is_there(customer: Customer):
    """`If-None-Match: *` makes, and never replaces; `If-Match` changes only what has that tag; else 412."""
    absent = await put(customer, headers={"if-match": "*"})
    made = await put(customer, headers={"if-none-match": "*"})
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
    removed = await call(customer, "DELETE", headers={"if-match": "*"})
    gone = await call(customer, "DELETE", headers={"if-match": "*"})

    assert (412, 201, tag) == (absent.status, made.status, same.headers["ETag"])
    assert {(412, "precondition_failed")} == {(one.status, one.json["code"]) for one in refused}
    assert (200, 412, 200) == (changed.status, stale.status, newest.status)
    assert (204, 404) == (removed.status, gone.status)


@pytest.mark.parametrize("deleted", [False, True])
async def test_what_was_switched_off_stays_so(customer: Customer, deleted: bool):
    """A suspended connection can't be put over, nor by deleting it first."""
    world, name = customer.world, f"ai--{customer.name}--default"
    await put(customer)
    world.vault.secrets.update(name, "", {"attributes": {"enabled": False}})
    if deleted:
        await call(customer, "DELETE")
    refused = await put(customer)
    result = await customer.run()

    assert (422, "connection_disabled") == (refused.status, refused.json["code"])
    assert "enabled in Key Vault" in refused.json["detail"]
    assert "connection_disabled" == result["error"]["code"]


async def test_a_vault_that_may_not_be_written_names_the_role(customer: Customer, caplog: pytest.LogCaptureFixture):
    """503 with the role that the app's identity needs; what needs no such role works."""
    customer.world.connect(customer, "known")
    customer.world.vault.read_only = True
    try:
        kept, removed = await put(customer), await call(customer, "DELETE", "known")
        shown = await call(customer, "GET", "known")
        listed = await knock(customer.world, "GET", f"customers/{customer.name}/connections")
    finally:
        customer.world.vault.read_only = False

    assert (503, 503, 200, 200) == (kept.status, removed.status, shown.status, listed.status)
    assert "Key Vault Secrets Officer" in kept.json["detail"]
    assert "Key Vault Secrets Officer" in removed.json["detail"]
    assert "Retry-After" not in kept.headers
    assert "request_failed route=put_connection Problem Key Vault does not allow the app to write" in caplog.text
    assert customer.account.key not in caplog.text


@pytest.mark.parametrize(("method", "action"), [("PUT", ""), ("GET", ""), ("DELETE", ""), ("POST", "/test")])
async def test_a_vault_that_is_down_is_said_to_be(customer: Customer, method: str, action: str):
    """503 with when to try again."""
    customer.world.vault.outage = True
    try:
        refused = await call(customer, method, action=action, json_body=members(customer) if method == "PUT" else {})
    finally:
        customer.world.vault.outage = False

    assert (503, "unavailable") == (refused.status, refused.json["code"])
    assert 0 < int(refused.headers["Retry-After"])


OUTCOMES = {
    "fine": (completion(), None, None, "answers as gpt-4o", "answered"),
    "an unfit model": (error(400, "OperationNotSupported"), None, 400, "did not take the short chat", None),
    "a filtered prompt": (error(400, "content_filter"), None, 400, "did not take the short chat", None),
    "no chat model at OpenAI": (
        reply({"error": {"message": "Not a chat model.", "param": "model", "code": None}}, status=404),
        None,
        404,
        "did not take the short chat",
        None,
    ),
    "a refused key": (error(401), "credential_rejected", 401, "", None),
    "a key without the right": (error(403), "credential_rejected", 403, "", None),
    "a firewall": (error(403, "403", "Access denied: firewall rules."), "credential_rejected", 403, "network", None),
    "no deployment": (error(404, "DeploymentNotFound"), "model_not_found", 404, "", None),
    "another path": (error(404), "request_rejected", 404, "", None),
    "a redirect": (error(302), "request_rejected", 302, "", None),
    "a web page": (reply(b"<html></html>"), "provider_unavailable", 200, "not with a chat completion", "answered"),
    "another service": (
        reply({"hello": "world"}),
        "provider_unavailable",
        200,
        "not with a chat completion",
        "answered",
    ),
    "no quota": (error(429, "insufficient_quota"), "quota_exhausted", 429, "", None),
    "a limit": (error(429, retry_after="600"), "rate_limited", 429, "", None),
    "a block": (error(403, "AccountBlocked"), "account_blocked", 403, "", None),
    "a failure": (error(500), "provider_unavailable", 500, "", None),
    "a break": (reset, "provider_unavailable", None, "", "unanswered"),
    "silence": (completion(after_s=30), "timeout", None, "", "unanswered"),
}


@pytest.mark.parametrize(("answer", "code", "status", "message", "outcome"), OUTCOMES.values(), ids=OUTCOMES.keys())
async def test_a_test_reports_what_a_job_would_end_with(
    customer: Customer,
    monkeypatch: pytest.MonkeyPatch,
    answer: Any,
    code: str | None,
    status: int | None,
    message: str,
    outcome: str | None,
):
    """It makes one call, without a retry, and reports the contract's code; what may be billed is recorded."""
    monkeypatch.setattr(probe, "PROBE_TIMEOUT_S", 1.5 if code == "timeout" else 60)
    await put(customer)
    customer.account.will_answer(answer)
    found = await tried(customer)

    assert (code, status) == (found.get("code"), found.get("status"))
    assert message in found["message"]
    assert ("azure_openai", "gpt-4o") == (found["provider"], found["model"])
    assert 0 <= found["latency_ms"] < 60_000
    (asked,) = customer.account.received
    assert ("/openai/v1/chat/completions", 1) == (asked.path, asked.json["max_tokens"])
    assert ([] if outcome is None else [outcome]) == [row["outcome"] for row in await customer.usage()]


async def test_a_trial_is_billed_as_what_it_is(customer: Customer):
    """Its record has the provider's tokens, the connection and an id of its own; each trial is a record."""
    await put(customer)
    customer.account.will_answer(completion(usage={"prompt_tokens": 8, "completion_tokens": 1}), completion())
    await tried(customer)
    await tried(customer, model="gpt-5")
    first, second = sorted(await customer.usage(), key=lambda row: row["model"])

    named = {"action": "chat", "connection": "default", "billed_to": "customer", "outcome": "answered"}
    counted = {"calls": 1, "input_tokens": 8, "output_tokens": 1, "reported": True}
    assert (named | counted).items() <= first.items()
    assert ("gpt-4o", "gpt-5") == (first["model"], second["model"])
    assert first["job_id"].startswith("connection-test-")
    assert first["job_id"] != second["job_id"]
    assert ("req-1", "gpt-4o-2024-08-06") == (first["request_id"], first["answered_by"])


def room(world: World) -> ConnectionsResource:
    """The room that answers for connections."""
    return world.services.http.handlers["put_connection"].__self__


async def test_a_trial_that_can_not_be_recorded_is_not_made(customer: Customer):
    """Storage is asked before the endpoint: where it is down, nothing is sent."""
    await put(customer)
    own = replace(room(customer.world).probe, table=MemoryTable(down=True))
    connection = await customer.world.services.connections.resolve(customer.name, "default")

    with pytest.raises(StorageUnavailable):
        await own.run(connection, None)
    assert [] == customer.account.received


@pytest.mark.parametrize("faults", [[Fault.TWICE], [None, Fault.TWICE], [None, Fault.LOST], [None, Fault.REFUSED]])
async def test_a_trial_is_on_record_whatever_storage_does(customer: Customer, faults: list[Fault | None]):
    """Where an answer of Storage gets lost, or the second change is refused, there is one record all the same."""
    await put(customer)
    table = MemoryTable(faults=deque(faults))
    own = replace(room(customer.world).probe, table=table)
    connection = await customer.world.services.connections.resolve(customer.name, "default")
    with contextlib.suppress(StorageUnavailable):
        assert (await own.run(connection, None)).ok

    (row,) = counted(row for _, row in sorted(table.rows.items()))
    assert ("unanswered" if Fault.REFUSED in faults else "answered") == row.values["outcome"]


async def test_a_reasoning_model_is_asked_in_its_words(customer: Customer):
    """`max_tokens` refused by name becomes `max_completion_tokens`, once; the next trial, and job, know it."""
    await put(customer, default_model=f"o-{customer.name}")
    refusal = {
        "message": "Unsupported parameter: 'max_tokens' is not supported with this model.",
        "type": "invalid_request_error",
        "param": "max_tokens",
        "code": "unsupported_parameter",
    }
    customer.account.will_answer(reply({"error": refusal}, status=400))
    first, second = await tried(customer), await tried(customer)
    job = await customer.run(input={"prompt": "Hello?", "parameters": {"max_tokens": 1}})

    assert (True, True, "succeeded") == (first["ok"], second["ok"], job["status"])
    bodies = [one.json for one in customer.account.received]
    assert [1, None, None, None] == [body.get("max_tokens") for body in bodies]
    assert [None, 1, 1, 1] == [body.get("max_completion_tokens") for body in bodies]
    assert 3 == len(await customer.usage())


async def test_without_a_model_the_list_of_models_is_asked_for(customer: Customer):
    """It costs nothing and leaves no record; a refused key shows all the same."""
    await call(customer, "PUT", json_body={k: v for k, v in members(customer).items() if k != "default_model"})
    customer.account.will_answer(reply({"object": "list", "data": []}), error(401), reply({"no": "list"}))
    found = [await tried(customer) for _ in range(3)]

    assert [None, "credential_rejected", "provider_unavailable"] == [one.get("code") for one in found]
    assert "model" not in found[0]
    assert {("GET", "/openai/v1/models")} == {(one.method, one.path) for one in customer.account.received}
    assert [] == await customer.usage()


async def test_a_model_is_needed_where_there_is_no_list(customer: Customer):
    """Foundry's older route can only be tried with a model: 400 says so."""
    endpoint = f"{customer.world.endpoint.url}/models"
    await call(
        customer,
        "PUT",
        json_body={"endpoint": endpoint, "provider": "foundry", "api_key": customer.account.key},
    )
    refused = await call(customer, "POST", action="/test")

    assert (400, "invalid_request") == (refused.status, refused.json["code"])
    assert "`model` is missing" in refused.json["detail"]
    assert (await tried(customer, model="phi"))["ok"]


async def test_a_trial_goes_to_the_endpoints_deployment(customer: Customer):
    """The deployment that the endpoint names is tried, and another one can't be asked for."""
    url = f"{customer.world.endpoint.url}/openai/deployments/own/chat/completions?api-version=2024-10-21"
    await put(customer, endpoint=url)
    found = await tried(customer)
    refused = await call(customer, "POST", action="/test", json_body={"model": "another"})

    assert (True, "own") == (found["ok"], found["model"])
    assert (400, "invalid_request") == (refused.status, refused.json["code"])
    assert "`model` must be own" in refused.json["detail"]
    (asked,) = customer.account.received
    assert "/openai/deployments/own/chat/completions" == asked.path


async def test_an_address_that_may_not_be_called_is_told_apart(customer: Customer):
    """A name that is allowed and leads where nobody may call is seen at the socket; no record stays."""
    await put(customer)
    connection = await customer.world.services.connections.resolve(customer.name, "default")
    transport = UpstreamClient(customer.world.services.identity, allow_local=False)
    try:
        found = await replace(room(customer.world).probe, client=transport).run(connection, None)
    finally:
        await transport.close()

    assert "connection_invalid" == found.code
    assert "not allowed" in found.message
    assert [] == customer.account.received
    assert [] == await customer.usage()


@pytest.mark.parametrize("body", [b"[]", b'{"modle": "x"}', b'{"model": 1}', b"{", b"\xff"])
async def test_a_trial_that_can_not_be_read_is_refused(customer: Customer, body: bytes):
    """400; an empty body is fine, unless the host has made it so of one in chunks."""
    await put(customer)
    refused = await call(customer, "POST", action="/test", body=body)
    plain = await call(customer, "POST", action="/test")

    chunked = await call(customer, "POST", action="/test", headers={"transfer-encoding": "chunked"})

    assert (400, "invalid_request") == (refused.status, refused.json["code"])
    assert "The job" not in refused.json["detail"]
    assert 200 == plain.status
    assert (400, True) == (chunked.status, "Content-Length" in chunked.json["detail"])


@pytest.mark.parametrize("model", ["", " \t", "x" * 201, "x" * 40_000])
async def test_a_trials_model_is_checked_as_a_jobs(customer: Customer, model: str):
    """What no job could name is refused by name; nothing is asked or recorded."""
    await put(customer)
    refused = await call(customer, "POST", action="/test", json_body={"model": model})

    assert (400, "invalid_request") == (refused.status, refused.json["code"])
    assert refused.json["detail"].startswith("`model` must be")
    assert ([], []) == (customer.account.received, await customer.usage())


async def test_without_a_connection_nothing_is_tried(customer: Customer):
    """404."""
    assert 404 == (await call(customer, "POST", action="/test")).status


async def test_an_app_without_a_vault_says_so(customer: Customer):
    """503 with the setting's name."""
    own = replace(room(customer.world), vault=None)
    request = Request("GET", "", {"customer": customer.name, "name": "default"})

    with pytest.raises(Problem, match="KEY_VAULT_URL") as refused:
        await own.read(request, Caller())
    assert (503, "unavailable") == (refused.value.status, refused.value.code)


QUOTED = {"error": {"code": "x", "message": f"You sent {KEY}."}}


@pytest.mark.parametrize(
    "answer", [reply(QUOTED, status=status) for status in (400, 401, 403, 404, 429, 500)] + [completion(f"It is {KEY}")]
)
async def test_the_key_stays_inside(customer: Customer, caplog: pytest.LogCaptureFixture, capfd: Any, answer: Any):
    """Of everything that is answered, logged and kept in tables, nothing has the key, whatever the endpoint quotes."""
    caplog.set_level(logging.DEBUG)
    customer.world.endpoint.accounts[KEY] = customer.account
    customer.account.will_answer(answer)
    answers = [
        await put(customer, api_key=KEY),
        await call(customer, "GET"),
        await knock(customer.world, "GET", f"customers/{customer.name}/connections"),
        await call(customer, "POST", action="/test"),
        await put(customer, api_key=KEY, provider="openai", endpoint="https://evil.example"),
        await call(customer, "DELETE"),
    ]

    assert customer.account.received
    leaks = {
        "answers": "\n".join(f"{one.body.decode()} {one.headers}" for one in answers),
        "rows": repr(await customer.rows()),
        "log": "\n".join(texts(caplog)),
        "output": "".join(capfd.readouterr()),
    }
    assert [] == [where for where, text in leaks.items() if KEY in text]


def principal(*roles: str, customer: str = "") -> dict[str, str]:
    """The header in which App Service tells of a token."""
    claims = [{"typ": "roles", "val": role} for role in roles]
    claims += [{"typ": "customer", "val": customer}] if customer else []
    return {"x-ms-client-principal": base64.b64encode(json.dumps({"claims": claims}).encode()).decode()}


async def test_a_token_needs_the_role_and_its_own_customer(customer: Customer):
    """403 without Connections.Write; another customer's connections can neither be seen nor touched."""
    world = customer.world
    door = world.services.http
    settings = replace(door.settings, http_auth="entra", website_auth_enabled=True)
    object.__setattr__(world.services, "http", replace(door, settings=settings))
    routes = [("PUT", ""), ("GET", ""), ("DELETE", ""), ("POST", "/test")]
    body = {"api_key": KEY, "endpoint": "https://r.openai.azure.com"}

    async def statuses(headers: dict[str, str]) -> list[int]:
        answers = [
            await call(customer, method, action=action, headers=headers, json_body=body if method == "PUT" else {})
            for method, action in routes
        ]
        answers.append(await knock(world, "GET", f"customers/{customer.name}/connections", headers=headers))
        return [one.status for one in answers]

    try:
        roleless = await statuses(principal("Jobs.Submit", "Billing.Read"))
        foreign = await statuses(principal("Connections.Write", customer="another"))
        assert 404 == (await call(customer, "GET", headers=principal("Connections.Write"))).status
        own = await statuses(principal("Connections.Write", customer=customer.name))
    finally:
        del world.services.__dict__["http"]

    assert [403] * 5 == roleless
    assert [403, 404, 403, 403, 404] == foreign
    assert [201, 200, 204, 404, 200] == own


def samples() -> list[tuple[str, str, Any, int, Any]]:
    """The requests of the docs, each with the response that is shown for it."""
    blocks = re.findall(r"^```http\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    found = []
    for asked, answered in zip(blocks[::2], blocks[1::2], strict=True):
        method, path = asked.split()[:2]
        told = asked.partition("\n\n")[2].strip()
        shown = answered.partition("\n\n")[2].strip()
        found.append((method, path, told and json.loads(told), int(answered.split()[1]), shown and json.loads(shown)))
    return found


async def test_the_docs_requests_are_answered_as_shown(world: World):
    """Every request on the page, in its order, has the shown status, and a body with the shown members."""
    contoso = world.customer(connection=None)  # under another name: pages share the vault with other tests
    shown = samples()

    assert {"PUT", "GET", "POST", "DELETE"} == {method for method, *_ in shown}
    for method, path, told, status, expected in shown:
        if path.endswith("/test"):  # the page's endpoint is not ours to call
            world.connect(contoso)
        own = path.removeprefix("/api/").replace("contoso", contoso.name)
        answered = await knock(world, method, own, json_body=told or None)
        assert status == answered.status, answered.body
        if expected:
            assert _shape(expected) <= _shape(answered.json)


def _shape(value: Any, at: str = "") -> set[str]:
    if isinstance(value, dict):
        return {f"{at}.{name}" for name in value} | {
            path for name, one in value.items() for path in _shape(one, f"{at}.{name}")
        }
    return {path for one in value for path in _shape(one, f"{at}[]")} if isinstance(value, list) else set()
