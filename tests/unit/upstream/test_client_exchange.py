"""`exchange`: requests to systems of the operator's own, whose every answer is returned, without the key."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from shared.errors import ConnectionInvalid, ProviderUnavailable, UpstreamTimeout
from shared.secret import Secret
from shared.upstream.messages import UpstreamRequest
from tests.support.clients import open_client
from tests.support.loopback import Answer, serve
from tests.support.rows import every_row

KEY = "sk_live_MARKED-0123456789"


async def exchange(answer: Answer, *, path: str = "/v1/x", key: str | None = KEY, timeout_s: float = 5):
    """Send one request to a server that answers so."""
    request = UpstreamRequest("POST", path, b"{}", {"content-type": "application/json", "Authorization": "mine"})
    async with serve(answer) as url, open_client() as client:
        request = UpstreamRequest(request.method, f"{url}{path}", request.content, request.headers)
        secret = None if key is None else Secret(key)
        return await client.exchange(request, secret, name="(export x)", timeout_s=timeout_s)


@every_row("status", [200, 302, 400, 404, 429, 500, 503])
async def test_every_answer_is_returned_without_the_key(status: int):
    """Also one that is not 2xx; a receiver may quote the key that it was sent, in a header as well."""

    async def answer(request: web.Request) -> web.StreamResponse:
        sent = request.headers["authorization"]
        return web.Response(status=status, text=f"Invalid: {sent}", headers={"x-key": sent, "retry-after": "7"})

    response = await exchange(answer)

    assert (status, b"Invalid: Bearer ***") == (response.status, response.body)
    assert ("Bearer ***", "7") == (response.headers["x-key"], response.headers["retry-after"])


async def test_without_a_key_no_credential_is_sent():
    """A signed webhook has no `authorization`, whatever the request's own headers say."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(text=request.headers.get("authorization", "none"))

    assert b"none" == (await exchange(answer, key=None)).body


async def test_a_connection_that_breaks_may_have_been_received():
    """An event that was sent may have been counted; the error says so, and nothing of the URL or the key."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    with pytest.raises(ProviderUnavailable) as failure:
        await exchange(answer, path="/MARKED-PATH")

    assert failure.value.facts.unanswered
    assert "MARKED" not in str(failure.value)


async def test_nothing_was_sent_to_a_server_that_is_not_there():
    """The event was not received for certain."""
    request = UpstreamRequest("POST", "http://127.0.0.1:9/")
    async with open_client() as client:
        with pytest.raises(ProviderUnavailable) as failure:
            await client.exchange(request, None, name="(export x)", timeout_s=5)

    assert not failure.value.facts.unanswered


async def test_an_answer_that_does_not_come():
    """The time of a request is limited."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"a")
        await asyncio.sleep(2)
        return response

    with pytest.raises(UpstreamTimeout):
        await exchange(answer, timeout_s=0.2)


@every_row("url", ["http://billing.contoso.com/v1", "https://10.0.0.1/v1", "https://[::1", "https://169.254.169.254/"])
async def test_addresses_that_may_not_be_called(url: str):
    """The address is the operator's own, and still no other than a public name over https."""
    async with open_client() as client:
        with pytest.raises(ConnectionInvalid):
            await client.exchange(UpstreamRequest("POST", url), Secret(KEY), name="(export x)", timeout_s=5)
