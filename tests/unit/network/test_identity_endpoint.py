"""App Service's endpoint for tokens: the request is azure-identity's, and only a token is a result."""

from __future__ import annotations

import json
import logging
import ssl
import time
from typing import Any

import pytest
from aiohttp import web
from azure.identity.aio import ManagedIdentityCredential

from shared.network.identity_endpoint import IdentityEndpoint
from shared.network.pool import Pool
from tests.support.loopback import serve
from tests.support.rows import every_row
from tests.support.storage_pools import RecordingPool

SCOPE = "https://vault.azure.net/.default"
CLIENT = "99999999-8888-7777-6666-555555555555"
ENVIRONMENT = {"IDENTITY_ENDPOINT": "http://127.0.0.1:41000/msi/token", "IDENTITY_HEADER": "the-header"}

DEEP = b'{"x": ' + b"[" * 100_000


def endpoint(pool: Pool, **changes: str) -> IdentityEndpoint | None:
    """The endpoint of an environment."""
    return IdentityEndpoint.of({**ENVIRONMENT, **changes}, "", pool)


def body(**changes: Any) -> bytes:
    """A response, as documented for App Service, with changes; None removes a member."""
    members = {
        "access_token": "the-token",
        "expires_on": str(int(time.time()) + 86_400),
        "resource": "https://vault.azure.net",
        "token_type": "Bearer",
        "client_id": CLIENT,
        **changes,
    }
    return json.dumps({name: each for name, each in members.items() if each is not None}).encode()


@every_row("client_id", ["", CLIENT])
@every_row("scope", [SCOPE, "api://AzureADTokenExchange/.default", "https://ai.azure.com"])
async def test_the_request_is_azure_identitys(client_id: str, scope: str, monkeypatch: pytest.MonkeyPatch):
    """The same path, query and header; and so is what is made of the response."""
    requests: list[tuple[str, str, str | None, dict[str, str]]] = []

    async def answer(request: web.Request) -> web.Response:
        query = dict(request.query)
        requests.append((request.method, request.path, request.headers.get("X-IDENTITY-HEADER"), query))
        return web.Response(body=body(resource=query["resource"]), content_type="application/json")

    async with serve(answer) as url:
        environment = {"IDENTITY_ENDPOINT": f"{url}/msi/token", "IDENTITY_HEADER": "the-header"}
        for name, text in environment.items():
            monkeypatch.setenv(name, text)
        async with ManagedIdentityCredential(client_id=client_id or None) as sdk:
            issued = await sdk.get_token_info(scope)
        pool = Pool(ssl.create_default_context)
        direct = IdentityEndpoint.of(environment, client_id, pool)
        assert direct is not None
        token = await direct.request(scope, time.time())
        pool.close()

    assert 2 == len(requests)
    assert requests[0] == requests[1]
    assert token is not None
    assert (issued.token, issued.expires_on) == (token.value.reveal(), pytest.approx(token.expires_on, abs=2))
    assert issued.refresh_on == pytest.approx(token.renew_on, abs=2)


@every_row(
    ("status", "content"),
    [
        *((status, body()) for status in (201, 204, 301, 307, 400, 401, 403, 404, 429, 500, 503)),
        *(
            (200, content)
            for content in (b"", b"{", b"[]", b'{"access_token": "\xff"}', b"<html>the-token</html>", DEEP)
        ),
        *((200, body(access_token=token)) for token in (None, "", 1, "the-token\r\nx: y", "the token", "the-tokén")),
        *((200, body(expires_on=text)) for text in (None, "", "soon", "-1", "1700000000", 1_700_000_000, 1.5, 10**400)),
    ],
)
async def test_everything_but_a_token_is_left_to_the_sdk(status: int, content: bytes, caplog: pytest.LogCaptureFixture):
    """The log says why, and nothing of what came."""
    pool = RecordingPool(status, content)
    direct = endpoint(pool)
    assert direct is not None

    assert await direct.request(SCOPE, time.time()) is None

    assert 1 == len(pool.requests)
    ((_, level, text),) = caplog.record_tuples
    assert logging.WARNING == level
    assert text.startswith("sdk_repeated host=127.0.0.1: The identity's endpoint ")
    assert "the-" not in f"{text} {vars(direct)}"
    assert caplog.records[0].exc_info is None


async def test_nothing_is_sent_that_would_be_two_headers():
    """The header and the scope are sent as they are, or not at all."""
    pool = RecordingPool(200, body())
    direct = endpoint(pool, IDENTITY_HEADER="a\r\nb: c")
    assert direct is not None

    assert await direct.request(SCOPE, time.time()) is None
    assert [] == pool.requests


@every_row(
    "changes",
    [
        {"IDENTITY_ENDPOINT": ""},
        {"IDENTITY_HEADER": ""},
        {"IDENTITY_SERVER_THUMBPRINT": "ab12"},
        {"IDENTITY_ENDPOINT": "unix:///run/identity"},
        {"IDENTITY_ENDPOINT": "http://127.0.0.1:41000/msi/token?a=b"},
        {"IDENTITY_ENDPOINT": "http://user@127.0.0.1:41000/msi/token"},
        *(
            {"IDENTITY_ENDPOINT": f"http://{host}/msi/token"}
            for host in ("", ":41000", "127.0.0.1:port", "127.0.0.1:0", "127.0.0.1:99999", "[::1", "[x]", "127.0.0.1\n")
        ),
    ],
)
def test_other_platforms_are_left_to_the_sdk(changes: dict[str, str]):
    """Such as Service Fabric, or one with neither endpoint nor header."""
    assert endpoint(RecordingPool(200)) is not None
    assert endpoint(RecordingPool(200), **changes) is None
