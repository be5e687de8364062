"""The HTTP client to customers' endpoints: what it sends, what it returns, and which error each failure is."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import time
import uuid
import zlib
from typing import Any

import pytest
from aiohttp import web

from shared.errors import (
    ConnectionInvalid,
    CredentialRejected,
    ProviderUnavailable,
    RequestRejected,
    UpstreamError,
    UpstreamFacts,
    UpstreamTimeout,
)
from shared.secret import Secret
from shared.upstream import guarded_session
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import Access, ApiKey, EntraAccess, Response, UpstreamRequest
from tests.support.clients import Resolver, Tokens, open_client
from tests.support.endpoint import Account, Answer, Endpoint, completion, endless, error, reply, reset, truncated


class Recorder:
    """An Answer that records when it was called, and over which connections."""

    def __init__(self, answer: Answer) -> None:
        self.calls = 0
        self.peers: set[Any] = set()
        self._answer = answer

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """See Answer."""
        assert request.transport is not None
        self.calls += 1
        self.peers.add(request.transport.get_extra_info("peername"))
        return await self._answer(request)


async def send(
    client: UpstreamClient, account: Account, *, url: str = "", access: Access | None = None, timeout_s: float = 30.0
) -> Response:
    """Send one request with the account's key."""
    request = UpstreamRequest("POST", url or f"{account.base}/v1/x", b'{"a": 1}', {"content-type": "application/json"})
    return await client.send(request, access or ApiKey("api-key", Secret(account.key)), timeout_s=timeout_s)


def encoded(body: bytes, encoding: str) -> Answer:
    """An answer with bytes that it says are encoded."""
    return reply(body, headers={"content-encoding": encoding})


async def dripping(request: web.Request) -> web.StreamResponse:
    """Send a little at a time, for half a minute."""
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    for _ in range(600):
        try:
            await response.write(b" ")
        except ConnectionError:
            break
        await asyncio.sleep(0.05)
    return response


# Requests.


@pytest.mark.parametrize(
    ("header", "prefix"), [("api-key", ""), ("authorization", "Bearer ")], ids=["api-key", "bearer"]
)
async def test_only_the_key_is_added_to_a_request(client: UpstreamClient, account: Account, header: str, prefix: str):
    """The endpoint gets the request as it is, the key in its header, and what HTTP itself needs."""
    response = await send(client, account, access=ApiKey(header, Secret(account.key)))

    (received,) = account.received
    assert 200 == response.status
    assert ("POST", "/v1/x", b'{"a": 1}') == (received.method, received.path, received.body)
    assert f"{prefix}{account.key}" == received.headers.pop(header)
    assert {
        "host": account.base.removeprefix("http://"),
        "user-agent": "customer-ai-jobs",
        "accept": "*/*",
        "accept-encoding": "gzip, deflate",
        "connection": "keep-alive",
        "content-type": "application/json",
        "content-length": "8",
    } == received.headers


async def test_query_and_escapes_of_the_url_arrive_unchanged(client: UpstreamClient, account: Account):
    """A path's escapes and the API version reach the endpoint as the provider's rules write them."""
    path = "/openai/deployments/gpt%204o/chat/completions"

    await send(client, account, url=f"{account.base}{path}?api-version=2024-10-21")

    (received,) = account.received
    assert "/openai/deployments/gpt 4o/chat/completions" == received.path
    assert {"api-version": "2024-10-21"} == received.query


async def test_a_cookie_is_not_kept(client: UpstreamClient, endpoint: Endpoint, account: Account):
    """A cookie of one customer's response is not sent with the next request, least of all with another customer's."""
    other = endpoint.account()
    account.will_answer(reply({}, headers={"set-cookie": "session=mine; Path=/"}))

    await send(client, account)
    await send(client, account)
    await send(client, other)

    for received in (*account.received, *other.received):
        assert "cookie" not in received.headers


async def test_a_token_is_sent_in_place_of_a_key(endpoint: Endpoint):
    """Entra access sends a token for its scope and tenant as a bearer token, and redacts it in responses."""
    tokens = Tokens(f"token-{uuid.uuid4().hex}")
    account = endpoint.account(tokens.text)
    account.will_answer(reply({"echo": tokens.text}), error(400, message=tokens.text))
    access = EntraAccess("https://ai.azure.com/.default", "tenant-1")
    async with open_client(tokens) as client:
        response = await send(client, account, access=access)
        with pytest.raises(RequestRejected) as raised:
            await send(client, account, access=access)

    assert b'{"echo": "***"}' == response.body
    assert tokens.text not in str(raised.value)
    assert {f"Bearer {tokens.text}"} == {received.headers["authorization"] for received in account.received}
    assert [("https://ai.azure.com/.default", "tenant-1")] * 2 == tokens.requests
    assert all("api-key" not in received.headers for received in account.received)


async def test_a_token_that_is_not_issued_is_no_call(endpoint: Endpoint):
    """Nothing was sent, so nothing can have been billed; the next try may succeed."""
    tokens = Tokens(f"token-{uuid.uuid4().hex}", failures=1)
    account = endpoint.account(tokens.text)
    async with open_client(tokens) as client:
        with pytest.raises(ProviderUnavailable, match="Entra issued no token") as raised:
            await send(client, account, access=EntraAccess("scope"))
        response = await send(client, account, access=EntraAccess("scope"))

    assert (True, False) == (raised.value.facts.transient, raised.value.facts.unanswered)
    assert (200, 1) == (response.status, len(account.received))


async def test_a_slow_token_counts_against_the_timeout(account: Account):
    """`timeout_s` bounds the token's fetching as well; nothing was sent by then."""
    async with open_client(Tokens(account.key, after_s=30)) as client:
        start = time.monotonic()

        with pytest.raises(UpstreamTimeout) as raised:
            await send(client, account, access=EntraAccess("scope"), timeout_s=0.2)

    assert time.monotonic() - start < 20
    assert UpstreamFacts(transient=True) == raised.value.facts


async def test_requests_share_connections(account: Account):
    """Many requests at once take a connection each, and the next as many use the same ones again."""
    async with open_client() as client:
        recorder = Recorder(completion(after_s=0.05))
        account.will_answer(*[recorder] * 160)

        for _ in range(3):
            await asyncio.gather(*(send(client, account) for _ in range(50)))
        for _ in range(10):
            await send(client, account)

    assert 160 == recorder.calls
    assert len(recorder.peers) <= 50


async def test_a_cancelled_request_leaves_the_client_usable(client: UpstreamClient, account: Account):
    """Requests that are cancelled while they wait or read do not harm those after them."""
    account.will_answer(*[completion(after_s=30)] * 5, *[dripping] * 5)
    requests = [asyncio.create_task(send(client, account)) for _ in range(10)]
    while len(account.received) < 10:  # noqa: ASYNC110  # a list has no event
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)

    for request in requests:
        request.cancel()
    ended = await asyncio.gather(*requests, return_exceptions=True)

    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in ended)
    assert 200 == (await send(client, account)).status


# Responses.


async def test_a_response_is_returned_as_it_is(client: UpstreamClient, account: Account):
    """A 2xx response is returned whatever it holds: what it means is for the action to say."""
    account.will_answer(reply(b"<html>", status=201, headers={"x-request-id": "req-7"}))

    response = await send(client, account)

    assert (201, b"<html>", "req-7") == (response.status, response.body, response.request_id)
    assert "application/json" == response.headers["content-type"]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [("gzip", gzip.compress(b'{"b": 2}')), ("deflate", zlib.compress(b'{"b": 2}'))],
    ids=["gzip", "deflate"],
)
async def test_a_compressed_response_is_decompressed(
    client: UpstreamClient, account: Account, encoding: str, body: bytes
):
    """The body is as it was before the endpoint compressed it."""
    account.will_answer(encoded(body, encoding))

    assert b'{"b": 2}' == (await send(client, account)).body


async def test_a_response_that_does_not_decompress_is_broken(client: UpstreamClient, account: Account):
    """A body that claims to be gzip and is not is a failure of the endpoint, worth another try, and may be billed."""
    account.will_answer(encoded(b"not gzip at all", "gzip"))

    with pytest.raises(ProviderUnavailable) as raised:
        await send(client, account)

    assert (True, True) == (raised.value.facts.transient, raised.value.facts.unanswered)


async def test_an_endless_response_is_given_up(
    client: UpstreamClient, account: Account, monkeypatch: pytest.MonkeyPatch
):
    """A response beyond the limit is cut off, is not worth another try, may be billed, and leaves the client usable."""
    monkeypatch.setattr("shared.upstream.client.MAX_RESPONSE_BYTES", 4 * 1024 * 1024)
    account.will_answer(endless)

    with pytest.raises(ProviderUnavailable, match="more than 4 MiB") as raised:
        await send(client, account)

    assert UpstreamFacts(status=200, unanswered=True) == raised.value.facts
    assert 200 == (await send(client, account)).status


async def test_a_small_response_that_decompresses_endlessly_is_given_up(
    client: UpstreamClient, account: Account, monkeypatch: pytest.MonkeyPatch
):
    """The limit counts decompressed bytes, not those that were sent."""
    monkeypatch.setattr("shared.upstream.client.MAX_RESPONSE_BYTES", 1024 * 1024)
    account.will_answer(encoded(gzip.compress(bytes(32 * 1024 * 1024)), "gzip"))

    with pytest.raises(ProviderUnavailable, match="more than 1 MiB"):
        await send(client, account)


async def test_a_response_compressed_twice_is_refused(client: UpstreamClient, account: Account):
    """Compressed twice, a few bytes could become gigabytes at once; decompression is not begun."""
    account.will_answer(encoded(gzip.compress(gzip.compress(bytes(64 * 1024 * 1024))), "gzip, gzip"))

    with pytest.raises(ProviderUnavailable, match="encoding"):
        await send(client, account)


async def test_a_response_may_be_full_of_logprobs(client: UpstreamClient, account: Account):
    """A long completion with `top_logprobs` of 20 is a legal response, and billed."""
    token = {"token": "ab", "logprob": -0.1, "bytes": [97, 98]}
    content = [token | {"top_logprobs": [token] * 20}] * 10_000
    account.will_answer(completion(choices=[{"index": 0, "logprobs": {"content": content}}]))

    assert 200 == (await send(client, account)).status


@pytest.mark.parametrize(("status", "unanswered"), [(200, True), (400, False)])
async def test_a_response_of_lists_alone_is_not_decoded(
    client: UpstreamClient, account: Account, status: int, unanswered: bool
):
    """JSON that would take many times its size in memory is refused; a success counts as one that may be billed."""
    account.will_answer(reply(b"[" + b"[]," * 2_000_000 + b"0]", status=status))

    with pytest.raises(ProviderUnavailable, match="lists and objects") as raised:
        await send(client, account)

    assert (status, unanswered) == (raised.value.facts.status, raised.value.facts.unanswered)


# Failures.


async def test_a_redirect_is_not_followed(client: UpstreamClient, account: Account):
    """A redirect is a refusal: the key goes to the connection's own endpoint and nowhere else."""
    headers = {"location": f"{account.base}/elsewhere"}
    account.will_answer(reply({}, status=307, headers=headers))

    with pytest.raises(RequestRejected, match="redirect") as raised:
        await send(client, account)

    assert ["/v1/x"] == [received.path for received in account.received]
    assert "elsewhere" not in str(raised.value)


@pytest.mark.parametrize("slow", [completion(after_s=30), dripping], ids=["first byte", "body"])
async def test_a_slow_response_is_a_timeout(client: UpstreamClient, account: Account, slow: Answer):
    """`timeout_s` bounds the whole exchange, from the connection to the last byte; the error names the host."""
    account.will_answer(slow)
    start = time.monotonic()

    with pytest.raises(UpstreamTimeout, match=r"127\.0\.0\.1 did not answer within 0\.2 s") as raised:
        await send(client, account, timeout_s=0.2)

    assert time.monotonic() - start < 20
    assert UpstreamFacts(transient=True, unanswered=True) == raised.value.facts


@pytest.mark.parametrize("answer", [reset, truncated])
async def test_a_broken_response_may_be_billed(client: UpstreamClient, account: Account, answer: Answer):
    """The request was sent, and no whole response came back."""
    account.will_answer(answer)

    with pytest.raises(ProviderUnavailable, match=r"127\.0\.0\.1 could not be reached, or closed") as raised:
        await send(client, account)

    assert UpstreamFacts(transient=True, unanswered=True) == raised.value.facts


async def test_an_endpoint_that_is_not_there_is_unavailable(client: UpstreamClient, account: Account):
    """If nothing listens, nothing was sent: the error is transient and has no status."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1/x"

        with pytest.raises(ProviderUnavailable, match=r"127\.0\.0\.1 could not be reached") as raised:
            await send(client, account, url=url)

    assert UpstreamFacts(transient=True) == raised.value.facts


@pytest.mark.parametrize(
    "text",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100_000 + b"\r\n\r\n",
        b"",
    ],
    ids=["ssh", "bad header", "bad length", "bad chunk", "long header", "nothing"],
)
async def test_a_response_that_is_not_http_is_unavailable(client: UpstreamClient, account: Account, text: bytes):
    """Whatever else than HTTP comes back is the endpoint's failure, never a crash of ours."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(text)
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/x"
        with pytest.raises(ProviderUnavailable) as raised:
            await send(client, account, url=url)

    assert raised.value.facts.transient


async def test_a_refusal_knows_its_status_and_request_id(client: UpstreamClient, account: Account):
    """The client maps it and does not retry it."""
    account.will_answer(error(503))

    with pytest.raises(ProviderUnavailable) as raised:
        await send(client, account)

    assert UpstreamFacts(503, "req-e", transient=True, detail={"code": "503", "type": "error"}) == raised.value.facts
    assert 1 == len(account.received)


# Keys.


async def test_a_key_in_a_response_is_redacted(client: UpstreamClient, account: Account):
    """A gateway that quotes the key in its response does not get it into a result, nor by a header."""
    headers = {"x-request-id": f"req {account.key}"}
    account.will_answer(reply({"you sent": account.key}, headers=headers))

    response = await send(client, account)

    assert b'{"you sent": "***"}' == response.body
    assert "req ***" == response.request_id
    assert account.key not in str(response)


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_a_key_in_an_error_is_redacted(client: UpstreamClient, account: Account, status: int):
    """A key that the endpoint quotes in a refusal is in no error's message, detail or cause."""
    headers = {"x-request-id": account.key}
    body = {"error": {"code": account.key, "message": f"Key {account.key} is bad.", "param": account.key}}
    account.will_answer(reply(body, status=status, headers=headers))

    with pytest.raises(UpstreamError) as raised:
        await send(client, account)

    assert account.key not in f"{raised.value!r} {raised.value.facts!r} {raised.value.__cause__!r}"


async def test_no_log_line_has_a_key(client: UpstreamClient, account: Account, caplog: pytest.LogCaptureFixture):
    """With every logger at its lowest level, the key is nowhere."""
    account.will_answer(error(400, message=account.key))

    with caplog.at_level(logging.DEBUG), pytest.raises(RequestRejected):
        await send(client, account)

    assert account.key not in caplog.text


async def test_a_wrong_key_is_a_rejected_credential(client: UpstreamClient, account: Account):
    """The 401 of an endpoint that does not know the key is CredentialRejected and quotes nothing."""
    with pytest.raises(CredentialRejected) as raised:
        await send(client, account, access=ApiKey("api-key", Secret("a-key-of-nobody")))

    assert "a-key-of-nobody" not in str(raised.value)


# Addresses.


async def test_this_machine_is_not_called_unless_allowed(account: Account):
    """A name that resolves to loopback is refused if local endpoints are off, and nothing is sent."""
    async with open_client(allow_local=False) as client:
        with pytest.raises(ConnectionInvalid, match="localhost resolves to an IP address that is not allowed"):
            await send(client, account, url=f"{account.base.replace('127.0.0.1', 'localhost')}/v1/x")

    assert [] == account.received


@pytest.mark.parametrize(
    "addresses", [["10.0.0.5"], ["169.254.169.254"], ["8.8.8.8", "192.168.1.1"], ["::ffff:10.0.0.1"]]
)
async def test_a_name_with_a_private_address_is_refused(
    account: Account, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
):
    """A public name does not lead to a private address, not even as one of several."""
    resolver = Resolver({"ai.contoso.example": addresses})
    monkeypatch.setattr(guarded_session, "DefaultResolver", lambda: resolver)
    async with open_client() as client:
        with pytest.raises(ConnectionInvalid, match="ALLOW_PRIVATE_ENDPOINTS"):
            await send(client, account, url="http://ai.contoso.example/v1/x")


async def test_the_address_that_was_checked_is_called(account: Account, monkeypatch: pytest.MonkeyPatch):
    """A name is resolved by the guarded resolver alone, and the request goes to what it returned."""
    resolver = Resolver({"ai.contoso.example": ["127.0.0.1"]})
    monkeypatch.setattr(guarded_session, "DefaultResolver", lambda: resolver)
    async with open_client() as client:
        await send(client, account, url=f"{account.base.replace('127.0.0.1', 'ai.contoso.example')}/v1/x")

    (received,) = account.received
    assert received.headers["host"].startswith("ai.contoso.example:")


async def test_a_name_that_does_not_exist_is_unavailable(account: Account, monkeypatch: pytest.MonkeyPatch):
    """A name without an address is an endpoint that can't be reached now."""
    monkeypatch.setattr(guarded_session, "DefaultResolver", lambda: Resolver({}))
    async with open_client(allow_local=False) as client:
        with pytest.raises(ProviderUnavailable, match=r"ai\.contoso\.example could not be reached") as raised:
            await send(client, account, url="https://ai.contoso.example/v1/x")

    assert UpstreamFacts(transient=True) == raised.value.facts


async def test_an_invalid_url_is_an_invalid_connection(client: UpstreamClient, account: Account):
    """The URL follows from the connection's endpoint."""
    with pytest.raises(ConnectionInvalid, match="The URL that follows from the connection's `endpoint` is not valid"):
        await send(client, account, url="http://[::1/v1/x")


# Callbacks and files.


async def test_a_callback_is_posted_without_a_credential(client: UpstreamClient, account: Account):
    """Only the status and the wait of the answer are read, whatever else it has."""
    account.will_answer(reply({}, status=503, headers={"retry-after": "7"}))
    url = f"{account.base}/hook?key={account.key}"

    receipt = await client.post(url, b"{}", {"authorization": f"Bearer {account.key}"}, timeout_s=5)

    assert (503, 7) == (receipt.status, receipt.retry_after_s)
    assert [("POST", "/hook", b"{}")] == [(call.method, call.path, call.body) for call in account.received]


@pytest.mark.parametrize("url", ["http://10.0.0.5/hook", "https://user@example.com/hook", "ftp://example.com", "x"])
async def test_a_callback_goes_to_a_public_address(client: UpstreamClient, url: str):
    """The error names the job's member."""
    with pytest.raises(ConnectionInvalid, match="`callback`"):
        await client.post(url, b"{}", {}, timeout_s=5)


async def test_private_endpoints_open_no_private_callback(monkeypatch: pytest.MonkeyPatch):
    """A name that leads to a private address may be an endpoint if that is allowed, but no callback and no file."""
    resolver = Resolver({"ai.contoso.example": ["10.0.0.5"]})
    monkeypatch.setattr(guarded_session, "DefaultResolver", lambda: resolver)
    client = UpstreamClient(Tokens(), allow_private=True)
    try:
        with pytest.raises(ConnectionInvalid, match="The `callback` names an address that is not allowed"):
            await client.post("https://ai.contoso.example/hook", b"{}", {}, timeout_s=5)
        with pytest.raises(ProviderUnavailable, match="names an address that is not allowed"):
            await client.fetch("https://ai.contoso.example/a.png", timeout_s=5)
    finally:
        await client.close()


async def test_a_file_is_fetched_without_a_credential(client: UpstreamClient, endpoint: Endpoint):
    """Its address is in a provider's response; a refusal says nothing about the customer's key."""
    with pytest.raises(ProviderUnavailable, match=r"127\.0\.0\.1 did not return the file \(401\)") as raised:
        await client.fetch(f"{endpoint.url}/a.png", timeout_s=5)

    assert (401, False) == (raised.value.facts.status, raised.value.facts.unanswered)
