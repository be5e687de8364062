"""The app's own identity is used only for the host, scope and tenant that a secret's tags allow."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.connections.connection import Connection
from shared.connections.entra_binding import EntraBinding, bound_tags, kept_tags
from shared.connections.resolver import Connections
from shared.connections.secret_cache import REREAD_S
from shared.connections.store import StoredCredential
from shared.errors import ConnectionInvalid, SettingInvalid
from shared.secret import Secret
from shared.upstream.messages import ApiKey, EntraAccess
from tests.support.credential_store import KEY, MemoryCredentials, settings
from tests.support.manual_clock import ManualClock

ENDPOINT = "https://contoso.openai.azure.com/openai/v1"
HOST = "contoso.openai.azure.com"
AI, COGNITIVE = "https://ai.azure.com/.default", "https://cognitiveservices.azure.com/.default"
GATEWAY = "https://ai.contoso.com/openai/v1"


def value(**members: Any) -> str:
    """A secret's value without a key; `members` replace and add members."""
    return json.dumps({"endpoint": ENDPOINT, "auth": "entra"} | members)


def secret(tags: dict[str, str] | None = None, **members: Any) -> StoredCredential:
    """A secret with these tags."""
    return StoredCredential(Secret(value(**members)), "v1", tags=tags or {})


ALLOWED: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {"entra_host": HOST}),
    ({}, {"entra_host": HOST, "entra_scope": AI, "team": "blue"}),
    ({"scope": AI}, {"entra_host": HOST}),
    ({"scope": COGNITIVE}, {"entra_host": HOST, "entra_scope": COGNITIVE}),
    ({"tenant_id": "contoso.com"}, {"entra_host": HOST, "entra_tenant": "contoso.com"}),
    ({"tenant_id": "Contoso.com"}, {"entra_host": HOST, "entra_tenant": "CONTOSO.com"}),
    ({"endpoint": f"https://{HOST.upper()}.:443/openai/v1"}, {"entra_host": HOST}),
    ({"endpoint": f"https://{HOST}/openai/deployments/d"}, {"entra_host": HOST}),
    *(({}, {"entra_host": text}) for text in (HOST.upper(), f" {HOST}.", f"{HOST}:443", f'"{HOST}"')),
    ({}, {"Entra_Host": HOST, "ENTRA_SCOPE": AI}),
]
REFUSED: list[tuple[dict[str, Any], dict[str, str], str]] = [
    *(({}, tags, "has no tag `entra_host`") for tags in ({}, {"entra_host": " "}, {"host": HOST}, {"entra_scope": AI})),
    *(
        ({}, {"entra_host": text}, "`entra_host` names another host")
        for text in ("fabrikam.openai.azure.com", f"x.{HOST}", "openai.azure.com", "*.openai.azure.com", ENDPOINT)
    ),
    ({"endpoint": "https://fabrikam.openai.azure.com"}, {"entra_host": HOST}, "names another host"),
    ({"endpoint": f"https://{HOST}.openai.azure.com"}, {"entra_host": HOST}, "names another host"),
    ({"endpoint": "https://contoso.services.ai.azure.com"}, {"entra_host": HOST}, "names another host"),
    ({"scope": COGNITIVE}, {"entra_host": HOST}, "`entra_scope` is not its `scope`"),
    ({"scope": COGNITIVE}, {"entra_host": HOST, "entra_scope": AI}, "`entra_scope`"),
    ({}, {"entra_host": HOST, "entra_scope": COGNITIVE}, "`entra_scope`"),
    ({"tenant_id": "contoso.com"}, {"entra_host": HOST}, "`entra_tenant` is not its `tenant_id`"),
    ({"tenant_id": "contoso.com"}, {"entra_host": HOST, "entra_tenant": "fabrikam.com"}, "`entra_tenant`"),
    ({}, {"entra_host": HOST, "entra_tenant": "contoso.com"}, "`entra_tenant`"),
    ({}, {"entra_host": HOST, "Entra_Host": "fabrikam.openai.azure.com"}, "`entra_host` twice"),
]


@pytest.mark.parametrize(("members", "tags"), ALLOWED, ids=str)
async def test_tags_that_name_host_scope_and_tenant_allow_the_identity(
    connections: Connections, store: MemoryCredentials, members: dict[str, Any], tags: dict[str, str]
) -> None:
    """The host is always needed, scope and tenant unless they are the usual ones; spellings of a host are equal."""
    store.put("contoso", value=value(**members), tags=tags)

    assert isinstance((await connections.resolve("contoso", "default")).access, EntraAccess)


@pytest.mark.parametrize(("members", "tags", "words"), REFUSED, ids=str)
async def test_other_tags_do_not(
    connections: Connections, store: MemoryCredentials, members: dict[str, Any], tags: dict[str, str], words: str
) -> None:
    """No tag, or one for something else, makes the connection invalid; the message has the tag and the command."""
    store.put("contoso", "spare", value=value(**members), tags=tags)

    with pytest.raises(ConnectionInvalid, match=words) as raised:
        await connections.resolve("contoso", "spare")

    assert "twice" in words or "`aijobs customers bind contoso --connection spare`" in str(raised.value)


@pytest.mark.parametrize("tags", [{}, {"entra_host": HOST}])
def test_no_value_stands_for_a_tag(connections: Connections, tags: dict[str, str]) -> None:
    """Members of the value, which HTTP can set, are never read as the tags; a bare value has its settings in tags."""
    with pytest.raises(ConnectionInvalid, match="`entra_host` is not a known member"):
        connections.open(secret(tags, entra_host=HOST), "contoso", "default")
    bare = StoredCredential(Secret(""), "v1", tags={"endpoint": ENDPOINT, "auth": "entra", **tags})

    if tags:
        assert HOST == connections.open(bare, "contoso", "default").endpoint.host
    else:
        with pytest.raises(ConnectionInvalid, match="entra_host"):
            connections.open(bare, "contoso", "default")


async def test_a_connection_that_is_bound_serves_within_seconds(
    connections: Connections, store: MemoryCredentials, clock: ManualClock
) -> None:
    """Binding changes no version of the secret, and yet the worker sees it with its next read."""
    store.put("contoso", value=value(), version="v1")
    with pytest.raises(ConnectionInvalid):
        await connections.resolve("contoso", "default")

    store.put("contoso", value=value(), version="v1", tags={"entra_host": HOST})
    clock.advance(REREAD_S)

    assert HOST == (await connections.resolve("contoso", "default")).endpoint.host


@pytest.mark.parametrize(
    ("endpoint", "hosts", "words"),
    [
        (GATEWAY, "", "ALLOWED_ENTRA_HOSTS"),
        (GATEWAY, "ai.contoso.com", ""),
        (GATEWAY, "x.example, AI.contoso.com.:443", ""),
        *((GATEWAY, hosts, "ALLOWED_ENTRA_HOSTS") for hosts in ("contoso.com", "x.contoso.com")),
        ("https://x.ai.contoso.com/openai/v1", "ai.contoso.com", "ALLOWED_ENTRA_HOSTS"),
        ("https://ai.contoso.com:8443/openai/v1", "ai.contoso.com", "port 443"),
        ("https://xn--bcher-kva.contoso.com/openai/v1", "bücher.contoso.com", ""),
        ("https://evil.cloudapp.azure.com/openai/v1", "", "ALLOWED_ENTRA_HOSTS"),
        ("https://evilopenai.azure.com/openai/v1", "", "ALLOWED_ENTRA_HOSTS"),
        ("https://r.openai.azure.com:8443/openai/v1", "", "port 443"),
        ("https://r.services.ai.azure.us/openai/v1", "", ""),
        ("https://r.eastus.models.ai.azure.com/v1", "", ""),
        ("https://api.openai.com/v1", "", "takes no Entra tokens"),
        ("https://westus.api.cognitive.microsoft.com", "", "takes no Entra tokens"),
        ("http://127.0.0.1:4010/openai/v1", "", ""),
    ],
)
@pytest.mark.parametrize("source", ["key_vault", "static"])
async def test_the_token_goes_only_to_microsofts_hosts_and_to_those_named(
    store: MemoryCredentials, clock: ManualClock, endpoint: str, hosts: str, words: str, source: str
) -> None:
    """An allowed suffix is not enough for the app's token: a host of somebody else's is named in full by a setting."""
    suffixes = "contoso.com,azure.com,azure.us,api.openai.com,api.cognitive.microsoft.com"
    host = endpoint.partition("://")[2].partition("/")[0].partition(":")[0]
    is_ours = "azure.com" not in host and host.endswith((".contoso.com", "127.0.0.1"))
    record = value(endpoint=endpoint, **({"provider": "azure_openai"} if is_ours or "evil" in host else {}))
    store.put("contoso", value=record, tags={"entra_host": host})
    environment = {"ALLOWED_ENDPOINT_SUFFIXES": suffixes, "ALLOWED_ENTRA_HOSTS": hosts, "ALLOW_LOCAL_ENDPOINTS": "true"}
    if source == "static":
        environment |= {"STATIC_CONNECTION": record, "ALLOW_STATIC_CONNECTION": "fabrikam"}
    connections = Connections(settings(**environment), store, clock=clock)
    customer = "contoso" if source == "key_vault" else "fabrikam"

    if words:
        with pytest.raises(ConnectionInvalid if source == "key_vault" else SettingInvalid, match=words):
            await connections.resolve(customer, "default")
    else:
        assert host == (await connections.resolve(customer, "default")).endpoint.host


@pytest.mark.parametrize("endpoint", ["https://api.openai.com/v1", "https://westus.api.cognitive.microsoft.com"])
def test_a_scope_does_not_open_a_host_that_takes_no_tokens(connections: Connections, endpoint: str) -> None:
    """With a scope of its own, a connection can't have the token sent to a provider that is not to get it."""
    with pytest.raises(ConnectionInvalid, match="ALLOWED_ENTRA_HOSTS"):
        connections.open(secret({"entra_host": "api.openai.com"}, endpoint=endpoint, scope=AI), "contoso", "default")


async def test_the_static_connection_is_its_own_binding(store: MemoryCredentials, clock: ManualClock) -> None:
    """The operator wrote it, and it has no tags."""
    own = settings(STATIC_CONNECTION=value(tenant_id="contoso.com"), ALLOW_STATIC_CONNECTION="contoso")

    connection = await Connections(own, store, clock=clock).resolve("contoso", "default")

    assert EntraAccess(AI, "contoso.com") == connection.access


SAME = {"default_model": "another"}
OWNERS = {"Team": "blue", "CredentialId": "x"}


@pytest.mark.parametrize(
    ("old_members", "old_tags", "new_members", "kept"),
    [
        ({}, {"entra_host": HOST}, SAME, {"entra_host": HOST}),
        ({}, {"Entra_Host": HOST.upper(), "entra_scope": AI}, SAME, {"entra_host": HOST}),
        ({}, {"entra_host": HOST}, {"scope": AI}, {"entra_host": HOST}),
        ({}, {"entra_host": HOST}, {"endpoint": f"https://{HOST}/api/projects/p"}, {"entra_host": HOST}),
        (
            {"scope": COGNITIVE, "tenant_id": "a.com"},
            {"entra_host": HOST, "entra_scope": COGNITIVE, "entra_tenant": "a.com"},
            {"endpoint": f"https://{HOST}/openai/deployments/d", "tenant_id": "a.com"},
            {"entra_host": HOST, "entra_tenant": "a.com"},
        ),
        (
            {},
            {"entra_host": HOST},
            {"endpoint": f"https://{HOST}/openai/deployments/d", "scope": AI},
            {"entra_host": HOST, "entra_scope": AI},
        ),
        *(
            ({}, {"entra_host": HOST}, changed, {})
            for changed in (
                {"endpoint": "https://fabrikam.openai.azure.com"},
                {"endpoint": f"https://{HOST}/openai/deployments/d"},
                {"scope": COGNITIVE},
                {"tenant_id": "fabrikam.com"},
                {"auth": "api_key", "api_key": KEY},
            )
        ),
        ({}, {}, SAME, {}),
        ({}, {"entra_host": "fabrikam.openai.azure.com"}, {"endpoint": "https://fabrikam.openai.azure.com"}, {}),
        ({"auth": "api_key", "api_key": KEY}, {"entra_host": HOST}, SAME, {}),
    ],
)
def test_a_replacement_keeps_the_tags_of_the_same_host_scope_and_tenant(
    connections: Connections,
    old_members: dict[str, Any],
    old_tags: dict[str, str],
    new_members: dict[str, Any],
    kept: dict[str, str],
) -> None:
    """
    Whoever replaces a connection keeps what the operator allowed, and nothing that was not allowed before; the owner's
    own tags stay, and settings of a bare key don't.
    """
    old = secret({**old_tags, **OWNERS, "Endpoint": "x", "file-encoding": "utf-8"}, **old_members)
    before: Connection | None = None
    try:
        before = connections.open(old, "contoso", "default")
    except ConnectionInvalid:
        assert not kept
    after = connections.open_unbound(secret(**new_members), "contoso", "default")

    tags = kept_tags(old, before, after)

    assert OWNERS | kept == tags
    if kept:
        connections.open(secret(tags, **new_members), "contoso", "default")


ENDPOINTS = st.sampled_from([ENDPOINT, f"https://{HOST}", "https://fabrikam.openai.azure.com/openai/v1"])
MODELS = st.sampled_from(["m", "n"])
RECORDS = st.fixed_dictionaries(
    {"endpoint": ENDPOINTS, "auth": st.just("entra")},
    optional={
        "scope": st.sampled_from([AI, COGNITIVE]),
        "tenant_id": st.sampled_from(["a.com", "b.com"]),
        "default_model": MODELS,
    },
) | st.fixed_dictionaries({"endpoint": ENDPOINTS, "auth": st.just("api_key")}, optional={"default_model": MODELS})


def target(connection: Connection) -> tuple[str, object]:
    """What a connection uses the identity for: host, scope and tenant."""
    return connection.endpoint.host, connection.access


@given(st.lists(RECORDS | st.just("bind") | st.just("delete"), max_size=12))
def test_only_what_the_operator_bound_last_is_ever_used(changes: list[dict[str, Any] | str]) -> None:
    """
    Whatever is put and deleted over HTTP, a connection uses the identity only for the host, scope and tenant that the
    operator bound, and that were not changed since.
    """
    connections = Connections(settings(), MemoryCredentials())
    stored: StoredCredential | None = None
    bound: tuple[str, object] | None = None
    for change in changes:
        if change == "delete":
            stored = bound = None
        elif isinstance(change, dict):
            after = connections.open_unbound(secret(**change, api_key=KEY), "contoso", "default")
            before = None
            if stored is not None:
                with contextlib.suppress(ConnectionInvalid):
                    before = connections.open(stored, "contoso", "default")
            tags = {} if stored is None else kept_tags(stored, before, after)
            stored = secret(tags, **change, api_key=KEY)
            bound = bound if bound == target(after) else None
        elif stored is not None:
            shown = connections.open_unbound(stored, "contoso", "default")
            if (use := EntraBinding.of(shown)) is not None:
                stored, bound = replace(stored, tags=bound_tags(stored, use)), target(shown)
        if stored is None or isinstance(connections.open_unbound(stored, "contoso", "default").access, ApiKey):
            continue
        if bound is None:
            with pytest.raises(ConnectionInvalid, match="customers bind"):
                connections.open(stored, "contoso", "default")
        else:
            assert bound == target(connections.open(stored, "contoso", "default"))


@pytest.mark.parametrize("members", [{}, {"scope": COGNITIVE}, {"tenant_id": "A.com"}, {"scope": AI}])
def test_bound_tags_allow_exactly_this_use(connections: Connections, members: dict[str, Any]) -> None:
    """Tags for another use are replaced; the others stay, those of a bare key, too."""
    old = secret({"Entra_Host": "x", "entra_scope": "y", "entra_tenant": "z", "Endpoint": "e", **OWNERS}, **members)
    use = EntraBinding.of(connections.open_unbound(old, "contoso", "default"))
    assert use is not None

    tags = bound_tags(old, use)

    assert {"Endpoint": "e", **OWNERS} | use.tags() == tags
    assert HOST == connections.open(secret(tags, **members), "contoso", "default").endpoint.host
    assert use == EntraBinding.from_tags(tags)
