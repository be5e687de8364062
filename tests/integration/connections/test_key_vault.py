"""Connections in Key Vault: the unchanged SDK against the local vault."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, Self

import pytest
import pytest_asyncio
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import AioHttpTransport

from local.vault import server as vaults
from local.vault.secret_store import VaultError
from local.vault.server import ReadMiddleware, Vault
from shared.connections import key_vault
from shared.connections.key_vault import KeyVaultCredentials
from shared.errors import ConnectionDisabled, VaultUnavailable
from shared.secret import Secret
from shared.upstream.guarded_session import open_session

NAME = "ai--contoso--default"


class Token:
    """An identity that returns a token, or raises an error."""

    def __init__(self, failure: Exception | None = None) -> None:
        self._failure = failure

    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        """The token."""
        if self._failure is not None:
            raise self._failure
        return AccessToken("local", int(time.time()) + 3600)

    async def close(self) -> None:
        """Nothing to close."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to close."""


@pytest_asyncio.fixture
async def own_vault(tmp_path: Path) -> AsyncIterator[Vault]:
    """A vault for one test, which may break it."""
    async with vaults.start(tmp_path) as running:
        yield running


class RecordingTransport(AioHttpTransport):
    """A transport that records the SDK's waits between retries."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.waits: list[float] = []

    async def sleep(self, duration: float) -> None:
        """Notes it, and waits."""
        self.waits.append(duration)
        await super().sleep(duration)


@pytest_asyncio.fixture
async def transport(own_vault: Vault) -> AsyncIterator[RecordingTransport]:
    """A transport that trusts the vault's certificate authority."""
    async with open_session() as session:
        yield RecordingTransport(session=session, session_owner=False, connection_verify=str(own_vault.ca_file))


@pytest.fixture
def credentials(own_vault: Vault, transport: AioHttpTransport) -> KeyVaultCredentials:
    """The class under test."""
    return KeyVaultCredentials(own_vault.url, Token(), transport=transport, private_ca=True)


async def test_a_secret_is_returned_with_its_properties(own_vault: Vault, credentials: KeyVaultCredentials) -> None:
    """Value, version, tags and both dates are returned, even if the secret is outside its dates."""
    attributes = {"nbf": 1_600_000_000, "exp": 1_700_000_000}
    _, version = own_vault.secrets.put(NAME, "value", tags={"endpoint": "x"}, attributes=attributes)

    credential = await credentials.get("contoso", "default")

    assert credential is not None
    assert (Secret("value"), version.id, True) == (credential.value, credential.version, credential.enabled)
    assert {"endpoint": "x"} == credential.tags
    assert datetime.fromtimestamp(1_600_000_000, UTC) == credential.not_before
    assert datetime.fromtimestamp(1_700_000_000, UTC) == credential.expires_on


async def test_a_plain_secret_has_no_dates_and_no_tags(own_vault: Vault, credentials: KeyVaultCredentials) -> None:
    """Properties that were not set are None or empty, and the largest value is returned complete."""
    own_vault.secrets.put(NAME, "v" * 25 * 1024)

    credential = await credentials.get("contoso", "default")

    assert credential is not None
    assert (None, None, {}) == (credential.not_before, credential.expires_on, credential.tags)
    assert 25 * 1024 == len(credential.value.reveal())


async def test_the_newest_version_is_returned(own_vault: Vault, credentials: KeyVaultCredentials) -> None:
    """After a rotation, a read returns the new version."""
    own_vault.secrets.put(NAME, "old")
    own_vault.secrets.put(NAME, "new")

    credential = await credentials.get("contoso", "default")

    assert credential is not None
    assert "new" == credential.value.reveal()


async def test_each_connection_has_its_own_secret(own_vault: Vault, credentials: KeyVaultCredentials) -> None:
    """The name of a secret has customer and connection, so that no other is read."""
    own_vault.secrets.put("ai--contoso--spare", "spare")
    own_vault.secrets.put("ai--fabrikam--default", "another's")

    assert await credentials.get("contoso", "default") is None


async def test_a_deleted_secret_is_none(own_vault: Vault, credentials: KeyVaultCredentials) -> None:
    """A deleted secret is not found, although its name stays reserved."""
    own_vault.secrets.put(NAME, "value")
    own_vault.secrets.delete(NAME)

    assert await credentials.get("contoso", "default") is None


async def test_a_disabled_secret_is_the_connections_fault(own_vault: Vault, credentials: KeyVaultCredentials) -> None:
    """The vault's 403 for a disabled secret is not an outage."""
    own_vault.secrets.put(NAME, "value", attributes={"enabled": False})

    with pytest.raises(ConnectionDisabled, match="customer contoso's connection default is disabled"):
        await credentials.get("contoso", "default")


async def test_a_missing_role_is_unavailable(own_vault: Vault, credentials: KeyVaultCredentials) -> None:
    """A 403 for a missing role is the operator's to correct: the job waits, and does not fail."""
    own_vault.secrets.put(NAME, "value")
    own_vault.fail_next(403)

    with pytest.raises(VaultUnavailable, match="Key Vault answered 403"):
        await credentials.get("contoso", "default")


def answering(message: str, inner: str | None) -> ReadMiddleware:
    """Make the vault answer every read with a 403, in Key Vault's words."""

    async def refuse(*_: object) -> NoReturn:
        raise VaultError(403, "Forbidden", message, inner)

    return refuse


# Of the first two, what microsoft/multimodal-ai (issue 171) and microsoft/AzureTRE (issue 3789) were answered.
CALLER = "\r\nCaller: appid=04b07795-8ddb;oid=eaadeb4c\r\nVault: my-vault;location=eastus2"
CLOSED = {
    "ForbiddenByConnection": "Public network access is disabled and request is not from a trusted service nor via an "
    f"approved private link.{CALLER}",
    "ForbiddenByFirewall": f"Client address is not authorized and caller is not a trusted service.{CALLER}",
    "ForbiddenByRbac": f"Caller is not authorized to perform action on resource.{CALLER}",
    "ForbiddenByPolicy": f"The user, group or application does not have secrets get permission.{CALLER}",
}


@pytest.mark.parametrize("secret", ["connection", "signing secret"])
@pytest.mark.parametrize("inner", [*CLOSED, None])
async def test_a_closed_vault_is_not_a_disabled_secret(
    own_vault: Vault, credentials: KeyVaultCredentials, inner: str | None, secret: str
) -> None:
    """
    Whatever the reason that the vault gives for refusing access, such as that its public access "is disabled": the job
    waits, and the message has the vault's error code without its text.
    """
    own_vault.read_middleware = answering(CLOSED[inner or "ForbiddenByConnection"], inner)
    ask = credentials.get("contoso", "default") if secret == "connection" else credentials.signing_secret("contoso")

    with pytest.raises(VaultUnavailable) as raised:
        await ask

    assert f"Key Vault answered 403{f' ({inner})' if inner else ''}." == str(raised.value)


@pytest.mark.parametrize("inner", ["SecretDisabled", None])
async def test_a_disabled_secret_is_recognized_by_its_inner_code(
    own_vault: Vault, credentials: KeyVaultCredentials, inner: str | None
) -> None:
    """Without an inner code, Key Vault's message counts."""
    own_vault.read_middleware = answering("Operation get is not allowed on a disabled secret.", inner)

    with pytest.raises(ConnectionDisabled, match="customer contoso's connection default"):
        await credentials.get("contoso", "default")
    with pytest.raises(ConnectionDisabled, match="signing secret of customer contoso"):
        await credentials.signing_secret("contoso")


async def test_a_vault_under_another_name_gets_no_token(own_vault: Vault, transport: RecordingTransport) -> None:
    """If its challenge is for another domain, the error names KEY_VAULT_URL."""
    own_vault.secrets.put(NAME, "value")
    credentials = KeyVaultCredentials(own_vault.url, Token(), transport=transport)

    for ask in (
        credentials.get("contoso", "default"),
        credentials.put("contoso", "default", Secret("new")),
        credentials.delete("contoso", "default"),
    ):
        with pytest.raises(VaultUnavailable, match="KEY_VAULT_URL is not the URL of a key vault"):
            await ask
    assert "value" == own_vault.secrets.get(NAME)[1].value


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_failed_try_is_retried(own_vault: Vault, credentials: KeyVaultCredentials, status: int) -> None:
    """After one failed response, the same read succeeds."""
    own_vault.secrets.put(NAME, "value")
    own_vault.fail_next(status)

    credential = await credentials.get("contoso", "default")

    assert credential is not None
    assert 2 == own_vault.reads[NAME]


@pytest.mark.parametrize("status", [429, 503])
async def test_a_failing_vault_is_unavailable(
    own_vault: Vault, credentials: KeyVaultCredentials, transport: RecordingTransport, status: int
) -> None:
    """After three tries within about a second the read fails, with the vault's status."""
    own_vault.secrets.put(NAME, "value")
    own_vault.fail_next(status, times=10)

    with pytest.raises(VaultUnavailable, match=f"Key Vault answered {status}"):
        await credentials.get("contoso", "default")

    assert 3 == own_vault.reads[NAME]
    assert sum(transport.waits) < 1.5


async def test_an_outage_is_unavailable(own_vault: Vault, credentials: KeyVaultCredentials) -> None:
    """A vault that answers only 503, even to the request for its challenge, is unavailable."""
    own_vault.outage = True

    with pytest.raises(VaultUnavailable, match="503"):
        await credentials.get("contoso", "default")


@pytest.mark.parametrize("fault", ["slow", "asks to wait"])
async def test_a_read_has_a_timeout(
    own_vault: Vault, credentials: KeyVaultCredentials, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """If the vault is slow or asks the client to wait, a read ends after READ_TIMEOUT_S."""
    monkeypatch.setattr(key_vault, "READ_TIMEOUT_S", 0.3)
    own_vault.secrets.put(NAME, "value")
    if fault == "slow":
        own_vault.delay = 30
    else:
        own_vault.fail_next(429, times=5, retry_after=30)
    begun = time.monotonic()

    with pytest.raises(VaultUnavailable, match=r"did not answer \(TimeoutError\)"):
        await credentials.get("contoso", "default")

    assert time.monotonic() - begun < 20


async def test_an_unreachable_vault_is_unavailable(transport: AioHttpTransport) -> None:
    """If nothing listens, the vault did not answer."""
    credentials = KeyVaultCredentials("https://127.0.0.1:1", Token(), transport=transport, private_ca=True)

    with pytest.raises(VaultUnavailable, match="did not answer"):
        await credentials.get("contoso", "default")


async def test_a_vault_with_an_untrusted_certificate_gets_no_request(own_vault: Vault) -> None:
    """Without its certificate authority, nothing is sent."""
    own_vault.secrets.put(NAME, "value")
    async with open_session() as session:
        transport = AioHttpTransport(session=session, session_owner=False)
        credentials = KeyVaultCredentials(own_vault.url, Token(), transport=transport, private_ca=True)

        with pytest.raises(VaultUnavailable, match="did not answer"):
            await credentials.get("contoso", "default")

    assert 0 == own_vault.reads.total()


async def test_without_an_identity_the_vault_is_unavailable(own_vault: Vault, transport: AioHttpTransport) -> None:
    """If the app itself gets no token, the job waits, and the message names no tenant."""
    refused = ClientAuthenticationError("No identity: tenant 1234.")
    credentials = KeyVaultCredentials(own_vault.url, Token(refused), transport=transport, private_ca=True)

    with pytest.raises(VaultUnavailable, match=r"did not answer \(ClientAuthenticationError\)") as raised:
        await credentials.get("contoso", "default")

    assert "1234" not in str(raised.value)
