"""Connections in Key Vault: direct reads and the unchanged SDK, against the local vault."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NoReturn

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import AioHttpTransport

from local.vault import server as vaults
from local.vault.secret_store import VaultError
from local.vault.server import ReadMiddleware, Vault
from shared.connections import key_vault
from shared.connections.key_vault import KeyVaultCredentials
from shared.errors import ConnectionDisabled, VaultUnavailable
from shared.network import token as network
from shared.network.credential import Credential
from shared.network.identity_endpoint import IdentityEndpoint
from shared.network.pool import Pool
from shared.network.tls import tls_context_with
from shared.secret import Secret
from tests.support.storage_pools import ClosedPool

NAME = "ai--contoso--default"


class Token:
    """An identity that returns a token, or raises an error."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.issued = 0
        self._failure = failure

    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        """The token."""
        if self._failure is not None:
            raise self._failure
        self.issued += 1
        return AccessToken(f"local-{self.issued}", int(time.time()) + 3600)

    async def close(self) -> None:
        """Does nothing."""


class Endpoint(IdentityEndpoint):
    """The endpoint of a managed identity, which returns the same tokens, or none."""

    def __init__(self, identity: Token) -> None:
        self._identity = identity

    async def request(self, scope: str, now: float) -> network.Token | None:
        """The token."""
        try:
            issued = await self._identity.get_token(scope)
        except ClientAuthenticationError:
            return None
        return network.new_token(issued.token, issued.expires_on, now)


def credential_of(identity: Any) -> Credential:
    """The app's managed identity."""
    return Credential(Endpoint(identity), lambda: identity)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def module_vault(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Vault]:
    """The vault of this module: one costs certificates and two servers."""
    async with vaults.start(tmp_path_factory.mktemp("vault")) as running:
        yield running


@pytest.fixture
def own_vault(module_vault: Vault) -> Iterator[Vault]:
    """A vault for one test, which may break it."""
    yield module_vault
    module_vault.secrets.live.clear()
    module_vault.secrets.deleted.clear()
    module_vault.reads.clear()
    module_vault._failures.clear()
    module_vault.outage, module_vault.delay, module_vault.read_middleware = False, 0, None


@pytest.fixture(scope="module")
def tls(module_vault: Vault) -> ssl.SSLContext:
    """A context that trusts the vault's certificate authority."""
    return tls_context_with(str(module_vault.ca_file))


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
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield RecordingTransport(session=session, session_owner=False, connection_verify=str(own_vault.ca_file))


@pytest.fixture(params=["directly", "by the SDK"])
def pool(request: pytest.FixtureRequest, tls: ssl.SSLContext) -> Iterator[Pool]:
    """Connections for direct reads, or none, so that the SDK sends every request."""
    direct = request.param == "directly"
    pool = Pool(lambda: tls) if direct else ClosedPool()
    yield pool
    pool.close()


def opened(
    url: str, pool: Pool, transport: AioHttpTransport, token: Token | None = None, *, private_ca: bool = True
) -> KeyVaultCredentials:
    """The class under test."""
    credential = credential_of(token or Token())
    return KeyVaultCredentials(url, credential, pool, transport=lambda: transport, private_ca=private_ca)


@pytest.fixture
def credentials(own_vault: Vault, pool: Pool, transport: AioHttpTransport) -> KeyVaultCredentials:
    """The class under test."""
    return opened(own_vault.url, pool, transport)


def direct_tries(pool: Pool) -> int:
    """How many requests are sent before those of the SDK."""
    return 0 if isinstance(pool, ClosedPool) else 1


async def test_a_secret_is_returned_with_its_properties(own_vault: Vault, credentials: KeyVaultCredentials) -> None:
    """Value, version, tags and both dates are returned, even if the secret is outside its dates."""
    attributes = {"nbf": 1_600_000_000, "exp": 1_700_000_000}
    _, version = own_vault.secrets.put(NAME, "value", tags={"endpoint": "x"}, attributes=attributes)

    result = await credentials.get_with_info("contoso", "default")

    assert result is not None
    credential, info = result
    assert (Secret("value"), version.id, True) == (credential.value, credential.version, credential.enabled)
    assert {"endpoint": "x"} == credential.tags
    assert datetime.fromtimestamp(1_600_000_000, UTC) == credential.not_before
    assert datetime.fromtimestamp(1_700_000_000, UTC) == credential.expires_on
    changed = datetime.fromtimestamp(version.attributes["updated"], UTC)
    assert ("default", True, version.id, changed, changed) == (
        *(info.connection, info.enabled, info.version, info.created_at, info.updated_at),
    )
    dates = (credential.not_before, credential.expires_on)
    assert (*dates, credential.tags) == (info.not_before, info.expires_on, info.tags)


async def test_the_newest_version_is_returned(own_vault: Vault, credentials: KeyVaultCredentials) -> None:
    """
    After a rotation, a read returns the new version, the largest value complete. Properties that were not set are None
    or empty.
    """
    own_vault.secrets.put(NAME, "old")
    own_vault.secrets.put(NAME, "v" * 25 * 1024)

    credential = await credentials.get("contoso", "default")

    assert credential is not None
    assert (None, None, {}) == (credential.not_before, credential.expires_on, credential.tags)
    assert "v" * 25 * 1024 == credential.value.reveal()


async def test_each_connection_has_its_own_secret(own_vault: Vault, credentials: KeyVaultCredentials) -> None:
    """No other connection's secret is read, nor a deleted one, although its name stays reserved."""
    own_vault.secrets.put("ai--contoso--spare", "spare")
    own_vault.secrets.put("ai--fabrikam--default", "another's")
    assert await credentials.get("contoso", "default") is None

    own_vault.secrets.put(NAME, "value")
    own_vault.secrets.delete(NAME)
    assert await credentials.get("contoso", "default") is None


async def test_secrets_are_listed_by_their_kind(own_vault: Vault, credentials: KeyVaultCredentials) -> None:
    """Customers with a signing secret, and connections with their customers; other secrets are neither."""
    for name in (NAME, "ai--fabrikam--eu", "webhook--contoso", "Webhook--Fabrikam", "webhook", "events--contoso--eu"):
        own_vault.secrets.put(name, "value")

    connections = [(customer, facts.connection) async for customer, facts in credentials.list_all()]

    events = [(customer, facts.connection) async for customer, facts in credentials.list_events_secrets()]

    assert [("contoso", "eu")] == events
    assert ["contoso", "fabrikam"] == sorted(await credentials.signing_customers())
    assert [("contoso", "default"), ("fabrikam", "eu")] == sorted(connections)


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


@pytest.mark.parametrize("secret", ["connection", pytest.param("signing secret", marks=pytest.mark.long)])
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


@pytest.mark.parametrize("inner", ["SecretDisabled", None, "real"])
async def test_a_disabled_secret_is_recognized_by_its_inner_code(
    own_vault: Vault, credentials: KeyVaultCredentials, inner: str | None
) -> None:
    """The vault's 403 for a disabled secret is not an outage. Without an inner code, Key Vault's message counts."""
    if inner == "real":
        for name in (NAME, "webhook--contoso"):
            own_vault.secrets.put(name, "value", attributes={"enabled": False})
    else:
        own_vault.read_middleware = answering("Operation get is not allowed on a disabled secret.", inner)

    with pytest.raises(ConnectionDisabled, match="customer contoso's connection default is disabled"):
        await credentials.get("contoso", "default")
    with pytest.raises(ConnectionDisabled, match="signing secret of customer contoso"):
        await credentials.signing_secret("contoso")


async def test_a_vault_under_another_name_gets_no_token(
    own_vault: Vault, pool: Pool, transport: RecordingTransport
) -> None:
    """If its challenge is for another domain, the error names KEY_VAULT_URL."""
    own_vault.secrets.put(NAME, "value")
    credentials = opened(own_vault.url, pool, transport, private_ca=False)

    for ask in (
        credentials.get("contoso", "default"),
        credentials.put("contoso", "default", Secret("new")),
        credentials.delete("contoso", "default"),
    ):
        with pytest.raises(VaultUnavailable, match="KEY_VAULT_URL is not the URL of a key vault"):
            await ask
    assert "value" == own_vault.secrets.get(NAME)[1].value


@pytest.mark.parametrize(
    ("status", "failures", "tries"), [(403, 1, 1), (429, 1, 2), (500, 1, 2), (503, 1, 2), (429, 9, 3), (503, 9, 3)]
)
async def test_a_failed_try_is_retried(
    own_vault: Vault,
    credentials: KeyVaultCredentials,
    pool: Pool,
    transport: RecordingTransport,
    status: int,
    failures: int,
    tries: int,
) -> None:
    """
    After one failed response, the same read succeeds; after three tries within about a second it fails, with the
    vault's status. A 403 for a missing role is not retried: the job waits until the operator has granted it. If the
    read is direct, that is a try more.
    """
    own_vault.secrets.put(NAME, "value")
    failures, tries = failures + direct_tries(pool), tries + direct_tries(pool)
    own_vault.fail_next(status, times=failures)

    if failures < tries:
        assert await credentials.get("contoso", "default") is not None
    else:
        with pytest.raises(VaultUnavailable, match=f"Key Vault answered {status}"):
            await credentials.get("contoso", "default")

    assert tries == own_vault.reads[NAME]
    assert sum(transport.waits) < 1.5


async def test_a_limited_read_is_not_slept_away(
    own_vault: Vault, credentials: KeyVaultCredentials, transport: RecordingTransport
) -> None:
    """
    If the vault limits the requests, the read fails at once with its sentence and its wait, of which nothing is slept
    away. So does every other request until that is over; then they are sent again.
    """
    own_vault.secrets.put(NAME, "value")
    own_vault.fail_next(429, retry_after=2)
    errors = []

    for ask in (
        credentials.get("contoso", "default"),
        credentials.get("contoso", "default"),
        credentials.put("contoso", "spare", Secret("new")),
    ):
        with pytest.raises(VaultUnavailable) as raised:
            await ask
        errors.append(raised.value)
    await asyncio.sleep(2)
    credential = await credentials.get("contoso", "default")

    assert {"Key Vault answered 429: it limits the requests: A test injected this failure."} == set(map(str, errors))
    assert 2 == errors[0].delay_s
    assert all(0 < error.delay_s < 2 for error in errors[1:])
    assert [] == transport.waits
    assert credential is not None
    assert 2 == own_vault.reads[NAME]


async def test_a_read_has_a_timeout(
    own_vault: Vault, credentials: KeyVaultCredentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the vault is slow, a read ends after READ_TIMEOUT_S."""
    monkeypatch.setattr(key_vault, "READ_TIMEOUT_S", 0.3)
    own_vault.secrets.put(NAME, "value")
    own_vault.delay = 30
    begun = time.monotonic()

    with pytest.raises(VaultUnavailable, match=r"did not answer \(TimeoutError\)"):
        await credentials.get("contoso", "default")

    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("fault", ["outage", "unreachable", "untrusted certificate", "no identity"])
async def test_an_unreachable_vault_is_unavailable(
    own_vault: Vault, pool: Pool, transport: AioHttpTransport, fault: str
) -> None:
    """
    If nothing listens, if even the request for the challenge fails, without the vault's certificate authority, or
    without an identity of the app's own, the job waits. No secret is requested, and the message names no tenant.
    """
    own_vault.secrets.put(NAME, "value")
    own_vault.outage = fault == "outage"
    url = "https://127.0.0.1:1" if fault == "unreachable" else own_vault.url
    token = Token(ClientAuthenticationError("No identity: tenant 1234.") if fault == "no identity" else None)
    words = {"outage": "503", "no identity": r"did not answer \(ClientAuthenticationError\)"}.get(
        fault, "did not answer"
    )
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        if fault == "untrusted certificate":
            transport = AioHttpTransport(session=session, session_owner=False)
            pool = Pool(ssl.create_default_context)
        credentials = opened(url, pool, transport, token)

        with pytest.raises(VaultUnavailable, match=words) as raised:
            await credentials.get("contoso", "default")

    assert "1234" not in str(raised.value)
    assert fault == "outage" or 0 == own_vault.reads.total()


Respond = Callable[[web.Request, web.StreamResponse], Awaitable[web.StreamResponse]]


async def _in_pieces(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    assert isinstance(response, web.Response)
    assert isinstance(response.body, bytes)
    stream = web.StreamResponse()
    await stream.prepare(request)
    for start in range(0, len(response.body), 7):
        await stream.write(response.body[start : start + 7])
        await asyncio.sleep(0)
    return stream


async def _cut_off(request: web.Request, _: web.StreamResponse) -> web.StreamResponse:
    stream = web.StreamResponse(headers={"Content-Length": "1000"})
    await stream.prepare(request)
    await stream.write(b'{"value": "va')
    assert request.transport is not None
    request.transport.abort()
    return stream


async def _other_secret(_: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    assert isinstance(response, web.Response)
    assert isinstance(response.body, bytes)
    return web.Response(body=response.body.replace(NAME.encode(), b"ai--fabrikam--default"))


async def _no_json(*_: object) -> web.StreamResponse:
    return web.Response(body=b'{"value": "secret-text', content_type="application/json")


async def _moved(request: web.Request, _: web.StreamResponse) -> web.StreamResponse:
    return web.Response(status=307, headers={"Location": str(request.url)})


async def _unauthorized(*_: object) -> web.StreamResponse:
    return web.Response(status=401, headers={"WWW-Authenticate": vaults.CHALLENGE})


async def _other_404(*_: object) -> web.StreamResponse:
    return web.Response(status=404, text="No such page.")


@pytest.mark.parametrize(
    ("respond", "reason"),
    [
        (_in_pieces, None),
        (_cut_off, r"The connection closed|The server closed the connection"),
        (_no_json, r"Key Vault sent no secret that can be read\."),
        (_other_secret, r"Key Vault sent another secret\."),
        (_moved, r"Key Vault answered 307\."),
        (_unauthorized, r"Key Vault answered 401\."),
        (_other_404, r"Key Vault answered 404\."),
    ],
)
async def test_one_bad_response_fails_no_read(
    own_vault: Vault,
    tls: ssl.SSLContext,
    transport: RecordingTransport,
    respond: Respond,
    reason: str | None,
    caplog: Any,
) -> None:
    """
    What is not certain is read again by the SDK, with its retries, redirects and challenges. The log has the reason,
    and nothing of the secret. The next read is direct again, with the same token unless that was refused.
    """
    own_vault.secrets.put(NAME, "secret-text")
    tokens: list[str] = []

    async def once(request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)
        tokens.append(request.headers["Authorization"])
        return await respond(request, response) if len(tokens) == 1 else response

    own_vault.read_middleware = once
    pool = Pool(lambda: tls)
    credentials = opened(own_vault.url, pool, transport)
    read = [await credentials.get("contoso", "default") for _ in range(2)]
    pool.close()

    assert ["secret-text"] * 2 == [each.value.reveal() for each in read if each is not None]
    assert (2 if reason is None else 3) == len(tokens)
    logged = [record for record in caplog.records if record.name == "customer_ai_jobs"]
    assert (reason is not None) == bool(logged)
    if reason is not None:
        assert re.search(rf"sdk_repeated host=127\.0\.0\.1: (?:{reason})", caplog.text)
    assert "secret-text" not in caplog.text
    assert "local-" not in caplog.text
    assert (respond is _unauthorized) == (tokens[0] != tokens[-1])


async def test_a_direct_read_needs_no_sdk(own_vault: Vault, tls: ssl.SSLContext) -> None:
    """Neither for a secret nor for none."""

    def no_transport() -> NoReturn:
        raise AssertionError("The SDK is not needed.")

    own_vault.secrets.put(NAME, "value")
    identity = Token()
    pool = Pool(lambda: tls)
    credentials = KeyVaultCredentials(
        own_vault.url, credential_of(identity), pool, transport=no_transport, private_ca=True
    )

    assert await credentials.get("contoso", "default") is not None
    assert await credentials.get("contoso", "spare") is None
    assert await credentials.signing_secret("contoso") is None
    assert 1 == identity.issued
    pool.close()
