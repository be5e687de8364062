"""The way out to customers' endpoints, over real HTTP: what is sent, what is tried again, what is refused."""

from __future__ import annotations

import asyncio
import gzip
import logging
import socket
import time
import uuid
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from shared.errors import (
    ConnectionInvalid,
    CredentialRejected,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    UpstreamError,
    UpstreamFacts,
    UpstreamRetryLater,
    UpstreamTimeout,
)
from shared.secret import Secret
from shared.upstream import guarded_session as sockets
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import Access, ApiKey, EntraAccess, Operation, Response, UpstreamRequest
from shared.upstream.retry import MAX_INLINE_WAIT_S
from tests.support.clients import Names, Tokens, opened
from tests.support.contexts import context_of
from tests.support.endpoint import Account, Answer, Endpoint, completion, endless, error, reply, reset, truncated

A_WEEK_S = 7 * 24 * 3600


class Noted:
    """An answer that notes when it was asked for, and over which connections."""

    def __init__(self, answer: Answer) -> None:
        self.times: list[float] = []
        self.peers: set[Any] = set()
        self._answer = answer

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """The answer."""
        assert request.transport is not None
        self.times.append(time.monotonic())
        self.peers.add(request.transport.get_extra_info("peername"))
        return await self._answer(request)


@pytest_asyncio.fixture(scope="session")
async def client() -> AsyncIterator[UpstreamClient]:
    """A client that may call this machine, for all tests that need no other."""
    async with opened() as shared:
        yield shared


@pytest.fixture
def account(endpoint: Endpoint) -> Account:
    """An account of one test's own."""
    return endpoint.account()


async def send(
    client: UpstreamClient,
    account: Account,
    *,
    url: str = "",
    access: Access | None = None,
    within_s: float = 30.0,
    **options: Any,
) -> Response:
    """One call of a job with the account's key and a deadline; a failed try is retried quickly."""
    request = UpstreamRequest("POST", url or f"{account.base}/v1/x", b'{"a": 1}', {"content-type": "application/json"})
    own = {"retry_delay_ms": 10, "exponential_backoff": False, "deadline_s": within_s} | options
    context = context_of(client, account.base, access or ApiKey("api-key", Secret(account.key)), **own)
    return await context.call(Operation(request))


def encoded(body: bytes, encoding: str) -> Answer:
    """Answers with bytes that it says are encoded."""
    return reply(body, headers={"content-encoding": encoding})


async def dripping(request: web.Request) -> web.StreamResponse:
    """Sends a little at a time, for half a minute."""
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    for _ in range(600):
        try:
            await response.write(b" ")
        except ConnectionError:
            break
        await asyncio.sleep(0.05)
    return response


@pytest.mark.parametrize(
    ("header", "prefix"), [("api-key", ""), ("authorization", "Bearer ")], ids=["api-key", "bearer"]
)
async def test_only_the_key_is_added_to_a_request(
    client: UpstreamClient, account: Account, header: str, prefix: str
) -> None:
    """The endpoint gets the request as it was given, the key in its header, and what HTTP itself needs."""
    reply_ = await send(client, account, access=ApiKey(header, Secret(account.key)))

    (received,) = account.received
    assert 200 == reply_.status
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


async def test_query_and_escapes_of_the_url_arrive_unchanged(client: UpstreamClient, account: Account) -> None:
    """A path's escapes and the API version reach the endpoint as the provider's rules wrote them."""
    path = "/openai/deployments/gpt%204o/chat/completions"

    await send(client, account, url=f"{account.base}{path}?api-version=2024-10-21")

    (received,) = account.received
    assert "/openai/deployments/gpt 4o/chat/completions" == received.path
    assert {"api-version": "2024-10-21"} == received.query


@pytest.mark.parametrize(
    "fault",
    [*(error(status) for status in (408, 409, 429, 500, 502, 503, 504)), reset, truncated],
    ids=["408", "409", "429", "500", "502", "503", "504", "reset", "truncated"],
)
async def test_what_may_pass_is_tried_again(client: UpstreamClient, account: Account, fault: Answer) -> None:
    """A fault that says nothing of the request itself is followed by a second try, which succeeds."""
    account.will_answer(fault)

    reply_ = await send(client, account)

    assert 200 == reply_.status
    assert 2 == len(account.received)
    assert account.received[0].headers == account.received[1].headers


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_what_will_not_pass_is_not_tried_again(client: UpstreamClient, account: Account, status: int) -> None:
    """A refusal of the request or the key ends the call at once; the error knows status and request id."""
    account.will_answer(error(status))

    with pytest.raises(UpstreamError) as raised:
        await send(client, account)

    assert (status, "req-e") == (raised.value.facts.status, raised.value.facts.request_id)
    assert 1 == len(account.received)


async def test_every_refusal_is_tried_again_where_the_job_says_so(client: UpstreamClient, account: Account) -> None:
    """With `retry_on_all_errors`, refusals that would be final are tried again as well."""
    account.will_answer(error(422), error(404))

    reply_ = await send(client, account, retry_on_all_errors=True)

    assert 200 == reply_.status
    assert 3 == len(account.received)


@pytest.mark.parametrize("retries", [0, 2])
async def test_tries_end_at_max_retries(client: UpstreamClient, account: Account, retries: int) -> None:
    """A call is made once and `max_retries` times again, and then raises what the last try ended with."""
    account.will_answer(*(error(503) for _ in range(5)))

    with pytest.raises(ProviderUnavailable) as raised:
        await send(client, account, max_retries=retries)

    assert 503 == raised.value.facts.status
    assert 1 + retries == len(account.received)


async def test_no_retries_means_that_a_long_wait_is_not_waited(client: UpstreamClient, account: Account) -> None:
    """Without retries, a 429 is the job's end, however long the endpoint asks to wait."""
    account.will_answer(error(429, retry_after="60"))

    with pytest.raises(RateLimited):
        await send(client, account, max_retries=0)


@pytest.mark.parametrize(
    ("headers", "expected_s"),
    [
        ({"retry_after_ms": "300"}, 0.3),
        ({"x_ms_retry_after_ms": "300"}, 0.3),
        ({"retry_after": "1"}, 1.0),
        ({"retry_after_ms": "300", "retry_after": "60"}, 0.3),
        ({"retry_after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
    ids=["retry-after-ms", "x-ms-retry-after-ms", "retry-after", "both", "past date"],
)
async def test_a_short_wait_that_the_endpoint_asks_for_is_sat_out(
    client: UpstreamClient, account: Account, headers: dict[str, str], expected_s: float
) -> None:
    """The second try comes after the endpoint's own waiting time, whatever the job's own delay is."""
    first, second = Noted(error(429, **headers)), Noted(completion())
    account.will_answer(first, second)

    await send(client, account, retry_delay_ms=250_000)

    waited = second.times[0] - first.times[0]
    assert expected_s - 0.02 <= waited < 20  # and not the job's 250 s


def in_a_minute() -> str:
    """An HTTP date."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)


@pytest.mark.parametrize(
    ("name", "value", "least_s"),
    [
        ("retry_after_ms", lambda: "60000", 60),
        ("x_ms_retry_after_ms", lambda: "60000", 60),
        ("retry_after", lambda: "60", 60),
        ("retry_after", in_a_minute, 30),
    ],
    ids=["retry-after-ms", "x-ms-retry-after-ms", "retry-after", "date"],
)
async def test_a_long_wait_is_not_sat_out(
    client: UpstreamClient, account: Account, name: str, value: Any, least_s: float
) -> None:
    """A wait beyond a few seconds is raised as UpstreamRetryLater, with the delay and what the endpoint said."""
    account.will_answer(error(429, message="Slow down, please.", **{name: value()}))

    with pytest.raises(UpstreamRetryLater, match=r"Slow down, please\.") as raised:
        await send(client, account)

    assert 60 > MAX_INLINE_WAIT_S
    assert least_s <= raised.value.delay_s <= 60
    assert isinstance(raised.value.reason, RateLimited)
    assert 1 == len(account.received)


async def test_an_absurd_wait_is_one_that_a_message_can_have(client: UpstreamClient, account: Account) -> None:
    """An endpoint that asks for an eternity gets the longest time that a message can be put back for."""
    account.will_answer(error(503, retry_after="1e300"))

    with pytest.raises(UpstreamRetryLater) as raised:
        await send(client, account)

    assert A_WEEK_S == raised.value.delay_s


async def test_no_try_begins_after_the_runs_end(client: UpstreamClient, account: Account) -> None:
    """A retry that would begin after `until` is postponed instead."""
    account.will_answer(error(503))

    with pytest.raises(UpstreamRetryLater) as raised:
        await send(client, account, retry_delay_ms=9000, within_s=8)

    assert 9 == raised.value.delay_s
    assert isinstance(raised.value.reason, ProviderUnavailable)


async def test_a_call_does_not_outlast_the_run(client: UpstreamClient, account: Account) -> None:
    """The end of the run cuts a call short, whatever its own timeout is."""
    account.will_answer(completion(after_s=30))
    begun = time.monotonic()

    with pytest.raises(UpstreamRetryLater):
        await send(client, account, within_s=0.2, timeout_s=60)

    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(("status", "told", "tries"), [(503, "false", 1), (400, "true", 2)], ids=["false", "true"])
async def test_the_endpoint_says_whether_to_retry(
    client: UpstreamClient, account: Account, status: int, told: str, tries: int
) -> None:
    """`x-should-retry` decides, against what the status alone would mean."""
    account.will_answer(error(status, x_should_retry=told))

    outcome = await asyncio.gather(send(client, account), return_exceptions=True)

    assert tries == len(account.received)
    assert isinstance(outcome[0], Response if tries == 2 else ProviderUnavailable)


@pytest.mark.parametrize("slow", [completion(after_s=30), dripping], ids=["first byte", "body"])
async def test_a_slow_answer_ends_in_a_timeout(client: UpstreamClient, account: Account, slow: Answer) -> None:
    """`timeout_s` bounds the whole call, from the connection to the last byte, and names the host."""
    account.will_answer(slow)
    begun = time.monotonic()

    with pytest.raises(UpstreamTimeout, match=r"127\.0\.0\.1 did not answer within 0\.2 s"):
        await send(client, account, timeout_s=0.2, max_retries=0)

    assert time.monotonic() - begun < 20


async def test_a_timeout_is_tried_again(client: UpstreamClient, account: Account) -> None:
    """A call that timed out once succeeds with the second try."""
    account.will_answer(completion(after_s=30))

    reply_ = await send(client, account, timeout_s=1.5)

    assert 200 == reply_.status


async def test_an_endless_answer_is_given_up(
    client: UpstreamClient, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer beyond the limit is broken off, is not tried again, and leaves the client usable."""
    monkeypatch.setattr("shared.upstream.client.MAX_RESPONSE_BYTES", 4 * 1024 * 1024)
    account.will_answer(endless)

    with pytest.raises(ProviderUnavailable, match="more than 4 MiB"):
        await send(client, account)

    assert 1 == len(account.received)
    assert 200 == (await send(client, account)).status


async def test_a_small_answer_that_unpacks_endlessly_is_given_up(
    client: UpstreamClient, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit counts what an answer unpacks to, not what was sent."""
    monkeypatch.setattr("shared.upstream.client.MAX_RESPONSE_BYTES", 1024 * 1024)
    account.will_answer(encoded(gzip.compress(bytes(32 * 1024 * 1024)), "gzip"))

    with pytest.raises(ProviderUnavailable, match="more than 1 MiB"):
        await send(client, account)


async def test_an_answer_packed_twice_is_refused(client: UpstreamClient, account: Account) -> None:
    """Two packings, one in the other, could unpack a few bytes to gigabytes at once; they are not begun."""
    account.will_answer(encoded(gzip.compress(gzip.compress(bytes(64 * 1024 * 1024))), "gzip, gzip"))

    with pytest.raises(ProviderUnavailable, match="encoding"):
        await send(client, account, max_retries=0)


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [("gzip", gzip.compress(b'{"b": 2}')), ("deflate", zlib.compress(b'{"b": 2}'))],
    ids=["gzip", "deflate"],
)
async def test_a_packed_answer_is_unpacked(
    client: UpstreamClient, account: Account, encoding: str, packed: bytes
) -> None:
    """What the endpoint sends compressed is given as it was."""
    account.will_answer(encoded(packed, encoding))

    assert b'{"b": 2}' == (await send(client, account)).body


async def test_an_answer_that_does_not_unpack_counts_as_broken_off(client: UpstreamClient, account: Account) -> None:
    """What claims to be gzip and is not is a fault of the endpoint, worth another try."""
    account.will_answer(encoded(b"not gzip at all", "gzip"))

    assert 200 == (await send(client, account)).status
    assert 2 == len(account.received)


async def test_a_redirect_is_not_followed(client: UpstreamClient, account: Account) -> None:
    """A redirect is a refusal: the key goes to the connection's own endpoint and nowhere else."""
    headers = {"location": f"{account.base}/elsewhere"}
    account.will_answer(reply({}, status=307, headers=headers))

    with pytest.raises(RequestRejected, match="redirect") as raised:
        await send(client, account)

    assert ["/v1/x"] == [received.path for received in account.received]
    assert "elsewhere" not in str(raised.value)


async def test_a_cookie_is_not_kept(client: UpstreamClient, endpoint: Endpoint, account: Account) -> None:
    """What one customer's call is given as a cookie is not sent with the next, least of all another's."""
    other = endpoint.account()
    account.will_answer(reply({}, headers={"set-cookie": "session=mine; Path=/"}))

    await send(client, account)
    await send(client, account)
    await send(client, other)

    for received in (*account.received, *other.received):
        assert "cookie" not in received.headers


async def test_what_is_not_json_is_handed_on(client: UpstreamClient, account: Account) -> None:
    """A 2xx answer is given whole, whatever it holds: what it means is for the action to say."""
    account.will_answer(reply(b"<html>", status=201, headers={"x-request-id": "req-7"}))

    reply_ = await send(client, account)

    assert (201, b"<html>", "req-7") == (reply_.status, reply_.body, reply_.request_id)
    assert "application/json" == reply_.headers["content-type"]


async def test_a_key_in_an_answer_is_blotted_out(client: UpstreamClient, account: Account) -> None:
    """A gateway that quotes the key in its answer does not get it into a result, nor by a header."""
    headers = {"x-request-id": f"req {account.key}"}
    account.will_answer(reply({"you sent": account.key}, headers=headers))

    reply_ = await send(client, account)

    assert b'{"you sent": "***"}' == reply_.body
    assert "req ***" == reply_.request_id
    assert account.key not in str(reply_)


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_a_key_in_an_error_is_blotted_out(client: UpstreamClient, account: Account, status: int) -> None:
    """A key that the endpoint quotes in a refusal is in no error's message, detail or cause."""
    headers = {"x-request-id": account.key}
    said = {"error": {"code": account.key, "message": f"Key {account.key} is bad.", "param": account.key}}
    account.will_answer(reply(said, status=status, headers=headers))

    with pytest.raises(UpstreamError) as raised:
        await send(client, account, max_retries=0)

    assert account.key not in f"{raised.value!r} {raised.value.facts!r} {raised.value.__cause__!r}"


async def test_no_log_line_shows_a_key(
    client: UpstreamClient, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    """With every logger at its most talkative, a call's key appears nowhere."""
    account.will_answer(error(503), error(400, message=account.key))

    with caplog.at_level(logging.DEBUG), pytest.raises(RequestRejected):
        await send(client, account)

    assert account.key not in caplog.text


async def test_a_wrong_key_is_a_rejected_credential(client: UpstreamClient, account: Account) -> None:
    """The 401 of an endpoint that does not know the key is CredentialRejected and quotes nothing."""
    with pytest.raises(CredentialRejected) as raised:
        await send(client, account, access=ApiKey("api-key", Secret("a-key-that-nobody-has")))

    assert "a-key-that-nobody-has" not in str(raised.value)


async def test_an_endpoint_that_is_not_there_is_unavailable(client: UpstreamClient, account: Account) -> None:
    """Where nothing listens, the call fails as unavailable, worth another try, without a status."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1/x"

        with pytest.raises(ProviderUnavailable, match=r"127\.0\.0\.1 could not be reached") as raised:
            await send(client, account, url=url, max_retries=1)

    assert UpstreamFacts(transient=True) == raised.value.facts


@pytest.mark.parametrize(
    "said",
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
async def test_what_is_no_http_is_unavailable(client: UpstreamClient, account: Account, said: bytes) -> None:
    """Whatever else than HTTP comes back is the endpoint's failure, never a crash of ours."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/x"
        with pytest.raises(ProviderUnavailable) as raised:
            await send(client, account, url=url, max_retries=0)

    assert raised.value.facts.transient


async def test_this_machine_is_not_called_unless_allowed(account: Account) -> None:
    """A name that resolves to loopback is refused where local endpoints are off, and nothing is sent."""
    async with opened(allow_local=False) as client:
        with pytest.raises(ConnectionInvalid, match="localhost resolves to an IP address that is not allowed"):
            await send(client, account, url=f"{account.base.replace('127.0.0.1', 'localhost')}/v1/x")

    assert [] == account.received


@pytest.mark.parametrize(
    "addresses", [["10.0.0.5"], ["169.254.169.254"], ["8.8.8.8", "192.168.1.1"], ["::ffff:10.0.0.1"]]
)
async def test_a_name_for_a_private_address_is_refused(
    account: Account, monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    """A public name does not lead to a private address, not even as one of several."""
    names = Names({"ai.contoso.example": addresses})
    monkeypatch.setattr(sockets, "DefaultResolver", lambda: names)
    async with opened() as client:
        with pytest.raises(ConnectionInvalid, match="ALLOW_PRIVATE_ENDPOINTS"):
            await send(client, account, url="http://ai.contoso.example/v1/x")


async def test_the_address_that_was_checked_is_the_one_that_is_called(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is resolved by the guarded resolver alone, and the call goes to what it gave."""
    names = Names({"ai.contoso.example": ["127.0.0.1"]})
    monkeypatch.setattr(sockets, "DefaultResolver", lambda: names)
    async with opened() as client:
        await send(client, account, url=f"{account.base.replace('127.0.0.1', 'ai.contoso.example')}/v1/x")

    (received,) = account.received
    assert received.headers["host"].startswith("ai.contoso.example:")


async def test_a_name_that_nobody_knows_is_unavailable(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without an address is an endpoint that can't be reached, now."""
    monkeypatch.setattr(sockets, "DefaultResolver", lambda: Names({}))
    async with opened(allow_local=False) as client:
        with pytest.raises(ProviderUnavailable, match=r"ai\.contoso\.example could not be reached"):
            await send(client, account, url="https://ai.contoso.example/v1/x", max_retries=0)


async def test_a_token_takes_the_place_of_a_key(endpoint: Endpoint) -> None:
    """Entra access sends a token for its scope and tenant as a bearer, and blots it out of answers."""
    tokens = Tokens(f"token-{uuid.uuid4().hex}")
    account = endpoint.account(tokens.text)
    account.will_answer(error(503, message=tokens.text), reply({"echo": tokens.text}))
    async with opened(tokens) as client:
        reply_ = await send(client, account, access=EntraAccess("https://ai.azure.com/.default", "tenant-1"))

    assert b'{"echo": "***"}' == reply_.body
    assert {f"Bearer {tokens.text}"} == {received.headers["authorization"] for received in account.received}
    assert [("https://ai.azure.com/.default", "tenant-1")] * 2 == tokens.asked
    assert all("api-key" not in received.headers for received in account.received)


async def test_a_token_that_is_not_had_at_once_is_asked_for_again(endpoint: Endpoint) -> None:
    """A token source that fails for a moment is tried again like the endpoint itself."""
    tokens = Tokens(f"token-{uuid.uuid4().hex}", failures=1)
    account = endpoint.account(tokens.text)
    async with opened(tokens) as client:
        reply_ = await send(client, account, access=EntraAccess("scope"))

    assert 200 == reply_.status
    assert 2 == len(tokens.asked)


async def test_a_slow_token_counts_against_the_calls_time(account: Account) -> None:
    """`timeout_s` bounds the token's fetching as well."""
    async with opened(Tokens(account.key, after_s=30)) as client:
        begun = time.monotonic()

        with pytest.raises(UpstreamTimeout):
            await send(client, account, access=EntraAccess("scope"), timeout_s=0.2, max_retries=0)

    assert time.monotonic() - begun < 20


async def test_a_cancelled_call_leaves_the_client_usable(client: UpstreamClient, account: Account) -> None:
    """Calls that are cancelled while they wait or read do not harm those after them."""
    account.will_answer(*[completion(after_s=30)] * 5, *[dripping] * 5)
    calls = [asyncio.create_task(send(client, account)) for _ in range(10)]
    while len(account.received) < 10:  # noqa: ASYNC110  # a list cannot tell
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)

    for call in calls:
        call.cancel()
    ended = await asyncio.gather(*calls, return_exceptions=True)

    assert all(isinstance(one, asyncio.CancelledError) for one in ended)
    assert 200 == (await send(client, account)).status


async def test_calls_share_connections(account: Account) -> None:
    """Many calls at once take a connection each, and the next as many use the same ones again."""
    async with opened() as client:
        noted = Noted(completion(after_s=0.05))
        account.will_answer(*[noted] * 160)

        for _ in range(3):
            await asyncio.gather(*(send(client, account) for _ in range(50)))
        for _ in range(10):
            await send(client, account)

    assert 160 == len(noted.times)
    assert len(noted.peers) <= 50


async def test_an_answer_may_be_full_of_likelihoods(client: UpstreamClient, account: Account) -> None:
    """A long completion with `top_logprobs` of 20 is a legal answer, and paid for."""
    token = {"token": "ab", "logprob": -0.1, "bytes": [97, 98]}
    content = [token | {"top_logprobs": [token] * 20}] * 10_000
    account.will_answer(completion(choices=[{"index": 0, "logprobs": {"content": content}}]))

    assert 200 == (await send(client, account)).status


async def test_an_answer_of_lists_alone_is_not_decoded(client: UpstreamClient, account: Account) -> None:
    """JSON that would take many times its size in memory is given up, and counts as one that may be paid for."""
    account.will_answer(reply(b"[" + b"[]," * 2_000_000 + b"0]"))

    with pytest.raises(ProviderUnavailable, match="lists and objects") as raised:
        await send(client, account, max_retries=0)

    assert raised.value.facts.unanswered
