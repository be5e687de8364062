"""The pool: what a server may send, when it may close, and which connection is used next."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.network import hosts as idle_connections
from shared.network import pool as pools
from shared.network.connection import Connection
from shared.network.hosts import Host
from shared.network.pool import Pool
from shared.network.response import ExchangeFailed, Response
from tests.support.rows import every_row

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
OK = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: W/"1"\r\n\r\nok'
CHUNKED = b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\nEtag: 1\r\n\r\n"
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
TWO_LENGTHS = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"
RESPONSES = {
    OK: Response(200, {"content-length": "2", "etag": 'W/"1"'}, b"ok"),
    CHUNKED: Response(202, {"transfer-encoding": "chunked"}, b"abcde"),
    EMPTY: Response(204, {"etag": "1"}, b""),
    INTERIM + OK: Response(200, {"content-length": "2", "etag": 'W/"1"'}, b"ok"),
    b"\r\n" + TWO_LENGTHS: Response(200, {"content-length": "2"}, b"ok"),
    INTERIM * 2 + TWO_LENGTHS: Response(200, {"content-length": "2"}, b"ok"),
}

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A server that answers each connection by `answer`."""

    answer: Answer
    opened: int = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a connection."""
        self.opened += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.answer(reader, writer)
        writer.close()


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[tuple[Server, Pool, Host]]:
    """A server, and a pool to send it requests."""
    server = Server(answer)
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0)
    pool = Pool(ssl.create_default_context)
    try:
        yield server, pool, Host("127.0.0.1", listener.sockets[0].getsockname()[1], is_secure=False)
    finally:
        pool.close()
        listener.close()


def sends(*parts: bytes, closes: bool = False) -> Answer:
    """For every request these bytes, in parts."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            for part in parts:
                writer.write(part)
                await writer.drain()
            if closes:
                return

    return answer


class Transport(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def write(self, data: object) -> None:
        """Take it."""

    def abort(self) -> None:
        """Note it."""
        self.aborted = True


async def receive(connection: Connection) -> Response:
    """Send a request, and read the response to its end."""
    head = await connection.send(REQUEST)
    body = b""
    while part := await connection.read():
        body += part
    return Response(head.status, head.headers, body)


@given(st.sampled_from(list(RESPONSES)), st.lists(st.integers(0, 120), max_size=6))
@settings(max_examples=200)
def test_a_response_is_the_same_however_it_is_split(sent: bytes, cuts: Sequence[int]):
    """Network packets may end anywhere. Afterwards the connection takes the next request."""

    async def exchange() -> list[Response]:
        connection = Connection()
        connection.connection_made(Transport())
        responses = []
        for _ in range(2):
            task = asyncio.create_task(receive(connection))
            await asyncio.sleep(0)
            edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
            for first, last in itertools.pairwise(edges):
                if first < last:
                    connection.data_received(sent[first:last])
            responses.append(await task)
            assert connection.end()
        return responses

    assert [RESPONSES[sent]] * 2 == asyncio.run(exchange())


async def test_a_connection_is_used_again():
    """One after the other, requests share a connection; at once, each has its own, up to the limit."""
    async with serving(sends(OK)) as (server, pool, host):
        for _ in range(3):
            assert RESPONSES[OK] == await pool.exchange(host, REQUEST)
        assert 1 == server.opened
        await asyncio.gather(*(pool.exchange(host, REQUEST) for _ in range(150)))
        assert pools.MAX_CONNECTIONS >= server.opened > 1


@pytest.mark.parametrize("header", [b"Connection: close\r\n", b""])
async def test_a_closed_connection_is_not_used_again(header: bytes, monkeypatch: pytest.MonkeyPatch):
    """Whether the server says so before it closes, or closes an idle one, or it has been idle for too long."""
    response = OK.replace(b"ETag", header + b"ETag")
    async with serving(sends(response, closes=True)) as (server, pool, host):
        for number in range(1, 4):
            assert 200 == (await pool.exchange(host, REQUEST)).status
            assert number == server.opened
            await asyncio.sleep(0.01)
    monkeypatch.setattr(idle_connections, "MAX_IDLE_S", 0)
    async with serving(sends(OK)) as (server, pool, host):
        for _ in range(3):
            await pool.exchange(host, REQUEST)
        assert 3 == server.opened


@every_row(
    "sent",
    [
        b"",
        OK[:-1],
        CHUNKED[:-3],
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ],
)
async def test_what_is_no_response_fails(sent: bytes):
    """A connection that ends too early, or speaks something else, is closed; the next request opens another."""
    async with serving(sends(sent, closes=True)) as (server, pool, host):
        for number in (1, 2):
            with pytest.raises(ExchangeFailed):
                await pool.exchange(host, REQUEST)
            assert number == server.opened


async def test_a_connection_that_the_server_ends_is_closed_at_once():
    """Before the loop reports it as lost; a request under way fails then, too."""
    connection, transport = Connection(), Transport()
    connection.connection_made(transport)
    request = asyncio.create_task(receive(connection))
    await asyncio.sleep(0)

    connection.eof_received()

    assert (False, True) == (connection.is_open, transport.aborted)
    with pytest.raises(ExchangeFailed, match="The server closed the connection"):
        await request


async def test_another_protocol_is_no_fault_of_the_loop():
    """A response that changes the protocol fails the request; no exception leaves the connection."""
    connection = Connection()
    connection.connection_made(Transport())
    request = asyncio.create_task(receive(connection))
    await asyncio.sleep(0)

    connection.data_received(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")

    assert not connection.is_open
    with pytest.raises(ExchangeFailed):
        await request


@every_row("more", [OK.replace(b"ok", b"no"), OK.replace(b"200", b"500"), EMPTY, INTERIM, b"HTTP/1.1 5", b"H"])
async def test_a_second_response_closes_the_connection(more: bytes):
    """A part of one, too: it answers no other request, and nothing of it is taken for the first one's."""
    async with serving(sends(OK + more)) as (server, pool, host):
        assert [RESPONSES[OK]] * 2 == [await pool.exchange(host, REQUEST) for _ in range(2)]
        assert 2 == server.opened


async def test_a_response_before_the_end_of_a_request_closes_the_connection():
    """The server may never read the rest."""
    is_over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await is_over.wait()

    async with serving(answer) as (server, pool, host):
        for _ in range(2):
            assert RESPONSES[OK] == await pool.exchange(host, REQUEST + b"x" * (16 << 20))
        assert 2 == server.opened
        is_over.set()


async def test_no_response_fills_the_memory(monkeypatch: pytest.MonkeyPatch):
    """What is larger than any response to these requests is not read on."""
    monkeypatch.setattr(pools, "MAX_RESPONSE_BYTES", 1)
    async with serving(sends(OK)) as (_, pool, host):
        with pytest.raises(ExchangeFailed, match="More came"):
            await pool.exchange(host, REQUEST)


async def test_a_late_response_fails(monkeypatch: pytest.MonkeyPatch):
    """A request that is cancelled or gets no response in time closes its connection: the response may still come."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            await asyncio.sleep(0.05)
            writer.write(OK)

    async with serving(answer) as (server, pool, host):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.exchange(host, REQUEST), 0.01)
        assert RESPONSES[OK] == await pool.exchange(host, REQUEST)
        assert 2 == server.opened
    monkeypatch.setattr(pools, "RESPONSE_S", 0.01)
    async with serving(answer) as (server, pool, host):
        for number in (1, 2):
            with pytest.raises(ExchangeFailed, match="no response in time"):
                await pool.exchange(host, REQUEST)
            assert number == server.opened


async def test_each_late_response_fails(monkeypatch: pytest.MonkeyPatch):
    """Of several, each at its own time, after others that came in time."""
    monkeypatch.setattr(pools, "RESPONSE_S", 0.2)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"late" not in await reader.readuntil(b"\r\n\r\n"):
            await asyncio.sleep(0.05)
            writer.write(OK)
        await reader.read()

    async with serving(answer) as (_, pool, host):
        loop = asyncio.get_running_loop()
        began_at = loop.time()

        async def fail(after_s: float) -> float:
            await asyncio.sleep(after_s)
            with pytest.raises(ExchangeFailed, match="no response in time"):
                await pool.exchange(host, REQUEST.replace(b"x", b"late"))
            return loop.time() - began_at - after_s

        failures = [asyncio.create_task(fail(after_s)) for after_s in (0.02, 0.1, 0.3)]
        for _ in range(5):
            assert RESPONSES[OK] == await pool.exchange(host, REQUEST)

        assert all(took_s >= 0.19 for took_s in await asyncio.gather(*failures))


async def test_a_host_that_can_t_be_reached_fails(unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch):
    """As do one that does not speak TLS, and a name that can't be one."""
    monkeypatch.setattr(pools, "CONNECT_S", 0.5)  # nobody answers that it does not
    async with serving(sends(b"hello\r\n\r\n", closes=True)) as (_, pool, host):
        for unreachable in (
            host._replace(port=unused_tcp_port),
            host._replace(is_secure=True),
            host._replace(name=f"{'a' * 64}.example"),
        ):
            with pytest.raises(ExchangeFailed, match="There is no connection"):
                await pool.exchange(unreachable, REQUEST)
