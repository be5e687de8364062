"""Customer and name to a connection: parsed from one secret, and never another customer's."""

from __future__ import annotations

import json
import re
import traceback
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.clock import now
from shared.connections.connection import CLAUDE_VERSION, Connection
from shared.connections.resolver import Connections
from shared.contract.job import Options
from shared.contract.result import ConnectionLabel
from shared.errors import (
    ConnectionDisabled,
    ConnectionExpired,
    ConnectionFault,
    ConnectionInvalid,
    ConnectionNotFound,
    InvalidJob,
    SettingInvalid,
)
from shared.secret import Secret
from shared.upstream.messages import Access, ApiKey, EntraAccess
from tests.support.credential_store import (
    ENDPOINT,
    KEY,
    OPERATORS,
    MemoryCredentials,
    key_of,
    settings,
)
from tests.support.manual_clock import ManualClock


async def test_a_connection_has_the_members_of_its_secret(connections: Connections, store: MemoryCredentials) -> None:
    """Every member of the JSON is in the connection, with the names of customer and connection; no repr has the key."""
    members = {
        "endpoint": "https://contoso.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21",
        "api_key": KEY,
        "default_model": "gpt-4o",
        "batch_model": "gpt-4o-batch",
        "max_concurrency": 3,
        "monthly_budget": 12.5,
    }
    store.put("contoso", "spare", json.dumps(members), version="v1")

    connection = await connections.resolve("contoso", "spare")

    label = ConnectionLabel(name="spare", source="key_vault", provider="azure_openai", billed_to="customer")
    expected = {
        "customer": "contoso",
        "name": "spare",
        "source": "key_vault",
        "version": "v1",
        "access": ApiKey("api-key", Secret(KEY)),
        "default_model": "gpt-4o",
        "batch_model": "gpt-4o-batch",
        "max_concurrency": 3,
        "monthly_budget": 12.5,
    }
    assert expected == {name: getattr(connection, name) for name in expected}
    assert ("gpt", "2024-10-21") == (connection.endpoint.deployment, connection.endpoint.api_version)
    assert {} == connection.headers()
    assert label == connection.label()
    assert KEY not in f"{connection!r} {connection} {vars(connections)!r} {store.secrets!r}"
    assert "***" in repr(connection)


OPENAI_MEMBERS = {"organization": "org-1", "project": "proj-1"}


async def test_openai_members_are_headers(connections: Connections, store: MemoryCredentials) -> None:
    """OpenAI gets its organization and its project, from JSON and from tags."""
    store.put("contoso", "json", json.dumps({"api_key": "sk-1", **OPENAI_MEMBERS}))
    store.put("contoso", "tags", "sk-1", tags=OPENAI_MEMBERS)

    for name in ("json", "tags"):
        connection = await connections.resolve("contoso", name)
        assert {"OpenAI-Organization": "org-1", "OpenAI-Project": "proj-1"} == connection.headers()


@pytest.mark.parametrize(
    ("endpoint", "members", "words"),
    [
        (ENDPOINT, {"scope": "https://contoso.com/.default"}, "`scope` is for `auth` entra, but its `auth` is api_key"),
        (ENDPOINT, {"tenant_id": "contoso.com"}, "`tenant_id` is for `auth` entra, but its `auth` is api_key"),
        ("https://api.openai.com/v1", {"api_version": "2024-10-21"}, "`api_version` is Azure's, but its `endpoint` is"),
    ],
)
async def test_members_without_effect_are_refused(
    connections: Connections, store: MemoryCredentials, endpoint: str, members: dict[str, str], words: str
) -> None:
    """Whoever set one expects something else. If the secret is a bare key, a tag may be the vault owner's own."""
    store.put("contoso", "json", json.dumps({"endpoint": endpoint, "api_key": KEY, **members}))
    store.put("contoso", "tags", KEY, tags={"endpoint": endpoint, **members})

    with pytest.raises(ConnectionInvalid, match=words):
        await connections.resolve("contoso", "json")

    assert KEY == key_of(await connections.resolve("contoso", "tags"))


@pytest.mark.parametrize("endpoint", [ENDPOINT, "contoso-ai", "https://r.services.ai.azure.com/models"])
@pytest.mark.parametrize(
    ("member", "advice"), [("organization", "leave it out."), ("project", "/api/projects/PROJECT.")]
)
async def test_openai_members_are_refused_elsewhere(
    connections: Connections, store: MemoryCredentials, endpoint: str, member: str, advice: str
) -> None:
    """Azure would ignore them, so whoever set them expects something else. A tag may be the vault owner's own."""
    record = {"endpoint": endpoint, "api_key": KEY, member: "alpha"}
    store.put("contoso", "json", json.dumps(record))
    store.put("contoso", "tags", KEY, tags={"endpoint": endpoint, member: "alpha"})

    with pytest.raises(ConnectionInvalid, match=f"`{member}` is OpenAI's, but its `endpoint` is not") as refused:
        await connections.resolve("contoso", "json")

    assert str(refused.value).endswith(advice)
    assert {} == (await connections.resolve("contoso", "tags")).headers()


async def test_claudes_version_is_the_apps(connections: Connections, store: MemoryCredentials) -> None:
    """It is in a header. Whoever sets Azure's expects something else, but a tag may be the vault owner's own."""
    record = {"endpoint": "https://api.anthropic.com", "api_key": KEY, "api_version": "2024-10-21"}
    store.put("contoso", "json", json.dumps(record))
    store.put("contoso", "tags", KEY, tags={name: text for name, text in record.items() if name != "api_key"})

    with pytest.raises(ConnectionInvalid, match="`api_version` is Azure's, but its `endpoint` is Claude's"):
        await connections.resolve("contoso", "json")

    connection = await connections.resolve("contoso", "tags")
    assert {"anthropic-version": CLAUDE_VERSION} == connection.headers()
    assert "https://api.anthropic.com/v1/messages" == connection.endpoint.url("messages", "m")


async def test_no_identity_for_anthropic(connections: Connections, store: MemoryCredentials) -> None:
    """Its own API takes no Entra tokens, and must get none."""
    record = {"endpoint": "https://api.anthropic.com", "auth": "entra", "scope": "https://ai.azure.com/.default"}
    store.put("contoso", "default", json.dumps(record), tags={"entra_host": "api.anthropic.com"})

    with pytest.raises(ConnectionInvalid, match="`auth` entra, the `endpoint` must have a host of Microsoft's"):
        await connections.resolve("contoso", "default")


TAGS = {"endpoint": ENDPOINT, "default_model": "gpt-4o", "max_concurrency": "2", "owner": "team blue"}


@pytest.mark.parametrize(
    ("value", "tags", "base", "access", "model", "concurrency"),
    [
        (f" {KEY}\n", TAGS, ENDPOINT, ApiKey("api-key", Secret(KEY)), "gpt-4o", 2),
        ("sk-long", {}, "https://api.openai.com/v1", ApiKey("authorization", Secret("sk-long")), None, 16),
        ("sk-ant-1", {}, "https://api.anthropic.com/v1", ApiKey("x-api-key", Secret("sk-ant-1")), None, 16),
        (
            KEY,
            {"endpoint": "https://contoso.services.ai.azure.com/anthropic", "default_model": "claude"},
            "https://contoso.services.ai.azure.com/anthropic/v1",
            ApiKey("x-api-key", Secret(KEY)),
            "claude",
            16,
        ),
        (
            json.dumps({"endpoint": "https://contoso.services.ai.azure.com/anthropic", "auth": "entra"}),
            {"entra_host": "contoso.services.ai.azure.com"},
            "https://contoso.services.ai.azure.com/anthropic/v1",
            EntraAccess("https://ai.azure.com/.default", None),
            None,
            16,
        ),
        (
            json.dumps({"endpoint": ENDPOINT, "auth": "entra", "tenant_id": "contoso.onmicrosoft.com"}),
            {"entra_host": "contoso.openai.azure.com", "entra_tenant": "contoso.onmicrosoft.com"},
            ENDPOINT,
            EntraAccess("https://ai.azure.com/.default", "contoso.onmicrosoft.com"),
            None,
            16,
        ),
    ],
    ids=[
        "bare key with tags",
        "bare OpenAI key",
        "bare key of Anthropic",
        "bare key of Foundry",
        "Entra for Claude",
        "Entra",
    ],
)
async def test_the_forms_of_a_secret(
    connections: Connections,
    store: MemoryCredentials,
    value: str,
    tags: dict[str, str],
    base: str,
    access: Access,
    model: str | None,
    concurrency: int,
) -> None:
    """
    A secret that is only the key, as rotation functions write it, has its settings in its tags; a key that begins with
    `sk-` needs none; with `auth` entra, as its tags allow, there is a scope and the customer's tenant, without a key.
    """
    store.put("contoso", value=value, tags=tags)

    connection = await connections.resolve("contoso", "default")

    assert (base, access) == (connection.endpoint.base, connection.access)
    assert (model, concurrency) == (connection.default_model, connection.concurrency)


def record(**members: object) -> dict[str, str]:
    """The attributes of a secret with these members beside or instead of a valid connection's."""
    values = {"endpoint": ENDPOINT, "api_key": KEY} | members
    return {"value": json.dumps({name: value for name, value in values.items() if value is not None})}


def entra(**members: object) -> dict[str, str]:
    """The attributes of a secret without a key."""
    return record(api_key=None, auth="entra", **members)


FAULTS: dict[str, tuple[dict[str, Any], type[ConnectionFault], str]] = {
    "disabled": ({"enabled": False}, ConnectionDisabled, "connection default is disabled"),
    "expired": ({"expires_on": datetime(2020, 1, 1, tzinfo=UTC)}, ConnectionExpired, "has expired"),
    "not yet valid": ({"not_before": now() + timedelta(days=1)}, ConnectionExpired, "is not valid yet"),
    "malformed": ({"value": "{"}, ConnectionInvalid, ""),
    "empty": ({"value": ""}, ConnectionInvalid, ""),
    "no key": (record(api_key=None), ConnectionInvalid, "`api_key`"),
    "unknown member": (record(extra=1), ConnectionInvalid, ""),
    "line break in the key": (record(api_key=f"{KEY}\n{KEY}"), ConnectionInvalid, ""),
    "key in the wrong member": (record(provider=KEY), ConnectionInvalid, ""),
    "no endpoint": (record(endpoint=None), ConnectionInvalid, "`endpoint`"),
    "tag that is no number": (
        {"value": KEY, "tags": {"endpoint": ENDPOINT, "max_concurrency": "many"}},
        ConnectionInvalid,
        "`max_concurrency`",
    ),
    "host that is not allowed": (
        record(endpoint="https://evil.example/openai/v1", provider="azure_openai"),
        ConnectionInvalid,
        "ALLOWED_ENDPOINT_SUFFIXES",
    ),
    "host on this machine": (
        record(endpoint="http://127.0.0.1:8080/openai/v1", provider="azure_openai"),
        ConnectionInvalid,
        "ALLOW_LOCAL_ENDPOINTS",
    ),
    "scope of the vault": (entra(scope="https://vault.azure.net/.default"), ConnectionInvalid, "ALLOWED_SCOPES"),
    "scope of Storage": (entra(scope="https://storage.azure.com/.default"), ConnectionInvalid, "ALLOWED_SCOPES"),
    "no scope": (entra(scope="x"), ConnectionInvalid, "ALLOWED_SCOPES"),
    "token for OpenAI": (entra(endpoint="https://api.openai.com/v1"), ConnectionInvalid, "takes no Entra tokens"),
}


@pytest.mark.parametrize(("attributes", "error", "words"), FAULTS.values(), ids=FAULTS)
async def test_each_fault_of_a_secret_has_its_own_error(
    store: MemoryCredentials, clock: ManualClock, attributes: dict[str, Any], error: type[ConnectionFault], words: str
) -> None:
    """An unusable secret raises its own error each time, and the static connection is not used instead."""
    store.put("contoso", **attributes)
    static = settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION="*")
    connections = Connections(static, store, clock=clock)

    for _ in range(2):
        with pytest.raises(error) as raised:
            await connections.resolve("contoso", "default")

        shown = "".join(traceback.format_exception(raised.value))
        assert KEY not in shown
        assert words in str(raised.value)
        assert error.code == raised.value.code


async def test_the_operators_suffixes_replace_the_default(store: MemoryCredentials, clock: ManualClock) -> None:
    """ALLOWED_ENDPOINT_SUFFIXES allows a gateway's domain, and nothing else."""
    connections = Connections(settings(ALLOWED_ENDPOINT_SUFFIXES="ai.contoso.com"), store, clock=clock)
    value = {"endpoint": "https://gate.ai.contoso.com/openai/v1", "api_key": KEY, "provider": "azure_openai"}
    store.put("contoso", value=json.dumps(value))
    store.put("fabrikam")

    connection = await connections.resolve("contoso", "default")

    assert "gate.ai.contoso.com" == connection.endpoint.host
    with pytest.raises(ConnectionInvalid, match="ALLOWED_ENDPOINT_SUFFIXES"):
        await connections.resolve("fabrikam", "default")


@pytest.mark.parametrize("with_vault", [True, False])
async def test_the_static_connection_serves_the_allowed_customers(
    store: MemoryCredentials, clock: ManualClock, with_vault: bool
) -> None:
    """
    Only allowed customers use the operator's account, under the name `default`, and the label says so. Without a vault
    there is no other connection.
    """
    static = settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION="contoso")
    connections = Connections(static, store if with_vault else None, clock=clock)

    connection = await connections.resolve("contoso", "default")

    assert "operators-own-key" == key_of(connection)
    assert ("static", "operator") == (connection.label().source, connection.label().billed_to)
    assert "contoso" == connection.customer
    for customer, name in (("contoso", "spare"), ("fabrikam", "default")):
        with pytest.raises(ConnectionNotFound, match=f"{customer} has no connection named {name}"):
            await connections.resolve(customer, name)


async def test_without_a_static_connection_every_customer_needs_one(clock: ManualClock) -> None:
    """Allowing all customers the operator's connection does not make one."""
    connections = Connections(settings(ALLOW_STATIC_CONNECTION="*"), None, clock=clock)

    with pytest.raises(ConnectionNotFound, match="contoso has no connection named default"):
        await connections.resolve("contoso", "default")


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        ("gpt-4o", {}, None),
        ("gpt-5", {}, "`model` must be one of gpt-4o, gpt-4o-mini: this customer uses the operator's connection"),
        ("gpt-4o", {"timeout_s": 240.5}, "`options.timeout_s` must be at most 240"),
        ("gpt-4o", {"max_retries": 6}, "`options.max_retries` must be at most 5"),
        ("gpt-4o", {"timeout_s": 240, "max_retries": 5}, None),
    ],
)
async def test_the_operators_account_has_bounds(
    store: MemoryCredentials, clock: ManualClock, model: str, options: dict[str, Any], reason: str | None
) -> None:
    """On the operator's account only the listed models run, and only so long and so often; others have no bounds."""
    named = {"STATIC_CONNECTION": OPERATORS, "ALLOW_STATIC_CONNECTION": "*", "STATIC_MODELS": "gpt-4o, gpt-4o-mini"}
    connection = await Connections(settings(**named), store, clock=clock).resolve("fabrikam", "default")
    own = replace(connection, source="key_vault", allowed_models=())

    def use(connection: Connection) -> None:
        connection.model_for(model)
        connection.check_job("chat", Options(**options))

    use(own)
    with pytest.raises(InvalidJob, match=re.escape(reason)) if reason else nullcontext():
        use(connection)


async def test_jobs_wait_for_a_static_connection_that_azure_did_not_resolve(
    store: MemoryCredentials, clock: ManualClock
) -> None:
    """The reference itself is never taken for a key: its jobs wait for the setting, and no other customer's do."""
    text = "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/operators)"
    connections = Connections(settings(STATIC_CONNECTION=text, ALLOW_STATIC_CONNECTION="*"), store, clock=clock)
    store.put("contoso")

    with pytest.raises(SettingInvalid, match="STATIC_CONNECTION is a reference"):
        await connections.resolve("fabrikam", "default")
    assert KEY == key_of(await connections.resolve("contoso", "default"))


async def test_a_customers_own_connection_replaces_the_static_one(store: MemoryCredentials, clock: ManualClock) -> None:
    """If a customer has a connection, no member of the static one is used."""
    static = json.dumps({"endpoint": ENDPOINT, "api_key": "operators-own-key", "default_model": "theirs"})
    connections = Connections(settings(STATIC_CONNECTION=static, ALLOW_STATIC_CONNECTION="*"), store, clock=clock)
    store.put("contoso")

    connection = await connections.resolve("contoso", "default")

    assert (KEY, None, "customer") == (
        key_of(connection),
        connection.default_model,
        connection.label().billed_to,
    )


@pytest.mark.parametrize(
    ("deployment", "default", "requested", "expected"),
    [
        ("gpt", None, None, "gpt"),
        ("gpt", "other", None, "gpt"),
        ("gpt", None, "gpt", "gpt"),
        ("gpt", None, "other", None),
        (None, "gpt", None, "gpt"),
        (None, "gpt", "other", "other"),
        (None, None, "gpt", "gpt"),
        (None, None, None, None),
    ],
)
async def test_the_model_of_a_job(
    connections: Connections,
    store: MemoryCredentials,
    deployment: str | None,
    default: str | None,
    requested: str | None,
    expected: str | None,
) -> None:
    """It is the endpoint's deployment, the requested model or the default; a contradiction is refused."""
    store.put("contoso")
    connection = await connections.resolve("contoso", "default")
    endpoint = replace(connection.endpoint, deployment=deployment)
    connection = replace(connection, endpoint=endpoint, default_model=default)

    if expected is None:
        with pytest.raises(InvalidJob, match="`model`"):
            connection.model_for(requested)
    else:
        assert expected == connection.model_for(requested)
