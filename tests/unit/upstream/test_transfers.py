"""Uploads and downloads over real HTTP: what they hold in memory, and which error each failure is."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import pytest
from aiohttp import web

from shared.errors import (
    ConnectionInvalid,
    CredentialRejected,
    ProviderUnavailable,
    RateLimited,
    RequestRejected,
    UpstreamError,
    UpstreamTimeout,
)
from shared.secret import Secret
from shared.upstream.client import UpstreamClient
from shared.upstream.messages import ApiKey, Response, UpstreamRequest
from tests.support.clients import open_client
from tests.support.endpoint import reset
from tests.support.loopback import Answer, serve
from tests.support.rows import every_row

KEY = "sk-MARKED-0123456789"
ACCESS = ApiKey("api-key", Secret(KEY))
MIB = 1024 * 1024
CHUNK = b"An answer of a \n" * 4096


async def chunks_of(*parts: bytes) -> AsyncIterator[bytes]:
    """The parts."""
    for part in parts:
        yield part


async def repeated(count: int) -> AsyncIterator[bytes]:
    """A chunk, so many times."""
    for _ in range(count):
        yield CHUNK


async def upload(
    client: UpstreamClient, url: str, chunks: AsyncIterator[bytes], size: int, *, stall_s: float = 5
) -> Response:
    """Upload a body."""
    request = UpstreamRequest("POST", f"{url}/v1/files", headers={"content-type": "text/plain", "api-key": "mine"})
    return await client.transfers.upload(request, chunks, size, ACCESS, customer="contoso", stall_s=stall_s)


async def download(client: UpstreamClient, url: str, *, stall_s: float = 5, max_bytes: int = 200 * MIB) -> bytes:
    """Download a body."""
    request = UpstreamRequest("GET", f"{url}/v1/files/x/content")
    parts = client.transfers.download(request, ACCESS, customer="contoso", stall_s=stall_s, max_bytes=max_bytes)
    return b"".join([part async for part in parts])


@asynccontextmanager
async def serve_raw(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that does with each connection as it likes."""

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(run, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def peak_of(work: Awaitable[object]) -> int:
    """The memory that is allocated at a time while something is done."""
    tracemalloc.start()
    try:
        await work
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Uploads.


async def test_an_upload_is_sent_as_it_is():
    """With its length, the key and no other credential; the response is returned without the key."""
    received = []

    async def answer(request: web.Request) -> web.StreamResponse:
        received.append((dict(request.headers), await request.read()))
        return web.json_response({"id": f"file-1, {KEY}"}, headers={"x-request-id": "req-1"})

    async with serve(answer) as url, open_client() as client:
        response = await upload(client, url, chunks_of(b"ab", b"", b"c" * 200_000), 200_002)
        again = await upload(client, url, chunks_of(), 0)

    headers, body = received[0]
    assert (b"ab" + b"c" * 200_000, "200002", KEY) == (body, headers["Content-Length"], headers["api-key"])
    assert (200, b'{"id": "file-1, ***"}', "req-1") == (response.status, response.body, response.request_id)
    assert (b"", 200) == (received[1][1], again.status)


@dataclass(frozen=True)
class ChunkedBody:
    """A body in pieces, each after a wait."""

    pieces: tuple[bytes, ...]
    wait_s: float = 0

    @property
    def size(self) -> int:
        """See Body."""
        return sum(map(len, self.pieces))

    async def chunks(self) -> AsyncIterator[bytes]:
        """See Body."""
        for piece in self.pieces:
            await asyncio.sleep(self.wait_s)
            yield piece


async def test_a_body_is_sent_in_pieces_as_often_as_its_request():
    """A request with a body is sent whole each time, with its length and the client's guards."""
    received = []

    async def answer(request: web.Request) -> web.StreamResponse:
        received.append((request.headers["content-length"], await request.read()))
        return web.json_response({"key": KEY})

    async with serve(answer) as url, open_client() as client:
        request = UpstreamRequest("POST", f"{url}/v1/x", body=ChunkedBody((b"ab", b"c" * 70_000, b"d")))
        responses = [await client.send(request, ACCESS, customer="contoso", timeout_s=5) for _ in range(2)]
        refused = UpstreamRequest("POST", "http://192.168.0.1/v1/x", body=ChunkedBody((b"a",)))
        with pytest.raises(ConnectionInvalid):
            await client.send(refused, ACCESS, customer="contoso", timeout_s=5)

    assert [("70003", b"ab" + b"c" * 70_000 + b"d")] * 2 == received
    assert [b'{"key": "***"}'] * 2 == [response.body for response in responses]


async def test_a_body_has_as_long_as_any_other_request():
    """However steadily a body moves, its request ends in time; what was not sent whole is not billed."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.json_response({})

    async with serve(answer) as url, open_client() as client:
        request = UpstreamRequest("POST", f"{url}/v1/x", body=ChunkedBody((b"a",) * 100, wait_s=0.05))
        with pytest.raises(UpstreamTimeout) as late:
            await client.send(request, ACCESS, customer="contoso", timeout_s=0.3)

    assert (False, True) == (late.value.facts.unanswered, late.value.facts.transient)


async def test_a_large_upload_takes_little_memory():
    """20 MB, to an endpoint that reads slowly now and then: what it does not read, waits at its source."""
    count, taken = 320, 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await reader.readuntil(b"\r\n\r\n")
        while taken < count * len(CHUNK):
            taken += len(await reader.read(MIB))
            if taken % 50 == 0:
                await asyncio.sleep(0.01)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()

    async with serve_raw(answer) as url, open_client() as client:
        peak = await peak_of(upload(client, url, repeated(count), count * len(CHUNK), stall_s=20))

    assert (count * len(CHUNK), True) == (taken, peak < 4 * MIB)


@every_row(
    ("status", "headers", "kind"),
    [
        (401, {}, CredentialRejected),
        (429, {"retry-after": "7"}, RateLimited),
        (413, {}, RequestRejected),
        (302, {"location": "http://127.0.0.1/elsewhere"}, RequestRejected),
        (502, {}, ProviderUnavailable),
    ],
)
async def test_an_upload_ends_as_soon_as_it_is_refused(status: int, headers: dict[str, str], kind: type[UpstreamError]):
    """The rest is not sent, nothing was billed, and the connection is not used again."""
    sent, peers = 0, set()

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(2000):
            sent += 1
            yield CHUNK

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.add(writer.get_extra_info("peername"))
        head = await reader.readuntil(b"\r\n\r\n")
        text = f"Wrong key {KEY}".encode()
        named = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(text)}\r\n{named}\r\n".encode() + text)
        await writer.drain()
        if b"GET" not in head:
            await asyncio.sleep(0.3)

    async with serve_raw(answer) as url, open_client() as client:
        with pytest.raises(kind) as failure:
            await upload(client, url, chunks(), 2000 * len(CHUNK))
        with pytest.raises(kind):
            await download(client, url)
        assert {} == client._sockets.taken

    facts = failure.value.facts
    assert (status, False, False) == (facts.status, facts.unanswered, facts.unsent)
    assert (7.0 if status == 429 else None) == facts.retry_after_s
    assert "MARKED" not in str(failure.value)
    assert (True, 2) == (sent < 500, len(peers))


async def test_a_connection_with_a_part_of_a_request_is_not_used_again():
    """The endpoint, which waits for the rest, would take the next request for it. Nor is one whose chunks failed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\n{}" % (401 if b"POST" in head else 200))
        await reader.read()  # whatever comes next is the rest, for this endpoint

    async def chunks(error: Exception | None = None) -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(0.1)
        if error:
            raise error
        for _ in range(2):
            yield b"a"

    async with serve_raw(answer) as url, open_client() as client:
        with pytest.raises(CredentialRejected):
            await upload(client, url, chunks(), 3)
        assert b"{}" == await download(client, url, stall_s=1)
        with pytest.raises(OSError, match="Storage"):
            await upload(client, url, chunks(OSError("Storage")), 3)
        assert b"{}" == await download(client, url, stall_s=1)


async def test_an_upload_that_is_cut_off_was_not_billed():
    """The endpoint has only a part of it; it may be sent again."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(300_000)
        writer.transport.abort()

    async with serve_raw(answer) as url, open_client() as client:
        with pytest.raises(ProviderUnavailable) as failure:
            await upload(client, url, repeated(800), 800 * len(CHUNK))

    facts = failure.value.facts
    assert (True, False, False) == (facts.transient, facts.unanswered, facts.unsent)


async def test_an_answer_to_an_upload_may_be_lost():
    """Then the endpoint has all of it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(CHUNK))
        writer.transport.abort()

    async with serve_raw(answer) as url, open_client() as client:
        with pytest.raises(ProviderUnavailable) as failure:
            await upload(client, url, repeated(1), len(CHUNK))

    assert (True, True) == (failure.value.facts.transient, failure.value.facts.unanswered)


async def test_an_endpoint_that_stops_reading_is_a_timeout():
    """But one that reads slowly is not, however long it takes in all."""
    pause_s = 1.0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        taken = 0
        while taken < 400 * len(CHUNK):
            if not (chunk := await reader.read(8 * MIB)):
                return  # from Python 3.12 on, its server waits for it
            taken += len(chunk)
            await asyncio.sleep(pause_s)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async with serve_raw(answer) as url, open_client() as client:
        with pytest.raises(UpstreamTimeout, match=r"took no more of the request for 0\.2 s") as failure:
            await upload(client, url, repeated(400), 400 * len(CHUNK), stall_s=0.2)
        pause_s = 0.01
        assert 200 == (await upload(client, url, repeated(400), 400 * len(CHUNK), stall_s=0.4)).status
        assert {} == client._sockets.taken

    facts = failure.value.facts
    assert (True, False, False) == (facts.transient, facts.unanswered, facts.unsent)


async def test_what_the_chunks_need_is_not_the_endpoints_time():
    """Nor are their errors the endpoint's."""

    async def answer(request: web.Request) -> web.StreamResponse:
        await request.read()
        return web.json_response({})

    async def slow(error: Exception | None = None) -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(0.3)
        if error:
            raise error
        yield b"b"

    async with serve(answer) as url, open_client() as client:
        assert 200 == (await upload(client, url, slow(), 2, stall_s=0.2)).status
        with pytest.raises(TimeoutError, match="Storage"):
            await upload(client, url, slow(TimeoutError("Storage")), 2, stall_s=0.2)
        assert {} == client._sockets.taken


@every_row("size", [0, 1, 4, 6, 10])
async def test_chunks_of_another_size_are_never_a_whole_body(size: int):
    """The endpoint would wait for the rest, or take it for another request."""
    whole = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal whole
        await request.read()
        whole += 1
        return web.json_response({})

    async with serve(answer) as url, open_client() as client:
        with pytest.raises(ValueError, match="bytes"):
            await upload(client, url, chunks_of(b"ab", b"cd", b"e"), size)
        assert 200 == (await upload(client, url, chunks_of(b"ab"), 2)).status

    assert 1 == whole - (size == 0)  # an empty body is whole as soon as its head is there


async def test_an_answer_that_comes_too_early_is_none():
    """An endpoint that has not got the file has no file."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await asyncio.sleep(0.5)

    async with serve_raw(answer) as url, open_client() as client:
        with pytest.raises(ProviderUnavailable, match="before it had the whole request"):
            await upload(client, url, repeated(800), 800 * len(CHUNK))


# Downloads.


async def test_a_large_download_takes_little_memory():
    """25 MB, compressed, to somebody who now and then is slow: what nobody reads, waits at the endpoint."""
    body = gzip.compress(CHUNK * 400, compresslevel=1)
    size = 0

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers={"content-encoding": "gzip"})

    async def read() -> None:
        nonlocal size
        request = UpstreamRequest("GET", f"{url}/x")
        async for part in client.transfers.download(
            request, ACCESS, customer="contoso", stall_s=5, max_bytes=200 * MIB
        ):
            size += len(part)

    async with serve(answer) as url, open_client() as client:
        peak = await peak_of(read())

    assert (400 * len(CHUNK), True) == (size, peak < 4 * MIB)


async def test_what_nobody_reads_waits_at_the_endpoint():
    """The connection takes no more than it is asked for."""
    written = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1600):
            await response.write(CHUNK)
            written += len(CHUNK)
        return response

    async with serve(answer) as url, open_client() as client:
        request = UpstreamRequest("GET", f"{url}/x")
        parts = client.transfers.download(request, ACCESS, customer="contoso", stall_s=5, max_bytes=200 * MIB)
        async with aclosing(parts):
            await anext(parts)
            await asyncio.sleep(0.3)
            assert written < 20 * MIB
            assert {"contoso": 1} == client._sockets.taken
        assert {} == client._sockets.taken


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_a_bomb_ends_at_the_greatest_size(encoding: str):
    """A file is never larger than allowed, however few bytes it is sent in."""
    body = bytes(4 * MIB)

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(
            body=gzip.compress(body) if encoding == "gzip" else body, headers={"content-encoding": encoding}
        )

    async with serve(answer) as url, open_client() as client:
        with pytest.raises(ProviderUnavailable, match="more than 2 MiB") as failure:
            await download(client, url, max_bytes=2 * MIB)

    assert not failure.value.facts.transient


async def cut_off(request: web.Request) -> web.StreamResponse:
    """Send a part of a body."""
    response = web.StreamResponse(headers={"content-length": "1000"})
    await response.prepare(request)
    await response.write(b"first\n")
    await asyncio.sleep(0.05)
    return await reset(request)


async def stall(request: web.Request) -> web.StreamResponse:
    """Send a part of a body, and nothing more."""
    response = web.StreamResponse(headers={"content-length": "1000"})
    await response.prepare(request)
    await response.write(b"first\n")
    await asyncio.sleep(1)
    return response


async def half_zipped(_: web.Request) -> web.StreamResponse:
    """Send a part of a compressed body as if it were all."""
    return web.Response(body=gzip.compress(b"first\n" * 1000)[:-5], headers={"content-encoding": "gzip"})


async def twice(_: web.Request) -> web.StreamResponse:
    """Send what is compressed twice."""
    return web.Response(body=gzip.compress(gzip.compress(b"a")), headers={"content-encoding": "gzip, gzip"})


@every_row(
    ("answer", "kind", "message", "transient"),
    [
        (cut_off, ProviderUnavailable, "closed the connection early", True),
        (stall, UpstreamTimeout, "did not answer within", True),
        (half_zipped, ProviderUnavailable, "or not all of it", True),
        (twice, ProviderUnavailable, "more than one content encoding", False),
        (reset, ProviderUnavailable, "closed the connection early", True),
    ],
)
async def test_a_download_that_breaks(answer: Answer, kind: type[UpstreamError], message: str, transient: bool):
    """It ends with an error, so that nobody takes a part for the whole."""
    async with serve(answer) as url, open_client() as client:
        with pytest.raises(kind, match=message) as failure:
            await download(client, url, stall_s=0.3)
        assert {} == client._sockets.taken

    assert transient is failure.value.facts.transient


async def test_a_slow_download_is_none_that_stalls():
    """The time is renewed by whatever comes."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(6):
            await response.write(b"a")
            await asyncio.sleep(0.1)
        return response

    async with serve(answer) as url, open_client() as client:
        assert b"aaaaaa" == await download(client, url, stall_s=0.4)


@every_row("status", [302, 401, 404, 429, 500])
async def test_a_download_that_is_refused(status: int):
    """With the usual errors, and without the key."""

    async def answer(_: web.Request) -> web.StreamResponse:
        headers = {"retry-after": "9", "location": "http://127.0.0.1/other", "x-request-id": KEY}
        return web.json_response({"error": {"message": f"No: {KEY}"}}, status=status, headers=headers)

    async with serve(answer) as url, open_client() as client:
        with pytest.raises(UpstreamError) as failure:
            await download(client, url)

    assert (status, "***") == (failure.value.facts.status, failure.value.facts.request_id)
    assert "MARKED" not in str(failure.value)


async def test_a_key_in_a_download_is_redacted():
    """Some gateways quote what they were sent."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=f'{{"key": "{KEY}"}}\n{{}}'.encode())

    async with serve(answer) as url, open_client() as client:
        assert b'{"key": "***"}\n{}' == await download(client, url)


async def test_addresses_that_may_not_be_called():
    """The same ones as for calls."""
    async with open_client() as client:
        for url in ("https://10.0.0.1", "https://169.254.169.254"):
            with pytest.raises((ConnectionInvalid, ProviderUnavailable)):
                await download(client, url)
            with pytest.raises((ConnectionInvalid, ProviderUnavailable)):
                await upload(client, url, chunks_of(b"a"), 1)


async def test_nothing_was_sent_to_a_server_that_is_not_there():
    """It may be sent again."""
    async with open_client() as client:
        with pytest.raises(ProviderUnavailable) as failure:
            await upload(client, "http://127.0.0.1:9", chunks_of(b"a"), 1)

    assert (True, False) == (failure.value.facts.transient, failure.value.facts.unanswered)
