"""Customer and name to a connection: parsed from one secret, and never another customer's."""

from __future__ import annotations

import json
import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.connections.resolver import Connections
from shared.contract.job import decode_job
from shared.errors import (
    ConnectionDisabled,
    ConnectionExpired,
    ConnectionFault,
    ConnectionInvalid,
    ConnectionNotFound,
    InvalidJob,
)
from shared.secret import Secret
from shared.upstream.messages import ApiKey, EntraAccess
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
    """Every member of the JSON is in the connection, with the names of customer and connection."""
    members = {
        "endpoint": "https://contoso.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21",
        "api_key": KEY,
        "organization": "org-1",
        "project": "proj-1",
        "default_model": "gpt-4o",
        "max_concurrency": 3,
        "monthly_budget": 12.5,
    }
    store.put("contoso", "spare", json.dumps(members), version="v1")

    connection = await connections.resolve("contoso", "spare")

    assert ("contoso", "spare", "key_vault", "v1") == (
        connection.customer,
        connection.name,
        connection.source,
        connection.version,
    )
    assert ApiKey("api-key", Secret(KEY)) == connection.access
    assert ("gpt", "2024-10-21") == (connection.endpoint.deployment, connection.endpoint.api_version)
    assert {"OpenAI-Organization": "org-1", "OpenAI-Project": "proj-1"} == connection.headers()
    assert ("gpt-4o", 3, 12.5) == (
        connection.default_model,
        connection.max_concurrency,
        connection.monthly_budget,
    )
    assert ("spare", "key_vault", "azure_openai", "customer") == tuple(
        getattr(connection.label(), name) for name in ("name", "source", "provider", "billed_to")
    )


async def test_a_bare_key_takes_its_settings_from_tags(connections: Connections, store: MemoryCredentials) -> None:
    """A secret that is only the key, as rotation functions write it, has its settings in its tags."""
    tags = {"endpoint": ENDPOINT, "default_model": "gpt-4o", "max_concurrency": "2", "owner": "team blue"}
    store.put("contoso", value=f" {KEY}\n", tags=tags)

    connection = await connections.resolve("contoso", "default")

    assert KEY == key_of(connection)
    assert ("gpt-4o", 2) == (connection.default_model, connection.max_concurrency)


async def test_an_openai_key_needs_nothing_else(connections: Connections, store: MemoryCredentials) -> None:
    """A bare key that begins with `sk-` is a connection to OpenAI, sent as a bearer token."""
    store.put("contoso", value="sk-something-long")

    connection = await connections.resolve("contoso", "default")

    assert "https://api.openai.com/v1" == connection.endpoint.base
    assert ApiKey("authorization", Secret("sk-something-long")) == connection.access


async def test_an_entra_connection_has_a_scope(connections: Connections, store: MemoryCredentials) -> None:
    """With `auth` entra, the access is a scope and the customer's tenant, without a key."""
    members = {"endpoint": ENDPOINT, "auth": "entra", "tenant_id": "contoso.onmicrosoft.com"}
    store.put("contoso", value=json.dumps(members))

    connection = await connections.resolve("contoso", "default")

    assert EntraAccess("https://ai.azure.com/.default", "contoso.onmicrosoft.com") == connection.access


@pytest.mark.parametrize("scope", ["https://vault.azure.net/.default", "https://storage.azure.com/.default", "x"])
async def test_a_scope_other_than_ai_is_refused(connections: Connections, store: MemoryCredentials, scope: str) -> None:
    """A secret can't make the app send its own token for the vault or for Storage to an endpoint."""
    store.put("contoso", value=json.dumps({"endpoint": ENDPOINT, "auth": "entra", "scope": scope}))

    with pytest.raises(ConnectionInvalid, match="ALLOWED_SCOPES"):
        await connections.resolve("contoso", "default")


async def test_openai_takes_no_entra_token(connections: Connections, store: MemoryCredentials) -> None:
    """`auth` entra is invalid for an endpoint that takes no Entra tokens."""
    store.put("contoso", value=json.dumps({"endpoint": "https://api.openai.com/v1", "auth": "entra"}))

    with pytest.raises(ConnectionInvalid, match="entra"):
        await connections.resolve("contoso", "default")


@pytest.mark.parametrize(
    ("attributes", "error"),
    [
        ({"enabled": False}, ConnectionDisabled),
        ({"expires_on": datetime(2020, 1, 1, tzinfo=UTC)}, ConnectionExpired),
        ({"not_before": datetime.now(UTC) + timedelta(days=1)}, ConnectionExpired),
        ({"value": "{"}, ConnectionInvalid),
        ({"value": ""}, ConnectionInvalid),
        ({"value": json.dumps({"endpoint": ENDPOINT})}, ConnectionInvalid),
        ({"value": json.dumps({"endpoint": ENDPOINT, "api_key": KEY, "extra": 1})}, ConnectionInvalid),
        ({"value": json.dumps({"endpoint": ENDPOINT, "api_key": f"{KEY}\n{KEY}"})}, ConnectionInvalid),
        ({"value": json.dumps({"endpoint": ENDPOINT, "api_key": KEY, "provider": KEY})}, ConnectionInvalid),
        ({"value": json.dumps({"api_key": KEY})}, ConnectionInvalid),
        ({"value": KEY, "tags": {"endpoint": ENDPOINT, "max_concurrency": "many"}}, ConnectionInvalid),
    ],
    ids=[
        "disabled",
        "expired",
        "not yet valid",
        "malformed",
        "empty",
        "no key",
        "unknown member",
        "line break in the key",
        "key in the wrong member",
        "no endpoint",
        "tag that is no number",
    ],
)
async def test_each_fault_of_a_secret_has_its_own_error(
    store: MemoryCredentials, clock: ManualClock, attributes: dict[str, Any], error: type[ConnectionFault]
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
        assert error.code == raised.value.code


async def test_a_missing_connection_is_not_found(connections: Connections) -> None:
    """Without a secret and a static connection, the error names customer and connection."""
    with pytest.raises(ConnectionNotFound, match="contoso has no connection named spare"):
        await connections.resolve("contoso", "spare")


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://openai.azure.com.evil.example/openai/v1",
        "https://10.0.0.1/openai/v1",
        "http://contoso.openai.azure.com/openai/v1",
        "http://127.0.0.1:8080/openai/v1",
        "https://169.254.169.254/metadata",
    ],
)
async def test_an_endpoint_that_is_not_allowed_is_invalid(
    connections: Connections, store: MemoryCredentials, endpoint: str
) -> None:
    """A connection can have only hosts that the operator allows."""
    value = json.dumps({"endpoint": endpoint, "api_key": KEY, "provider": "azure_openai"})
    store.put("contoso", value=value)

    with pytest.raises(ConnectionInvalid):
        await connections.resolve("contoso", "default")


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


@pytest.mark.parametrize(
    ("allowed", "customer", "is_allowed"),
    [
        ("*", "contoso", True),
        ("true", "contoso", True),
        ("1", "contoso", True),
        ("on", "contoso", False),
        ("no", "no", True),
        ("contoso, fabrikam", "contoso", True),
        ("contoso, fabrikam", "fabrikam", True),
        ("contoso, fabrikam", "fabrikam-2", False),
        ("contoso", "conto", False),
        ("false", "contoso", False),
        ("", "contoso", False),
    ],
)
async def test_the_static_connection_serves_the_allowed_customers(
    store: MemoryCredentials, clock: ManualClock, allowed: str, customer: str, is_allowed: bool
) -> None:
    """Only allowed customers use the operator's account, and the label says so."""
    static = settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION=allowed)
    connections = Connections(static, store, clock=clock)

    if not is_allowed:
        with pytest.raises(ConnectionNotFound):
            await connections.resolve(customer, "default")
        return
    connection = await connections.resolve(customer, "default")

    assert "operators-own-key" == key_of(connection)
    assert ("static", "operator") == (connection.label().source, connection.label().billed_to)
    assert customer == connection.customer


async def test_the_static_connection_has_one_name(store: MemoryCredentials, clock: ManualClock) -> None:
    """A customer who uses another name than `default` does not get the static connection."""
    connections = Connections(settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION="*"), store, clock=clock)

    with pytest.raises(ConnectionNotFound, match="spare"):
        await connections.resolve("contoso", "spare")


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


async def test_without_a_vault_there_is_only_the_static_connection(clock: ManualClock) -> None:
    """An app without KEY_VAULT_URL has the static connection and no other."""
    connections = Connections(
        settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION="contoso"), None, clock=clock
    )

    assert "static" == (await connections.resolve("contoso", "default")).source
    with pytest.raises(ConnectionNotFound):
        await connections.resolve("fabrikam", "default")


@pytest.mark.parametrize(
    ("customer", "name"),
    [("contoso--spare", "default"), ("contoso", "spare--default"), ("contoso-", "x"), ("contoso", "-x")],
)
def test_ambiguous_names_are_refused(customer: str, name: str) -> None:
    """No job has names that, joined with `--`, could be the secret of another customer."""
    job = {"customer": customer, "connection": name, "action": "chat", "input": {"prompt": "x"}}

    with pytest.raises(InvalidJob):
        decode_job(json.dumps(job).encode(), default_id="1")


async def test_no_repr_shows_a_key(connections: Connections, store: MemoryCredentials) -> None:
    """Neither a connection nor its secret nor the cache shows the key."""
    store.put("contoso")

    connection = await connections.resolve("contoso", "default")

    shown = f"{connection!r} {connection} {vars(connections)!r} {store.secrets!r} {connection.label()!r}"
    assert KEY not in shown
    assert "***" in repr(connection)


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
