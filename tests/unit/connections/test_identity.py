"""The app's identity, directly and through the unchanged azure-identity: tokens of its own tenant and customers'."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
import trustme
from aiohttp import web
from azure.core.credentials import AccessToken
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import ClientAuthenticationError
from azure.identity.aio import ClientAssertionCredential

from shared.connections.identity import Identity
from shared.errors import ConnectionInvalid, ProviderUnavailable
from shared.network import credential as credentials
from shared.network.credential import Credential
from shared.network.pool import Pool
from shared.secret import Secret
from tests.support.storage_pools import ClosedPool

SCOPE = "https://ai.azure.com/.default"
TENANT = "11111111-2222-3333-4444-555555555555"
APP = "99999999-8888-7777-6666-555555555555"


@dataclass
class Authority:
    """Entra on this machine: issues tokens for assertions, records the requests, and can refuse them."""

    url: str
    ca_file: str
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    refusal: web.Response | None = None

    async def respond(self, request: web.Request) -> web.Response:
        """The token endpoint of every tenant."""
        form = {name: str(value) for name, value in (await request.post()).items()}
        self.requests.append((request.path, form))
        if self.refusal is not None:
            return self.refusal
        return web.json_response(
            {"token_type": "Bearer", "expires_in": 3599, "access_token": f"theirs-{len(self.requests)}"}
        )


@pytest_asyncio.fixture
async def authority(tmp_path: Path) -> AsyncIterator[Authority]:
    """An authority for one test, over https."""
    issuer, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert("localhost").configure_cert(tls)
    issuer.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    entra, app = Authority("", str(tmp_path / "ca.pem")), web.Application()
    app.router.add_post("/{path:.*}", entra.respond)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0, ssl_context=tls).start()
    entra.url = f"https://localhost:{runner.addresses[0][1]}"
    yield entra
    await runner.cleanup()


@asynccontextmanager
async def opened(pool: Pool | None = None, **options: Any) -> AsyncIterator[Identity]:
    """An identity until the block ends, by the SDK unless it has a pool."""
    identity = Identity(pool or ClosedPool(), **options)
    try:
        yield identity
    finally:
        await identity.close()


@pytest.fixture(params=["directly", "by the SDK"])
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    """Connections to the endpoint of the managed identity, or none."""
    pool = Pool(ssl.create_default_context) if request.param == "directly" else ClosedPool()
    yield pool
    pool.close()


def federated(authority: Authority) -> dict[str, Any]:
    """Return the options of an identity that uses the authority; all but the first are azure-identity's own."""
    return {
        "entra_client_id": APP,
        "authority": authority.url,
        "disable_instance_discovery": True,
        "connection_verify": authority.ca_file,
        "retry_total": 0,
    }


@pytest.mark.usefixtures("vault")
async def test_the_managed_identity_has_a_token(pool: Pool) -> None:
    """
    On Azure, tokens of the app's own tenant come from its managed identity, one credential for each, and are cached. It
    can't get tokens of a customer's tenant: without ENTRA_CLIENT_ID the connection is invalid.
    """
    async with opened(pool, client_id="one") as identity:
        first = await identity.token(SCOPE, None)
        second = await identity.token(SCOPE, None)
        with pytest.raises(ConnectionInvalid, match="ENTRA_CLIENT_ID"):
            await identity.token(SCOPE, TENANT)
        assert identity.credential() is identity.credential("one")
        assert identity.credential() is not identity.credential("two")

    assert first.reveal().startswith("local-")
    assert first == second
    assert "***" == repr(first)


@pytest.mark.usefixtures("vault")
async def test_the_managed_identity_is_the_assertion_in_a_customers_tenant(authority: Authority, pool: Pool) -> None:
    """
    The request names tenant, app registration and scope, and has the identity's own token as its assertion. Each tenant
    has its own token, which is requested once, also for jobs that need their first token at the same time.
    """
    async with opened(pool, **federated(authority)) as identity:
        tokens = [await identity.token(SCOPE, tenant) for tenant in (TENANT, "b", TENANT, "b")]
        at_once = await asyncio.gather(*(identity.token(SCOPE, "c") for _ in range(20)))

    (path, form), (other, _), *_ = authority.requests
    assert [f"/{TENANT}/oauth2/v2.0/token", "/b/oauth2/v2.0/token"] == [path, other]
    assert ["theirs-1", "theirs-2", "theirs-1", "theirs-2"] == [token.reveal() for token in tokens]
    assert {"theirs-3"} == {token.reveal() for token in at_once}
    assert 3 == len(authority.requests)
    assert (APP, "client_credentials", SCOPE) == (form["client_id"], form["grant_type"], form["scope"])
    assert form["client_assertion"].startswith("local-")
    assert "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" == form["client_assertion_type"]


class SlowCredential:
    """A credential that counts its requests, issues a token a while later, or never."""

    def __init__(self, *, after_s: float = 0.02, failure: Exception | None = None) -> None:
        self.requests: Counter[str] = Counter()
        self._after_s, self._failure = after_s, failure

    async def get_token(self, scope: str) -> AccessToken:
        """The token of a scope."""
        self.requests[scope] += 1
        await asyncio.sleep(self._after_s)
        if self._failure is not None:
            raise self._failure
        return AccessToken(f"token-{self.requests[scope]}", 0)

    async def close(self) -> None:
        """Does nothing."""


@pytest.mark.parametrize("failure", [None, ClientAuthenticationError("No.")], ids=["issued", "refused"])
async def test_jobs_that_need_a_token_at_once_share_a_request(failure: Exception | None) -> None:
    """64 jobs make one request for each scope; all get its token or an error of their own. The next job makes one."""
    credential = SlowCredential(failure=failure)
    async with opened() as identity:
        identity._own[""] = Credential(None, lambda: cast(AsyncTokenCredential, credential))
        outcomes = await asyncio.gather(
            *(identity.token(f"scope-{number % 2}", None) for number in range(64)), return_exceptions=True
        )
        await asyncio.gather(identity.token("scope-0", None), return_exceptions=True)

    assert {"scope-0": 2, "scope-1": 1} == credential.requests
    if failure is None:
        assert ["token-1"] * 64 == [outcome.reveal() for outcome in outcomes if isinstance(outcome, Secret)]
    else:
        assert 64 == len({id(outcome) for outcome in outcomes if isinstance(outcome, ProviderUnavailable)})


async def test_a_token_that_is_never_issued_holds_no_job_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    """All who share the request end with it; the next job requests again."""
    monkeypatch.setattr(credentials, "TOKEN_TIMEOUT_S", 0.05)
    credential = SlowCredential(after_s=60)
    async with opened() as identity:
        identity._own[""] = Credential(None, lambda: cast(AsyncTokenCredential, credential))
        for requests in (1, 2):
            with pytest.raises(ProviderUnavailable, match=r"Entra issued no token for scope \(TimeoutError\)"):
                await identity.token("scope", None)
            assert requests == credential.requests["scope"]


@pytest.mark.usefixtures("vault")
async def test_any_number_of_tenants_takes_one_credential(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tenant is asked for its own token, and leaves nothing behind but the token."""
    made = []

    class Credential(ClientAssertionCredential):
        def __init__(self, *args: Any, **options: Any) -> None:
            made.append(args[0])
            super().__init__(*args, **options)

    monkeypatch.setattr("azure.identity.aio.ClientAssertionCredential", Credential)
    tenants = [f"tenant-{number}.example.com" for number in range(10)]
    async with opened(**federated(authority)) as identity:
        tokens = [(await identity.token(SCOPE, tenant)).reveal() for tenant in tenants * 2]

    assert 1 == len(made)
    assert tokens[:10] == tokens[10:]
    assert 10 == len(set(tokens))
    assert [f"/{tenant}/oauth2/v2.0/token" for tenant in tenants] == [path for path, _ in authority.requests]


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize(
    "refusal",
    [
        (401, "application/json", f'{{"error": "invalid_client", "error_description": "{TENANT} {APP}"}}'),
        (400, "application/json", f'{{"error": "unauthorized_client", "error_description": "{APP}"}}'),
        (503, "text/html", f"<html>{TENANT} {APP}</html>"),
        (200, "application/json", "{"),
        "https://localhost:1",
        None,
    ],
    ids=["401", "400", "503", "no JSON", "unreachable", "no managed identity"],
)
async def test_without_a_token_the_endpoint_is_unavailable(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, refusal: tuple[int, str, str] | str | None, pool: Pool
) -> None:
    """If Entra or the managed identity issues no token, the job may be retried; its error names no tenant, no app."""
    options = federated(authority)
    if refusal is None:
        monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token")
    elif isinstance(refusal, str):
        options["authority"] = refusal
    else:
        status, kind, text = refusal
        authority.refusal = web.Response(status=status, content_type=kind, text=text)

    async with opened(pool, **options) as identity:
        with pytest.raises(ProviderUnavailable, match=r"Entra issued no token") as raised:
            await identity.token(SCOPE, TENANT if refusal else None)

    assert raised.value.facts.transient
    assert TENANT not in str(raised.value)
    assert APP not in str(raised.value)


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize("tenant", ["a b", "../common", "contoso/oauth2", "x?y"])
async def test_an_invalid_tenant_is_the_connections_fault(authority: Authority, tenant: str) -> None:
    """A text that can't be a tenant's id makes the connection invalid, without a request to Entra."""
    async with opened(**federated(authority)) as identity:
        with pytest.raises(ConnectionInvalid, match="`tenant_id`"):
            await identity.token(SCOPE, tenant)

    assert [] == authority.requests


@pytest.mark.usefixtures("vault")
async def test_a_managed_identitys_token_needs_no_sdk() -> None:
    """Neither making an Identity nor the endpoint's token imports one, so a cold start is not slower for it."""
    script = (
        "import asyncio, ssl, sys\n"
        "from shared.connections.identity import Identity\n"
        "from shared.network.pool import Pool\n"
        "async def main():\n"
        "    identity = Identity(Pool(ssl.create_default_context), client_id='a', entra_client_id='b')\n"
        "    token = await identity.token('https://ai.azure.com/.default', None)\n"
        "    print(bool(token), [name for name in sys.modules if name.startswith(('aiohttp', 'azure', 'msal'))])\n"
        "asyncio.run(main())\n"
    )

    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()

    assert b"True []" == output.strip()
