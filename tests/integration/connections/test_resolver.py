"""Customer and name to a connection: whole, remembered for a while, and never another customer's."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import traceback
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest

from local.vault.secret_store import VaultError
from local.vault.server import Vault
from shared.connections import resolver, secret_cache
from shared.connections.connection import Connection
from shared.connections.resolver import Connections
from shared.connections.secret_cache import FRESH_S, OUTAGE_S, REREAD_S, STALE_S
from shared.connections.store import StoredCredential
from shared.contract.job import decode_job
from shared.errors import (
    ConnectionDisabled,
    ConnectionExpired,
    ConnectionFault,
    ConnectionInvalid,
    ConnectionNotFound,
    InvalidJob,
    VaultUnavailable,
)
from shared.secret import Secret
from shared.settings import Settings, read_settings
from shared.upstream.messages import ApiKey, EntraAccess
from tests.support.harness import World
from tests.support.workers import worker_of

KEY = "the-key-that-nobody-may-see"
ENDPOINT = "https://contoso.openai.azure.com/openai/v1"
OPERATORS = json.dumps({"endpoint": "https://operator.openai.azure.com", "api_key": "operators-own-key"})


class Clock:
    """Monotonic seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now

    def pass_by(self, seconds: float) -> None:
        """Lets time go by."""
        self.now += seconds


class Store:
    """A credential store in memory that counts reads and can be down or slow."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], StoredCredential] = {}
        self.reads: Counter[tuple[str, str]] = Counter()
        self.down = False
        self.gate: asyncio.Event | None = None

    def put(self, customer: str, name: str = "default", value: str | None = None, **about: Any) -> None:
        """A new version of a secret; `value` is a whole connection if left out."""
        value = json.dumps({"endpoint": ENDPOINT, "api_key": KEY}) if value is None else value
        about = {"version": uuid.uuid4().hex} | about
        self.secrets[customer, name] = StoredCredential(Secret(value), **about)

    async def get(self, customer: str, connection: str) -> StoredCredential | None:
        """See CredentialStore."""
        self.reads[customer, connection] += 1
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise VaultUnavailable("Key Vault answered 503.")
        return self.secrets.get((customer, connection))


def set_time(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    """The time by which the dates of secrets are checked."""
    for module in (resolver, secret_cache):
        monkeypatch.setattr(module, "now", lambda: moment)


@pytest.fixture
def store() -> Store:
    """An empty store."""
    return Store()


@pytest.fixture
def clock() -> Clock:
    """A clock that stands."""
    return Clock()


def settings(**environment: str) -> Settings:
    """Settings with what these tests are about."""
    return read_settings({"JobStorage": "UseDevelopmentStorage=true"} | environment)


@pytest.fixture
def connections(store: Store, clock: Clock) -> Connections:
    """Connections out of the store, by the clock, without a static one."""
    return Connections(settings(), store, clock=clock)


def key_of(connection: Connection) -> str:
    """The key that the connection holds."""
    assert isinstance(connection.access, ApiKey)
    return connection.access.key.reveal()


async def test_a_connection_is_whole_from_one_secret(connections: Connections, store: Store) -> None:
    """Every member of the secret's JSON is in the connection, under the customer's and its own name."""
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


async def test_a_bare_key_takes_its_settings_from_tags(connections: Connections, store: Store) -> None:
    """A secret that is the key alone, as rotation functions write it, gets everything else from its tags."""
    tags = {"endpoint": ENDPOINT, "default_model": "gpt-4o", "max_concurrency": "2", "owner": "team blue"}
    store.put("contoso", value=f" {KEY}\n", tags=tags)

    connection = await connections.resolve("contoso", "default")

    assert KEY == key_of(connection)
    assert ("gpt-4o", 2) == (connection.default_model, connection.max_concurrency)


async def test_an_openai_key_needs_nothing_else(connections: Connections, store: Store) -> None:
    """A bare key that begins `sk-` is a connection to OpenAI, with the key as a bearer."""
    store.put("contoso", value="sk-something-long")

    connection = await connections.resolve("contoso", "default")

    assert "https://api.openai.com/v1" == connection.endpoint.base
    assert ApiKey("authorization", Secret("sk-something-long")) == connection.access


async def test_a_keyless_connection_asks_for_tokens(connections: Connections, store: Store) -> None:
    """With `auth` entra, the access is a scope and the customer's tenant, and there is no key."""
    members = {"endpoint": ENDPOINT, "auth": "entra", "tenant_id": "contoso.onmicrosoft.com"}
    store.put("contoso", value=json.dumps(members))

    connection = await connections.resolve("contoso", "default")

    assert EntraAccess("https://ai.azure.com/.default", "contoso.onmicrosoft.com") == connection.access


@pytest.mark.parametrize("scope", ["https://vault.azure.net/.default", "https://storage.azure.com/.default", "x"])
async def test_token_for_anything_but_ai_is_never_sent(connections: Connections, store: Store, scope: str) -> None:
    """A secret can't have the app's own token for the vault or for Storage sent to its endpoint."""
    store.put("contoso", value=json.dumps({"endpoint": ENDPOINT, "auth": "entra", "scope": scope}))

    with pytest.raises(ConnectionInvalid, match="ALLOWED_SCOPES"):
        await connections.resolve("contoso", "default")


async def test_openai_takes_no_entra_token(connections: Connections, store: Store) -> None:
    """`auth` entra at an endpoint that knows no Entra is an invalid connection."""
    store.put("contoso", value=json.dumps({"endpoint": "https://api.openai.com/v1", "auth": "entra"}))

    with pytest.raises(ConnectionInvalid, match="entra"):
        await connections.resolve("contoso", "default")


@pytest.mark.parametrize(
    ("about", "error"),
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
    store: Store, clock: Clock, about: dict[str, Any], error: type[ConnectionFault]
) -> None:
    """A secret that can't be used raises what is wrong, again and again, and never serves the static one."""
    store.put("contoso", **about)
    static = settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION="*")
    connections = Connections(static, store, clock=clock)

    for _ in range(2):
        with pytest.raises(error) as raised:
            await connections.resolve("contoso", "default")

        shown = "".join(traceback.format_exception(raised.value))
        assert KEY not in shown
        assert error.code == raised.value.code


async def test_a_customer_without_a_connection_has_none(connections: Connections) -> None:
    """Without a secret, and without a static connection, the error names customer and connection."""
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
    connections: Connections, store: Store, endpoint: str
) -> None:
    """A connection can point only at hosts that the operator allows."""
    value = json.dumps({"endpoint": endpoint, "api_key": KEY, "provider": "azure_openai"})
    store.put("contoso", value=value)

    with pytest.raises(ConnectionInvalid):
        await connections.resolve("contoso", "default")


async def test_the_operators_own_suffixes_replace_the_usual_ones(store: Store, clock: Clock) -> None:
    """ALLOWED_ENDPOINT_SUFFIXES lets a gateway's domain in, and then nothing else."""
    connections = Connections(settings(ALLOWED_ENDPOINT_SUFFIXES="ai.contoso.com"), store, clock=clock)
    value = {"endpoint": "https://gate.ai.contoso.com/openai/v1", "api_key": KEY, "provider": "azure_openai"}
    store.put("contoso", value=json.dumps(value))
    store.put("fabrikam")

    connection = await connections.resolve("contoso", "default")

    assert "gate.ai.contoso.com" == connection.endpoint.host
    with pytest.raises(ConnectionInvalid, match="ALLOWED_ENDPOINT_SUFFIXES"):
        await connections.resolve("fabrikam", "default")


async def test_a_hundred_jobs_at_once_read_once(connections: Connections, store: Store) -> None:
    """However many jobs ask at a time, a secret is read once, and all get the same connection."""
    store.put("contoso")

    found = await asyncio.gather(*(connections.resolve("contoso", "default") for _ in range(100)))

    assert 1 == store.reads["contoso", "default"]
    assert all(one is found[0] for one in found)


async def test_a_failing_read_is_shared_too(connections: Connections, store: Store) -> None:
    """Jobs that ask while the vault is down share one read, and each gets its own error."""
    store.down = True

    found = await asyncio.gather(
        *(connections.resolve("contoso", "default") for _ in range(100)), return_exceptions=True
    )

    assert 1 == store.reads["contoso", "default"]
    assert all(isinstance(one, VaultUnavailable) for one in found)


async def test_a_connection_is_read_again_when_it_is_no_longer_fresh(
    connections: Connections, store: Store, clock: Clock
) -> None:
    """For FRESH_S a connection is used as it was read; after that a new version is found."""
    store.put("contoso", version="v1")
    await connections.resolve("contoso", "default")
    store.put("contoso", version="v2")

    clock.pass_by(FRESH_S - 1)
    before = await connections.resolve("contoso", "default")
    clock.pass_by(1)
    after = await connections.resolve("contoso", "default")

    assert ("v1", "v2") == (before.version, after.version)
    assert 2 == store.reads["contoso", "default"]


async def test_a_missing_connection_is_remembered_briefly(connections: Connections, store: Store, clock: Clock) -> None:
    """A customer who is onboarded after a first failed job is served REREAD_S later, not FRESH_S."""
    with pytest.raises(ConnectionNotFound):
        await connections.resolve("contoso", "default")
    store.put("contoso")

    with pytest.raises(ConnectionNotFound):
        await connections.resolve("contoso", "default")
    clock.pass_by(REREAD_S)

    assert KEY == key_of(await connections.resolve("contoso", "default"))
    assert 2 == store.reads["contoso", "default"]


async def test_a_mended_connection_is_found_soon(connections: Connections, store: Store, clock: Clock) -> None:
    """A faulty secret is remembered for REREAD_S as well."""
    store.put("contoso", value="{")
    with pytest.raises(ConnectionInvalid):
        await connections.resolve("contoso", "default")
    store.put("contoso")

    clock.pass_by(REREAD_S)

    assert KEY == key_of(await connections.resolve("contoso", "default"))


async def test_a_rotated_key_is_found_at_once(connections: Connections, store: Store) -> None:
    """After a refusal the secret is read again, and a new version is given."""
    store.put("contoso")
    refused = await connections.resolve("contoso", "default")
    store.put("contoso", value=json.dumps({"endpoint": ENDPOINT, "api_key": "rotated-key"}))

    renewed = await connections.find_rotated(refused)

    assert renewed is not None
    assert "rotated-key" == key_of(renewed)
    assert renewed is await connections.resolve("contoso", "default")


async def test_an_unchanged_key_is_not_renewed(connections: Connections, store: Store) -> None:
    """Where the secret is still the same version, there is nothing to try again with."""
    store.put("contoso")
    refused = await connections.resolve("contoso", "default")

    assert await connections.find_rotated(refused) is None


async def test_refusals_read_a_secret_again_once_in_a_while(
    connections: Connections, store: Store, clock: Clock
) -> None:
    """However many jobs are refused, at once or one after the other, one reread is made in REREAD_S."""
    store.put("contoso")
    refused = await connections.resolve("contoso", "default")

    for _ in range(3):
        await asyncio.gather(*(connections.find_rotated(refused) for _ in range(50)))
    assert 2 == store.reads["contoso", "default"]

    clock.pass_by(REREAD_S)
    await connections.find_rotated(refused)
    assert 3 == store.reads["contoso", "default"]


async def test_jobs_refused_with_the_old_key_get_the_new_one_without_a_read(
    connections: Connections, store: Store
) -> None:
    """Of many jobs refused during a rotation, all get the new connection, for one read."""
    store.put("contoso")
    refused = await connections.resolve("contoso", "default")
    store.put("contoso", version="v2")

    at_once = await asyncio.gather(*(connections.find_rotated(refused) for _ in range(50)))
    late = await connections.find_rotated(refused)

    assert {"v2"} == {one.version for one in (*at_once, late) if one is not None}
    assert 51 == len([one for one in (*at_once, late) if one is not None])
    assert 2 == store.reads["contoso", "default"]


async def test_a_new_key_that_is_refused_too_is_not_read_again_at_once(connections: Connections, store: Store) -> None:
    """A key that was just found by a reread and is refused as well ends there."""
    store.put("contoso")
    refused = await connections.resolve("contoso", "default")
    store.put("contoso")
    renewed = await connections.find_rotated(refused)
    assert renewed is not None

    assert await connections.find_rotated(renewed) is None
    assert 2 == store.reads["contoso", "default"]


async def test_a_key_that_was_withdrawn_says_so(connections: Connections, store: Store) -> None:
    """A refusal whose reread finds the secret disabled raises that."""
    store.put("contoso")
    refused = await connections.resolve("contoso", "default")
    store.put("contoso", enabled=False)

    with pytest.raises(ConnectionDisabled):
        await connections.find_rotated(refused)


async def test_a_vault_outage_is_bridged(connections: Connections, store: Store, clock: Clock) -> None:
    """With the vault down, a connection is used until STALE_S, and the vault asked once in OUTAGE_S."""
    store.put("contoso")
    known = await connections.resolve("contoso", "default")
    store.down = True

    clock.pass_by(FRESH_S)
    reads = store.reads["contoso", "default"]
    for _ in range(int(5 * OUTAGE_S)):
        assert known is await connections.resolve("contoso", "default")
        clock.pass_by(1)
    assert 5 == store.reads["contoso", "default"] - reads

    clock.pass_by(STALE_S - FRESH_S - 5 * OUTAGE_S)
    assert known is await connections.resolve("contoso", "default")

    clock.pass_by(OUTAGE_S)
    with pytest.raises(VaultUnavailable, match="contoso's connection default"):
        await connections.resolve("contoso", "default")


async def test_a_vault_that_is_back_is_noticed(connections: Connections, store: Store, clock: Clock) -> None:
    """After an outage the next read finds what has changed meanwhile."""
    store.put("contoso", version="v1")
    await connections.resolve("contoso", "default")
    store.down = True
    clock.pass_by(FRESH_S)
    await connections.resolve("contoso", "default")

    store.down = False
    store.put("contoso", version="v2")
    clock.pass_by(OUTAGE_S)

    assert "v2" == (await connections.resolve("contoso", "default")).version


async def test_an_outage_never_puts_a_customer_on_the_operators_account(store: Store, clock: Clock) -> None:
    """Whether a customer has a connection is not known while the vault is down, so nobody pays: it waits."""
    static = settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION="*")
    connections = Connections(static, store, clock=clock)
    assert "static" == (await connections.resolve("contoso", "default")).source
    store.down = True
    clock.pass_by(OUTAGE_S)

    for customer in ("contoso", "fabrikam"):
        with pytest.raises(VaultUnavailable):
            await connections.resolve(customer, "default")


async def test_a_key_rotated_while_the_vault_is_down_costs_no_job(
    connections: Connections, store: Store, clock: Clock
) -> None:
    """
    A refusal whose reread the vault does not answer puts the job back: there may be a new key. However many are
    refused, the vault is asked once in REREAD_S; once it answers, the job gets the new key, or that there is none.
    """
    store.put("contoso", version="v1")
    refused = await connections.resolve("contoso", "default")
    store.down = True
    for _ in range(3):
        with pytest.raises(VaultUnavailable, match="refused the key of customer contoso's connection default"):
            await connections.find_rotated(refused)
    assert 2 == store.reads["contoso", "default"]
    assert refused is await connections.resolve("contoso", "default")

    store.down = False
    clock.pass_by(REREAD_S)
    assert await connections.find_rotated(refused) is None
    store.put("contoso", version="v2")
    clock.pass_by(REREAD_S)
    renewed = await connections.find_rotated(refused)

    assert renewed is not None
    assert "v2" == renewed.version


async def test_an_outage_is_remembered_for_a_moment(connections: Connections, store: Store, clock: Clock) -> None:
    """While the vault is down, the jobs of a connection that is not known ask it once in REREAD_S, not each."""
    store.down = True
    for _ in range(5):
        with pytest.raises(VaultUnavailable, match="Key Vault answered 503"):
            await connections.resolve("contoso", "default")
    assert 1 == store.reads["contoso", "default"]

    store.down = False
    store.put("contoso")
    store.put("fabrikam")
    await connections.resolve("fabrikam", "default")
    clock.pass_by(REREAD_S)

    assert KEY == key_of(await connections.resolve("contoso", "default"))


async def test_an_expiry_holds_for_what_is_kept_too(
    connections: Connections, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A connection that expires while it is kept in memory is refused from that moment on: it is read again then,
    and once in REREAD_S as long as it is outside its dates, so that new dates serve at once.
    """
    expiry = datetime.now(UTC) + timedelta(minutes=1)
    store.put("contoso", expires_on=expiry)
    await connections.resolve("contoso", "default")

    set_time(monkeypatch, expiry - timedelta(microseconds=1))
    await connections.resolve("contoso", "default")
    set_time(monkeypatch, expiry)

    for reads in (2, 3):
        for _ in range(3):
            with pytest.raises(ConnectionExpired, match="has expired"):
                await connections.resolve("contoso", "default")
        assert reads == store.reads["contoso", "default"]
        clock.pass_by(REREAD_S)

    store.put("contoso", expires_on=expiry + timedelta(days=30))

    assert KEY == key_of(await connections.resolve("contoso", "default"))


async def test_a_new_version_takes_over_when_the_old_one_ends(
    connections: Connections, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is in the vault before the kept one ends serves from that moment on, for one read of all jobs."""
    expiry = datetime.now(UTC) + timedelta(seconds=1)
    store.put("contoso", version="v1", expires_on=expiry)
    assert "v1" == (await connections.resolve("contoso", "default")).version
    store.put("contoso", version="v2", expires_on=expiry + timedelta(days=30))

    set_time(monkeypatch, expiry)
    found = await asyncio.gather(*(connections.resolve("contoso", "default") for _ in range(50)))

    assert {"v2"} == {one.version for one in found}
    assert 2 == store.reads["contoso", "default"]


async def test_an_expiry_during_an_outage_waits_for_the_vault(
    connections: Connections, store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a connection that ends while the vault is down nobody knows whether there is a new version: its jobs wait."""
    expiry = datetime.now(UTC) + timedelta(seconds=1)
    store.put("contoso", version="v1", expires_on=expiry)
    await connections.resolve("contoso", "default")
    store.put("contoso", version="v2")
    store.down = True
    set_time(monkeypatch, expiry)

    for _ in range(3):
        with pytest.raises(VaultUnavailable, match="contoso's connection default"):
            await connections.resolve("contoso", "default")
    assert 2 == store.reads["contoso", "default"]

    store.down = False
    clock.pass_by(REREAD_S)
    assert "v2" == (await connections.resolve("contoso", "default")).version


async def test_a_secret_that_becomes_valid_while_kept_is_used(
    connections: Connections, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A secret that is not valid yet is refused, and used from its first moment on without another read."""
    start = datetime.now(UTC) + timedelta(minutes=1)
    store.put("contoso", not_before=start)
    with pytest.raises(ConnectionExpired, match="not valid yet"):
        await connections.resolve("contoso", "default")

    set_time(monkeypatch, start)

    assert KEY == key_of(await connections.resolve("contoso", "default"))


@pytest.mark.parametrize(
    ("allowed", "customer", "served"),
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
async def test_the_static_connection_serves_whom_the_operator_names(
    store: Store, clock: Clock, allowed: str, customer: str, served: bool
) -> None:
    """Only allowed customers run on the operator's account, and then it says so."""
    static = settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION=allowed)
    connections = Connections(static, store, clock=clock)

    if not served:
        with pytest.raises(ConnectionNotFound):
            await connections.resolve(customer, "default")
        return
    connection = await connections.resolve(customer, "default")

    assert "operators-own-key" == key_of(connection)
    assert ("static", "operator") == (connection.label().source, connection.label().billed_to)
    assert customer == connection.customer


async def test_the_static_connection_has_one_name(store: Store, clock: Clock) -> None:
    """A customer who asks for a connection by a name of its own is not given the operator's."""
    connections = Connections(settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION="*"), store, clock=clock)

    with pytest.raises(ConnectionNotFound, match="spare"):
        await connections.resolve("contoso", "spare")


async def test_a_customers_own_connection_replaces_the_static_one(store: Store, clock: Clock) -> None:
    """Once a customer has a connection, nothing of the operator's is mixed in."""
    static = json.dumps({"endpoint": ENDPOINT, "api_key": "operators-own-key", "default_model": "theirs"})
    connections = Connections(settings(STATIC_CONNECTION=static, ALLOW_STATIC_CONNECTION="*"), store, clock=clock)
    store.put("contoso")

    connection = await connections.resolve("contoso", "default")

    assert (KEY, None, "customer") == (
        key_of(connection),
        connection.default_model,
        connection.label().billed_to,
    )


async def test_without_a_vault_only_the_static_connection_serves(clock: Clock) -> None:
    """An app without KEY_VAULT_URL has the static connection and nothing else."""
    connections = Connections(
        settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION="contoso"), None, clock=clock
    )

    assert "static" == (await connections.resolve("contoso", "default")).source
    with pytest.raises(ConnectionNotFound):
        await connections.resolve("fabrikam", "default")


async def test_a_refused_static_connection_is_not_renewed(store: Store, clock: Clock) -> None:
    """The operator's key is an app setting: there is nothing to read again."""
    connections = Connections(settings(STATIC_CONNECTION=OPERATORS, ALLOW_STATIC_CONNECTION="*"), store, clock=clock)
    refused = await connections.resolve("contoso", "default")

    assert await connections.find_rotated(refused) is None
    assert 1 == store.reads["contoso", "default"]


@pytest.mark.parametrize(
    ("customer", "name"),
    [("contoso--spare", "default"), ("contoso", "spare--default"), ("contoso-", "x"), ("contoso", "-x")],
)
def test_a_name_that_could_meet_anothers_is_no_job(customer: str, name: str) -> None:
    """No job gets past the contract with a name that, joined with `--`, could be another customer's."""
    job = {"customer": customer, "connection": name, "action": "chat", "input": {"prompt": "x"}}

    with pytest.raises(InvalidJob):
        decode_job(json.dumps(job).encode(), default_id="1")


async def test_names_that_join_alike_are_kept_apart(connections: Connections, store: Store) -> None:
    """What is kept in memory is kept by customer and name, not by a text that two pairs could share."""
    store.put("a-b", "c", json.dumps({"endpoint": ENDPOINT, "api_key": "key-of-a-b"}))
    store.put("a", "b-c", json.dumps({"endpoint": ENDPOINT, "api_key": "key-of-a"}))

    first = await connections.resolve("a-b", "c")
    second = await connections.resolve("a", "b-c")

    assert ("key-of-a-b", "key-of-a") == (key_of(first), key_of(second))


async def test_what_is_kept_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond MAX_ENTRIES connections, the least recently used one is forgotten."""
    monkeypatch.setattr(secret_cache, "MAX_ENTRIES", 3)
    connections = Connections(settings(), store)
    for customer in ("a", "b", "c"):
        store.put(customer)
        await connections.resolve(customer, "default")

    await connections.resolve("a", "default")
    store.put("d")
    await connections.resolve("d", "default")
    for customer in ("a", "c", "d", "b"):
        await connections.resolve(customer, "default")

    assert {"a": 1, "b": 2, "c": 1, "d": 1} == {name[0]: count for name, count in store.reads.items()}


async def test_more_at_once_than_are_kept_are_all_served(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is forgotten before its job has it in hand still reaches that job."""
    monkeypatch.setattr(secret_cache, "MAX_ENTRIES", 2)
    connections = Connections(settings(), store)
    store.gate = asyncio.Event()
    customers = [f"c{number}" for number in range(20)]
    for customer in customers:
        store.put(customer)
    waiting = [asyncio.create_task(connections.resolve(customer, "default")) for customer in customers]
    await asyncio.sleep(0)

    store.gate.set()
    found = await asyncio.gather(*waiting)

    assert customers == [connection.customer for connection in found]


async def test_a_job_that_gives_up_does_not_take_the_read_from_the_others(
    connections: Connections, store: Store
) -> None:
    """The first of several waiting jobs is cancelled; the read goes on, and the others get its answer."""
    store.put("contoso")
    store.gate = asyncio.Event()
    first, *others = [asyncio.create_task(connections.resolve("contoso", "default")) for _ in range(5)]
    await asyncio.sleep(0.01)

    first.cancel()
    await asyncio.sleep(0)
    store.gate.set()
    found = await asyncio.gather(*others)

    assert first.cancelled()
    assert {KEY} == {key_of(one) for one in found}
    assert 1 == store.reads["contoso", "default"]


async def test_a_read_that_everybody_gave_up_fails_in_silence(
    connections: Connections, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A read whose last waiting job is gone may fail without a word, and a later job reads anew."""
    store.gate = asyncio.Event()
    store.down = True
    job = asyncio.create_task(connections.resolve("contoso", "default"))
    await asyncio.sleep(0.01)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)

    store.gate.set()
    await asyncio.sleep(0.01)
    gc.collect()
    store.down = False
    store.put("contoso")
    clock.pass_by(REREAD_S)

    assert KEY == key_of(await connections.resolve("contoso", "default"))
    assert "" == caplog.text


async def test_no_repr_shows_a_key(connections: Connections, store: Store) -> None:
    """Neither a connection, nor what it was read from, nor what keeps it shows the key."""
    store.put("contoso")

    connection = await connections.resolve("contoso", "default")

    shown = f"{connection!r} {connection} {vars(connections)!r} {store.secrets!r} {connection.label()!r}"
    assert KEY not in shown
    assert "***" in repr(connection)


@pytest.mark.parametrize(
    ("deployment", "default", "asked", "expected"),
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
async def test_which_model_a_job_runs_on(
    connections: Connections,
    store: Store,
    deployment: str | None,
    default: str | None,
    asked: str | None,
    expected: str | None,
) -> None:
    """The endpoint's deployment, else what the job asks for, else the default; a contradiction is refused."""
    store.put("contoso")
    connection = await connections.resolve("contoso", "default")
    endpoint = replace(connection.endpoint, deployment=deployment)
    connection = replace(connection, endpoint=endpoint, default_model=default)

    if expected is None:
        with pytest.raises(InvalidJob, match="`model`"):
            connection.model_for(asked)
    else:
        assert expected == connection.model_for(asked)


async def test_a_connection_out_of_key_vault(world: World) -> None:
    """Through the real SDK, a secret in the vault is the customer's connection, and is read once."""
    customer = world.customer(default_model="gpt-5")
    resolve = world.services.connections.resolve

    found = await asyncio.gather(*(resolve(customer.name, "default") for _ in range(20)))

    assert customer.account.key == key_of(found[0])
    assert "gpt-5" == found[0].default_model
    assert 1 == world.vault.reads[f"ai--{customer.name}--default"]


async def test_a_bare_key_with_tags_out_of_key_vault(world: World) -> None:
    """A bare key and its tags make a connection through the real SDK as well."""
    customer = world.customer(connection=None)
    tags = {"endpoint": f"{world.endpoint.url}/openai/v1", "provider": "azure_openai"}
    world.keep(f"ai--{customer.name}--default", customer.account.key, tags=tags)

    found = await world.services.connections.resolve(customer.name, "default")

    assert customer.account.key == key_of(found)


@pytest.mark.parametrize(
    ("attributes", "error"),
    [
        ({"enabled": False}, ConnectionDisabled),
        ({"exp": 1_600_000_000}, ConnectionExpired),
        ({"nbf": 4_000_000_000}, ConnectionExpired),
    ],
    ids=["disabled", "expired", "not yet valid"],
)
async def test_a_secrets_attributes_are_held_to(
    world: World, attributes: dict[str, Any], error: type[ConnectionFault]
) -> None:
    """What the vault says of a secret reaches the job as its own error through the real SDK."""
    customer = world.customer(connection=None)
    world.keep(f"ai--{customer.name}--default", "sk-key-of-somebody", attributes=attributes)

    with pytest.raises(error):
        await world.services.connections.resolve(customer.name, "default")


async def test_a_key_that_is_rotated_in_key_vault_is_found(world: World) -> None:
    """A new version in the vault is what `renewed` gives, through the real SDK."""
    customer = world.customer()
    connections = world.services.connections
    refused = await connections.resolve(customer.name, "default")
    world.connect(customer, api_key="rotated-key")

    renewed = await connections.find_rotated(refused)

    assert renewed is not None
    assert "rotated-key" == key_of(renewed)


@contextlib.contextmanager
def closed(vault: Vault) -> Iterator[None]:
    """The vault's network is closed."""

    async def answer(*_: object) -> NoReturn:
        said = "Public network access is disabled and request is not from a trusted service nor via an approved private"
        raise VaultError(403, "Forbidden", f"{said} link.", "ForbiddenByConnection")

    vault.around = answer
    try:
        yield
    finally:
        vault.around = None


async def test_a_closed_vault_ends_nobodys_jobs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the vault's network is closed, a known connection goes on, and jobs of others are put back."""
    monkeypatch.setattr(secret_cache, "FRESH_S", 0.0)
    known, unknown, worker = world.customer(), world.customer(), worker_of(world)
    await worker.run(known)

    with closed(world.vault):
        assert "succeeded" == (await worker.run(known))["status"]
        assert await worker.deliver(unknown) is None

    ((body, _),) = worker.put_back()
    assert unknown.name == json.loads(body)["customer"]
    assert 2 == world.vault.reads[f"ai--{known.name}--default"]


async def test_a_job_outlives_a_key_that_is_rotated_while_the_vault_is_down(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A job whose key is refused while the vault can't be asked is put back, and done with the new key afterwards;
    one that has no time for that ends as `timeout`, and says why.
    """
    monkeypatch.setattr(secret_cache, "REREAD_S", 0.0)
    customer, worker = world.customer(), worker_of(world)
    await worker.run(customer)
    del world.endpoint.accounts[customer.account.key]
    customer.account = world.endpoint.account()
    world.connect(customer)

    with closed(world.vault):
        late = await worker.run(customer, options={"deadline_s": 20})
        assert await worker.deliver(customer, job_id="patient") is None
    ((body, _),) = worker.put_back()

    assert "timeout" == late["error"]["code"]
    assert "Key Vault does not answer whether there is a new one" in late["error"]["message"]
    assert "succeeded" == (await worker.run(customer, body))["status"]
