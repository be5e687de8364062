"""Direct reads of secrets: to whom a token is sent, and what is made of a response."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.keyvault.secrets import KeyVaultSecret
from azure.keyvault.secrets._generated.models import SecretBundle
from azure.keyvault.secrets._shared.challenge_auth_policy import _validate_challenge_resource
from hypothesis import given
from hypothesis import strategies as st

from shared.connections.vault_limit import VaultLimit
from shared.connections.vault_reads import VaultReads
from shared.errors import VaultUnavailable
from shared.network.credential import Credential
from shared.network.identity_endpoint import IdentityEndpoint
from shared.network.response import ExchangeFailed, Response
from shared.secret import Secret
from tests.support.rows import every_row
from tests.support.storage_pools import RecordingPool

NAME = "ai--contoso--default"
URL = "https://acme.vault.azure.net"


class Identity(Credential):
    """An identity that notes the scopes of its tokens."""

    def __init__(self) -> None:
        endpoint = IdentityEndpoint("http://localhost/msi/token", Secret("header"), "", RecordingPool(500))
        super().__init__(endpoint, lambda: pytest.fail("The SDK is not needed."))
        self.scopes: list[str] = []

    async def token(self, scope: str) -> Secret:
        """Issue the token."""
        self.scopes.append(scope)
        return Secret("the-token")


def reads(pool: RecordingPool, url: str = URL, identity: Identity | None = None, **options: bool) -> VaultReads:
    """The reads of a vault."""
    private_ca = options.get("private_ca", False)
    made = VaultReads.of(url, identity or Identity(), pool, VaultLimit(), private_ca=private_ca)
    assert made is not None
    return made


def bundle(**changes: Any) -> bytes:
    """A secret, as Key Vault returns it, with changes; None removes a member."""
    members = {
        "value": "secret-text",
        "id": f"{URL}/secrets/{NAME}/4387e9f3d6e14c459867679a90fd0f79",
        "attributes": {"enabled": True, "created": 1493938410, "updated": 1493938411, "recoveryLevel": "Purgeable"},
        **changes,
    }
    return json.dumps({name: each for name, each in members.items() if each is not None}).encode()


HOSTS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["acme", "", "acme.evil", "Acme"]),
    st.sampled_from([".", "", ".x", "-", ".privatelink."]),
    st.sampled_from(["vault.azure.net", "vault.azure.cn", "VAULT.usgovcloudapi.net", "managedhsm.azure.net", "a.com"]),
    st.sampled_from(["", "", ":443", ":8443", ".evil.com", "."]),
)


@given(host=HOSTS, private_ca=st.booleans())
async def test_a_token_is_sent_only_to_whom_the_sdk_would_send_it(host: str, private_ca: bool):
    """The domain of the token's scope is the vault's. Without a name in one of them, it is the operator's own."""
    pool, identity = RecordingPool(200, bundle()), Identity()
    direct = VaultReads.of(f"https://{host}", identity, pool, VaultLimit(), private_ca=private_ca)
    if direct is None:
        assert not private_ca
        return
    await direct.read(NAME)

    (scope,) = identity.scopes
    if private_ca:
        assert scope.endswith(("vault.azure.net/.default", "vault.azure.cn/.default", "usgovcloudapi.net/.default"))
    else:
        _validate_challenge_resource(scope, f"https://{host}/secrets")
    assert 1 == len(pool.requests)


@every_row(
    ("url", "scope"),
    [
        ("https://acme.vault.azure.net", "https://vault.azure.net/.default"),
        ("https://Acme.Vault.Azure.CN:443/", "https://vault.azure.cn/.default"),
        ("https://acme.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net/.default"),
        ("https://127.0.0.1:8443", "https://vault.azure.net/.default"),
    ],
)
async def test_a_read_has_a_token_for_the_vaults_cloud(url: str, scope: str):
    """The request names the newest version of the secret, and has an id of its own."""
    pool, identity = RecordingPool(200, bundle()), Identity()
    direct = reads(pool, url, identity, private_ca=True)
    for _ in range(2):
        await direct.read(NAME)

    assert [scope] * 2 == identity.scopes
    first, second = (request.decode().split("\r\n") for request in pool.requests)
    assert f"GET /secrets/{NAME}/?api-version=7.4 HTTP/1.1" == first[0]
    assert ["host", "accept", "authorization", "x-ms-client-request-id", "", ""] == [
        line.partition(":")[0] for line in first[1:]
    ]
    assert "authorization: Bearer the-token" == first[3]
    assert first[4] != second[4]


@pytest.mark.parametrize(
    "url", ["http://acme.vault.azure.net", "https://acme.example.com", "https://a.managedhsm.azure.net"]
)
def test_any_other_vault_is_left_to_the_sdk(url: str):
    """It reads the vault's challenge, and has the error if that is not the vault's own."""
    assert VaultReads.of(url, Identity(), RecordingPool(200), VaultLimit(), private_ca=False) is None


def test_an_identity_elsewhere_is_left_to_the_sdk():
    """A developer has tokens of more tenants than one, and the vault's challenge names the vault's."""
    elsewhere = Credential(None, lambda: pytest.fail("No token is needed."))

    assert VaultReads.of(URL, elsewhere, RecordingPool(200), VaultLimit(), private_ca=False) is None


SECONDS = st.none() | st.integers(0, 4_102_444_800)


@given(
    value=st.text(max_size=40),
    attributes=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(("nbf", "exp", "created", "updated"), SECONDS) | {"enabled": st.none() | st.booleans()},
    ),
    tags=st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
async def test_a_secret_is_read_as_the_sdk_reads_it(
    value: str, attributes: dict[str, Any], tags: dict[str, str] | None
):
    """Value, version, dates and tags."""
    body = bundle(value=value, attributes=attributes, tags=tags)
    result = await reads(RecordingPool(200, body)).read(NAME)

    sdk = KeyVaultSecret._from_secret_bundle(SecretBundle(json.loads(body)))
    assert result is not None
    credential, info = result
    expected = sdk.properties
    assert (sdk.value, expected.version) == (credential.value.reveal(), credential.version)
    assert (expected.not_before, expected.expires_on) == (credential.not_before, credential.expires_on)
    assert (expected.created_on, expected.updated_on) == (info.created_at, info.updated_at)
    assert (expected.tags or {}, expected.enabled is not False) == (credential.tags, credential.enabled)
    shared = ("enabled", "version", "not_before", "expires_on", "tags")
    assert [getattr(credential, name) for name in shared] == [getattr(info, name) for name in shared]


@every_row(
    ("status", "body"),
    [
        *((status, bundle()) for status in (201, 204, 301, 307, 400, 401, 403, 404, 408, 409, 500, 503)),
        (404, b'{"error": {"code": "VaultNotFound", "message": "x"}}'),
        *((200, body) for body in (b"", b"{", b"[]", b"<html>secret-text</html>", b'{"value": "secret-text\xff"}')),
        *((200, bundle(value=value)) for value in (None, 1, ["secret-text"])),
        *(
            (200, bundle(id=text))
            for text in (None, "", "secret-text", f"{URL}/secrets/{NAME}", f"{URL}/keys/{NAME}/1")
        ),
        (200, bundle(id=f"{URL}/secrets/ai--fabrikam--default/1")),
        *(
            (200, bundle(attributes=each))
            for each in (None, {"nbf": "soon"}, {"exp": 10**18}, {"enabled": "secret-text"})
        ),
        (200, bundle(tags={"a": 1})),
        (200, b'{"x": ' + b"[" * 100_000),
    ],
)
async def test_everything_else_is_left_to_the_sdk(status: int, body: bytes):
    """The error says nothing of what came, and has no cause that does."""
    with pytest.raises(ExchangeFailed, match=r"^Key Vault ") as raised:
        await reads(RecordingPool(status, body)).read(NAME)

    assert "secret-text" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


async def test_the_vaults_word_that_there_is_no_secret_counts():
    """It is the usual answer for a customer's second connection."""
    body = b'{"error": {"code": "SecretNotFound", "message": "A secret with (name/id) x was not found."}}'

    assert await reads(RecordingPool(404, body)).read(NAME) is None


@every_row("name", ["ai--contoso--ä", "a/b", "a?b", "", "x" * 128])
async def test_only_a_name_of_a_secret_is_sent(name: str):
    """Others would be another path."""
    pool = RecordingPool(200, bundle())

    with pytest.raises(ExchangeFailed):
        await reads(pool).read(name)
    assert [] == pool.requests


class LimitedPool(RecordingPool):
    """A vault that limits the requests."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__(429)
        self._headers = headers

    async def exchange(self, *_: object) -> Response:
        """Refuse the request."""
        return Response(429, self._headers, b'{"error": {"code": "Throttled", "message": "Slow down."}}')


@pytest.mark.parametrize(("text", "wait_s"), [("", 0.2), ("1", 1.0), ("0", 0.0)])
async def test_a_short_wait_is_waited_for(text: str, wait_s: float, monkeypatch: pytest.MonkeyPatch):
    """Before the SDK sends the request again."""
    waits: list[float] = []

    async def sleep(delay_s: float) -> None:
        waits.append(delay_s)

    monkeypatch.setattr("shared.connections.vault_reads.asyncio.sleep", sleep)
    with pytest.raises(ExchangeFailed, match=r"Key Vault answered 429\."):
        await reads(LimitedPool({"retry-after": text} if text else {})).read(NAME)

    assert [wait_s] == waits


async def test_a_long_wait_ends_the_read_and_all_others():
    """Nothing is sent until it is over, neither directly nor by the SDK, which shares the limit."""
    limit = VaultLimit()
    direct = VaultReads.of(URL, Identity(), LimitedPool({"retry-after": "30"}), limit, private_ca=False)
    assert direct is not None

    with pytest.raises(VaultUnavailable, match="it limits the requests: Slow down") as raised:
        await direct.read(NAME)
    assert 30 == raised.value.delay_s
    with pytest.raises(VaultUnavailable, match="it limits the requests: Slow down"):
        limit.check()


async def test_nothing_that_is_kept_shows_the_secret():
    """Neither the credential nor the reader."""
    direct = reads(RecordingPool(200, bundle(attributes={"nbf": 1})))
    result = await direct.read(NAME)

    assert result is not None
    assert datetime.fromtimestamp(1, UTC) == result[0].not_before
    assert "secret-text" not in f"{result} {vars(direct)}"
