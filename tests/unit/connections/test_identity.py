"""The app's identity, through the unchanged azure-identity: tokens of its own tenant and of customers'."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme
from aiohttp import web

from shared.connections.identity import Identity
from shared.errors import ConnectionInvalid, ProviderUnavailable

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
async def opened(**options: Any) -> AsyncIterator[Identity]:
    """An identity until the block ends."""
    identity = Identity(**options)
    try:
        yield identity
    finally:
        await identity.close()


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
async def test_the_managed_identity_has_a_token() -> None:
    """On Azure, tokens of the app's own tenant come from its managed identity, and are cached."""
    async with opened() as identity:
        first = await identity.token(SCOPE, None)
        second = await identity.token(SCOPE, None)

    assert first.reveal().startswith("local-")
    assert first == second
    assert "***" == repr(first)


@pytest.mark.usefixtures("vault")
async def test_one_credential_per_identity() -> None:
    """There is one credential for each user-assigned identity."""
    async with opened(client_id="one") as identity:
        assert identity.credential() is identity.credential("one")
        assert identity.credential() is not identity.credential("two")


@pytest.mark.usefixtures("vault")
async def test_a_foreign_tenant_needs_an_app_registration() -> None:
    """A managed identity can't get tokens of a customer's tenant: without ENTRA_CLIENT_ID the connection is invalid."""
    async with opened() as identity:
        with pytest.raises(ConnectionInvalid, match="ENTRA_CLIENT_ID"):
            await identity.token(SCOPE, TENANT)


@pytest.mark.usefixtures("vault")
async def test_the_managed_identity_is_the_assertion_in_a_customers_tenant(authority: Authority) -> None:
    """The request names tenant, app registration and scope, and has the identity's own token as its assertion."""
    async with opened(**federated(authority)) as identity:
        token = await identity.token(SCOPE, TENANT)

    ((path, form),) = authority.requests
    assert f"/{TENANT}/oauth2/v2.0/token" == path
    assert "theirs-1" == token.reveal()
    assert (APP, "client_credentials", SCOPE) == (form["client_id"], form["grant_type"], form["scope"])
    assert form["client_assertion"].startswith("local-")
    assert "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" == form["client_assertion_type"]


@pytest.mark.usefixtures("vault")
async def test_tokens_are_cached_by_tenant(authority: Authority) -> None:
    """Each tenant has its own token, requested once."""
    async with opened(**federated(authority)) as identity:
        tokens = [await identity.token(SCOPE, tenant) for tenant in ("a", "b", "a", "b")]

    assert ["theirs-1", "theirs-2", "theirs-1", "theirs-2"] == [token.reveal() for token in tokens]
    assert ["/a/oauth2/v2.0/token", "/b/oauth2/v2.0/token"] == [path for path, _ in authority.requests]


@pytest.mark.usefixtures("vault")
async def test_many_jobs_of_a_tenant_get_a_token(authority: Authority) -> None:
    """Jobs that need their first token at the same time all get one."""
    async with opened(**federated(authority)) as identity:
        tokens = await asyncio.gather(*(identity.token(SCOPE, TENANT) for _ in range(20)))

    assert all(token.reveal().startswith("theirs-") for token in tokens)


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize(
    "refusal",
    [
        (401, "application/json", f'{{"error": "invalid_client", "error_description": "{TENANT} {APP}"}}'),
        (400, "application/json", f'{{"error": "unauthorized_client", "error_description": "{APP}"}}'),
        (503, "text/html", f"<html>{TENANT} {APP}</html>"),
        (200, "application/json", "{"),
    ],
    ids=["401", "400", "503", "no JSON"],
)
async def test_a_refusal_by_entra_is_unavailable(authority: Authority, refusal: tuple[int, str, str]) -> None:
    """If Entra issues no token, the job may be retried; its error names no tenant and no app."""
    status, kind, text = refusal
    authority.refusal = web.Response(status=status, content_type=kind, text=text)

    async with opened(**federated(authority)) as identity:
        with pytest.raises(ProviderUnavailable, match=r"Entra issued no token") as raised:
            await identity.token(SCOPE, TENANT)

    assert raised.value.facts.transient
    assert TENANT not in str(raised.value)
    assert APP not in str(raised.value)


@pytest.mark.usefixtures("vault")
async def test_unreachable_entra_is_unavailable(authority: Authority) -> None:
    """If Entra can't be reached, the job may be retried."""
    options = federated(authority) | {"authority": "https://localhost:1"}

    async with opened(**options) as identity:
        with pytest.raises(ProviderUnavailable, match="Entra issued no token"):
            await identity.token(SCOPE, TENANT)


@pytest.mark.usefixtures("vault")
@pytest.mark.parametrize("tenant", ["a b", "../common", "contoso/oauth2", "x?y"])
async def test_an_invalid_tenant_is_the_connections_fault(authority: Authority, tenant: str) -> None:
    """A text that can't be a tenant's id makes the connection invalid, without a request to Entra."""
    async with opened(**federated(authority)) as identity:
        with pytest.raises(ConnectionInvalid, match="`tenant_id`"):
            await identity.token(SCOPE, tenant)

    assert [] == authority.requests


async def test_an_app_without_an_identity_gets_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the endpoint of the managed identity refuses, there is no token for now."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "x")

    async with opened(retry_total=0) as identity:
        with pytest.raises(ProviderUnavailable, match="Entra issued no token"):
            await identity.token(SCOPE, None)


def test_azure_identity_is_imported_on_first_use() -> None:
    """Making an Identity does not import it, so a cold start without tokens is not slower."""
    script = (
        "import sys\n"
        "from shared.connections.identity import Identity\n"
        "Identity(client_id='a', entra_client_id='b')\n"
        "print([name for name in sys.modules if name.startswith(('azure', 'msal'))])\n"
    )

    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "[]" == completed.stdout.strip()
