"""The HTTP client to customers' endpoints: what it sends, what it returns, and which error each failure is."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
import time
import uuid
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from shared.errors import (
    ConnectionInvalid,
    ProviderUnavailable,
    RequestRejected,
    UpstreamError,
    UpstreamFacts,
    UpstreamRetryLater,
    UpstreamTimeout,
)
from shared.secret import Secret
from shared.upstream import guarded_addresses
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import Access, ApiKey, EntraAccess, Response, UpstreamRequest
from tests.support.clients import Resolver, Tokens, open_client
from tests.support.contexts import context_of
from tests.support.endpoint import Account, Answer, Endpoint, completion, endless, error, reply, reset, truncated
from tests.support.image_host import open_image_host
from tests.support.image_samples import PNG
from tests.support.rows import every_row


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
    return await client.send(
        request, access or ApiKey("api-key", Secret(account.key)), customer="acme", timeout_s=timeout_s
    )


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
    """
    The endpoint gets the request as it is, the key in its header, and what HTTP itself needs. Escapes and query of the
    URL are as the provider's rules write them; a cookie of one response is not sent with the next request.
    """
    account.will_answer(reply({}, headers={"set-cookie": "session=mine; Path=/"}))
    url = f"{account.base}/v1/gpt%204o?api-version=2024-10-21"
    for _ in range(2):
        response = await send(client, account, url=url, access=ApiKey(header, Secret(account.key)))

    (_, received) = account.received
    assert 200 == response.status
    assert ("POST", "/v1/gpt 4o", b'{"a": 1}') == (received.method, received.path, received.body)
    assert {"api-version": "2024-10-21"} == received.query
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
    assert UpstreamFacts(transient=True, unsent=True) == raised.value.facts


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


TOKEN = {"token": "ab", "logprob": -0.1, "bytes": [97, 98]}
LOGPROBS = f"[{','.join([json.dumps(TOKEN | {'top_logprobs': [TOKEN] * 20})] * 10_000)}]".encode()


@every_row(
    ("answer", "body"),
    [
        (reply(b"<html>", status=201, headers={"x-request-id": "req-7"}), b"<html>"),
        (encoded(gzip.compress(b'{"b": 2}'), "gzip"), b'{"b": 2}'),
        (encoded(zlib.compress(b'{"b": 2}'), "deflate"), b'{"b": 2}'),
        (reply(LOGPROBS), LOGPROBS),
    ],
    ids=["no JSON", "gzip", "deflate", "a long completion with `top_logprobs` of 20"],
)
async def test_a_response_is_returned_as_it_is(client: UpstreamClient, account: Account, answer: Answer, body: bytes):
    """A 2xx response is returned decompressed, whatever it holds: what it means is for the action to say."""
    account.will_answer(answer)

    response = await send(client, account)

    is_plain = body == b"<html>"
    assert (201 if is_plain else 200, body) == (response.status, response.body)
    assert not is_plain or "req-7" == response.request_id
    assert "application/json" == response.headers["content-type"]


CLOSED = r"127\.0\.0\.1 could not be reached, or closed"
BROKEN: dict[str, tuple[Answer, str, UpstreamFacts]] = {
    "reset": (reset, CLOSED, UpstreamFacts(transient=True, unanswered=True)),
    "truncated": (truncated, CLOSED, UpstreamFacts(transient=True, unanswered=True)),
    "not gzip": (
        encoded(b"\xff\x00 at all", "gzip"),
        "is not gzip",
        UpstreamFacts(status=200, unanswered=True),
    ),
    "endless": (endless, "more than 8 MiB", UpstreamFacts(status=200, unanswered=True)),
    "decompresses endlessly": (
        encoded(gzip.compress(bytes(16 * 1024 * 1024)), "gzip"),
        "more than 8 MiB",
        UpstreamFacts(status=200, unanswered=True),
    ),
    "compressed twice": (
        encoded(gzip.compress(gzip.compress(bytes(1024 * 1024))), "gzip, gzip"),
        "more than one content encoding",
        UpstreamFacts(status=200, unanswered=True),
    ),
}


@every_row(("answer", "words", "facts"), BROKEN.values(), ids=BROKEN)
async def test_a_response_that_can_not_be_read_may_be_billed(
    client: UpstreamClient,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    words: str,
    facts: UpstreamFacts,
):
    """
    No whole response came back, or one that can't be decoded, or beyond the limit of decompressed bytes: the error says
    whether another try may help and whether it may be billed. The client stays usable.
    """
    monkeypatch.setattr("shared.upstream.response_body.MAX_RESPONSE_BYTES", 8 * 1024 * 1024)
    account.will_answer(answer)

    with pytest.raises(ProviderUnavailable, match=words) as raised:
        await send(client, account)

    assert facts == raised.value.facts
    assert 200 == (await send(client, account)).status


# Failures.


@pytest.mark.parametrize("slow", [completion(after_s=30), dripping], ids=["first byte", "body"])
async def test_a_slow_response_is_a_timeout(client: UpstreamClient, account: Account, slow: Answer):
    """`timeout_s` bounds the whole exchange, from the connection to the last byte; the error names the host."""
    account.will_answer(slow)
    start = time.monotonic()

    with pytest.raises(UpstreamTimeout, match=r"127\.0\.0\.1 did not answer within 0\.2 s") as raised:
        await send(client, account, timeout_s=0.2)

    assert time.monotonic() - start < 20
    assert UpstreamFacts(transient=True, unanswered=True) == raised.value.facts


OK = b"HTTP/1.1 200 OK\r\n"
JSON = b'{"text": "Hello.", "usage": {"prompt_tokens": 1}}'
LENGTH = b"content-length: %d\r\n" % len(JSON)
CHUNKED = b"transfer-encoding: chunked\r\n"
IN_CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(JSON), JSON)
READABLE: dict[str, bytes] = {
    "plain": OK + LENGTH + b"\r\n" + JSON,
    "length before chunks": OK + LENGTH + CHUNKED + b"\r\n" + IN_CHUNKS,
    "chunks before length": OK + CHUNKED + LENGTH + b"\r\n" + IN_CHUNKS,
    "wrong length beside chunks": OK + b"Content-Length : 5\r\n".replace(b" :", b":") + CHUNKED + b"\r\n" + IN_CHUNKS,
    "length beside no encoding": OK + LENGTH + b"Transfer-Encoding: identity\r\n\r\n" + JSON,
    "length twice": OK + LENGTH * 2 + b"\r\n" + JSON,
    "long header": OK + LENGTH + b"x: " + b"x" * 100_000 + b"\r\n\r\n" + JSON,
    "many headers": OK + LENGTH + b"".join(b"x-%d: x\r\n" % n for n in range(900)) + b"\r\n" + JSON,
    "gzip that is not compressed": OK + LENGTH + b"content-encoding: gzip\r\n\r\n" + JSON,
    "deflate that is not compressed": OK + LENGTH + b"content-encoding: deflate\r\n\r\n" + JSON,
    "after 100 and 103": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\na: b\r\n\r\n"
    + OK
    + LENGTH
    + b"\r\n"
    + JSON,
    "bare line feeds": (OK + LENGTH + b"\r\n").replace(b"\r", b"") + JSON,
    "until the end": b"HTTP/1.0 200 OK\r\n\r\n" + JSON,
}
NOT_HTTP: dict[str, tuple[bytes | None, str, UpstreamFacts]] = {
    "ssh": (b"SSH-2.0-OpenSSH_9.6\r\n", "Expected HTTP/", UpstreamFacts(unanswered=True)),
    "bad header": (OK + b"bad header\r\n\r\n", "Invalid header token", UpstreamFacts(unanswered=True)),
    "bad length": (OK + b"content-length: many\r\n\r\n", "Content-Length", UpstreamFacts(unanswered=True)),
    "two lengths": (OK + LENGTH + b"content-length: 1\r\n\r\n", "Duplicate", UpstreamFacts(unanswered=True)),
    "bad chunk": (OK + CHUNKED + b"\r\nzz\r\n", "chunk size", UpstreamFacts(unanswered=True)),
    "huge header": (OK + b"x: " + b"x" * 300_000, "Headers of more than", UpstreamFacts(unanswered=True)),
    "nothing": (b"", "could not be reached", UpstreamFacts(transient=True, unanswered=True)),
    "nobody listens": (None, r"127\.0\.0\.1:\d+ could not be reached", UpstreamFacts(transient=True)),
}


@asynccontextmanager
async def raw_server(text: bytes | None) -> AsyncIterator[str]:
    """Serve these bytes as the answer to every request, and close the connection; None: nobody listens."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(text or b"")
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, start_serving=text is not None)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/x"


@every_row("text", READABLE.values(), ids=READABLE)
@every_row("status", [b"200 OK", b"400 Bad"])
async def test_what_other_clients_read_is_read(client: UpstreamClient, account: Account, text: bytes, status: bytes):
    """An answer that was paid for is read although its headers or its encoding are not quite right."""
    async with raw_server(text.replace(b"200 OK", status)) as url:
        if status.startswith(b"4"):
            with pytest.raises(RequestRejected):
                await send(client, account, url=url)
        else:
            assert JSON == (await send(client, account, url=url)).body


async def test_a_length_beside_no_encoding_ends_an_answer(account: Account):
    """The encoding `identity` does not make the answer last until the connection is closed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(READABLE["length beside no encoding"])
        await reader.read(10)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, open_client() as client:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/x"
        assert JSON == (await send(client, account, url=url, timeout_s=10)).body


async def test_a_refusal_is_one_whatever_its_encodings(client: UpstreamClient, account: Account):
    """Its status counts: it is no answer that was paid for and can't be read."""
    async with raw_server(b"HTTP/1.1 400 Bad\r\ncontent-encoding: gzip, gzip\r\n" + LENGTH + b"\r\n" + JSON) as url:
        with pytest.raises(RequestRejected):
            await send(client, account, url=url)


@every_row(("text", "words", "facts"), NOT_HTTP.values(), ids=NOT_HTTP)
async def test_a_response_that_is_not_http_is_bought_once(
    client: UpstreamClient, account: Account, text: bytes | None, words: str, facts: UpstreamFacts
):
    """
    An answer that can't be read is no lost connection: the error says what is wrong with it, and it is not retried. If
    nothing listens, nothing was sent, so nothing can be billed.
    """
    async with raw_server(text) as url:
        with pytest.raises(ProviderUnavailable, match=words) as raised:
            await send(client, account, url=url)

    assert facts == raised.value.facts


async def test_a_connection_that_the_other_side_has_closed_is_not_used(client: UpstreamClient, account: Account):
    """A connection that was closed while idle costs no failed call, although the event loop has not noticed yet."""
    requests = 0

    def serve(listener: socket.socket) -> None:
        nonlocal requests
        for _ in range(4):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                requests += 1
                connection.sendall(OK + LENGTH + b"\r\n" + JSON)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/x"
        serving = asyncio.get_running_loop().run_in_executor(None, serve, listener)
        for _ in range(4):
            assert JSON == (await send(client, account, url=url)).body
            time.sleep(0.05)  # noqa: ASYNC251  # the event loop is busy while the other side closes
        await serving

    assert 4 == requests


async def test_a_call_without_a_socket_was_never_sent(account: Account, monkeypatch: pytest.MonkeyPatch):
    """If all of the worker's connections are taken for as long as a call may take, the call was not sent."""
    monkeypatch.setattr("shared.upstream.client.MAX_CONNECTIONS", 1)
    account.will_answer(completion(after_s=2))
    async with open_client() as client:
        first = asyncio.create_task(send(client, account))
        await asyncio.sleep(0.1)

        with pytest.raises(UpstreamTimeout, match=r"could not be sent within 0\.2 s") as raised:
            await send(client, account, timeout_s=0.2)

        assert UpstreamFacts(transient=True, unsent=True) == raised.value.facts
        assert 200 == (await first).status
    assert 1 == len(account.received)


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


@every_row("status", [400, 401, 429, 500])
async def test_a_key_in_an_error_is_redacted(
    client: UpstreamClient, account: Account, caplog: pytest.LogCaptureFixture, status: int
):
    """A key that the endpoint quotes in a refusal is in no error's message, detail or cause, nor in any log line."""
    headers = {"x-request-id": account.key}
    body = {"error": {"code": account.key, "message": f"Key {account.key} is bad.", "param": account.key}}
    account.will_answer(reply(body, status=status, headers=headers))

    with caplog.at_level(logging.DEBUG), pytest.raises(UpstreamError) as raised:
        await send(client, account)

    assert account.key not in f"{raised.value!r} {raised.value.facts!r} {raised.value.__cause__!r} {caplog.text}"
    assert "credential_rejected" == raised.value.code or status != 401


# Addresses.


async def test_a_name_that_does_not_exist_is_unavailable(account: Account, monkeypatch: pytest.MonkeyPatch):
    """A name without an address is an endpoint that can't be reached now."""
    monkeypatch.setattr(guarded_addresses, "look_up", Resolver({}).look_up)
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
    """
    It has its own headers, and no credential or cookie. Only the status and the wait of the answer are read, whatever
    else it has; a redirect is not followed.
    """
    headers = {"retry-after": "7", "location": f"{account.base}/elsewhere", "set-cookie": "a=b; Path=/"}
    account.will_answer(reply({}, status=503, headers=headers), reply({}, status=307, headers=headers))
    url, own = f"{account.base}/hook?key={account.key}", {"authorization": f"Bearer {account.key}"}

    receipts = [
        await client.post(url, body, own, customer="acme", timeout_s=5, member="callback") for body in (b"1", b"2")
    ]

    assert [(503, 7), (307, 7)] == [(receipt.status, receipt.retry_after_s) for receipt in receipts]
    received = [(call.method, call.path, call.body) for call in account.received]
    assert [("POST", "/hook", b"1"), ("POST", "/hook", b"2")] == received
    for call in account.received:
        assert own["authorization"] == call.headers["authorization"]
        assert not {"cookie", "api-key"} & set(call.headers)


@every_row(
    ("url", "message"),
    [
        ("http://10.0.0.5/hook", "must begin with https://"),
        ("https://user@example.com/hook", "must be an https URL"),
        ("ftp://example.com", "must be an https URL"),
        ("x", "must be an https URL"),
        ("http://127.0.0.1:1/", "must not be on this machine"),
        ("https://localhost/", "must not be on this machine"),
        ("https://[::1]/", "must not be on this machine"),
    ],
)
async def test_a_callback_goes_to_a_public_address(url: str, message: str):
    """The error names the member that has the URL. Plain http and loopback are for the local stack alone."""
    async with open_client(allow_local=False) as client:
        with pytest.raises(ConnectionInvalid, match=f"The `callback` {message}"):
            await client.post(url, b"{}", {}, customer="acme", timeout_s=5, member="callback")
        with pytest.raises(ConnectionInvalid, match=f"The `notify` {message}"):
            await client.post(url, b"{}", {}, customer="acme", timeout_s=5, member="notify")


async def test_an_exchange_that_fails_names_no_more_than_the_host(client: UpstreamClient, account: Account):
    """A callback's timeout and a broken connection are errors that name nothing else of the URL."""
    account.will_answer(completion(after_s=30), reset)
    url = f"{account.base}/hook?key={account.key}&token=MARKED-TOKEN"
    headers = {"authorization": f"Bearer {account.key}"}
    with pytest.raises(UpstreamTimeout) as late:
        await client.post(url, b"", headers, customer="acme", timeout_s=0.05, member="callback")
    with pytest.raises(ProviderUnavailable) as broken:
        await client.post(url, b"", headers, customer="acme", timeout_s=5, member="callback")

    assert "MARKED" not in f"{late.value}{broken.value}"


async def test_private_endpoints_open_no_private_callback(monkeypatch: pytest.MonkeyPatch):
    """A name that leads to a private address may be an endpoint if that is allowed, but no callback and no file."""
    resolver = Resolver({"ai.contoso.example": ["10.0.0.5"]})
    monkeypatch.setattr(guarded_addresses, "look_up", resolver.look_up)
    client = UpstreamClient(Tokens(), allow_private=True)
    try:
        with pytest.raises(ConnectionInvalid, match="The `callback` names an address that is not allowed"):
            await client.post(
                "https://ai.contoso.example/hook", b"{}", {}, customer="acme", timeout_s=5, member="callback"
            )
        with pytest.raises(ConnectionInvalid, match="The `notify` names an address that is not allowed"):
            await client.post("https://ai.contoso.example/", b"", {}, customer="acme", timeout_s=5, member="notify")
        with pytest.raises(ProviderUnavailable, match="names an address that is not allowed"):
            await client.fetch("https://ai.contoso.example/a.png", customer="acme", timeout_s=5)
    finally:
        await client.close()


async def test_a_file_is_fetched_without_a_credential(client: UpstreamClient, endpoint: Endpoint):
    """Its address is in a provider's response; a refusal says nothing about the customer's key."""
    with pytest.raises(ProviderUnavailable, match=r"127\.0\.0\.1 did not return the file \(401\)") as raised:
        await client.fetch(f"{endpoint.url}/a.png", customer="acme", timeout_s=5)

    assert (401, False) == (raised.value.facts.status, raised.value.facts.unanswered)


async def test_a_file_that_fails_temporarily_is_fetched_again():
    """A job's fetch is tried again; for a wait that is too long for a call, the job is requeued."""
    async with open_image_host() as host, open_client() as client:
        host.answers["/flaky"] = [web.Response(status=503, headers={"retry-after-ms": "1"})]
        host.answers["/later"] = [web.Response(status=503, headers={"retry-after": "90"})]
        context = context_of(client, "http://127.0.0.1", ApiKey("api-key", Secret("k")))
        assert PNG == (await context.fetch(f"{host.url}/flaky")).body
        with pytest.raises(UpstreamRetryLater) as wait:
            await context.fetch(f"{host.url}/later")

    assert (90, ProviderUnavailable) == (wait.value.delay_s, type(wait.value.reason))
