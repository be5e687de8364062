"""One connection: how much of a response it holds, and which ones it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from shared.network import connection as connections
from shared.network.connection import Connection
from shared.network.head_repair import repaired
from shared.network.hosts import Host, IdleConnections
from shared.network.response import ExchangeFailed, Malformed
from tests.support.rows import every_row

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PART = b"x" * 100_000


class Transport(asyncio.Transport):
    """Takes what is written, and notes what the connection asks of it."""

    def __init__(self) -> None:
        super().__init__()
        self.is_paused = self.is_aborted = False

    def write(self, data: object) -> None:
        """Take it."""

    def pause_reading(self) -> None:
        """Note it."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Note it."""
        self.is_paused = False

    def abort(self) -> None:
        """Note it."""
        self.is_aborted = True


async def exchanging() -> tuple[Connection, Transport, asyncio.Task[object]]:
    """A connection that waits for the head of a response."""
    connection, transport = Connection(), Transport()
    connection.connection_made(transport)
    head = asyncio.create_task(connection.send(REQUEST))
    await asyncio.sleep(0)
    return connection, transport, head


async def read_all(connection: Connection, head: asyncio.Task[object]) -> bytes:
    """Read a response to its end."""
    await head
    body = b""
    while part := await connection.read():
        body += part
    return body


async def test_a_body_that_nobody_reads_waits_in_the_socket():
    """The connection holds little of it, and reads on as soon as it was read."""
    connection, transport, head = await exchanging()
    connection.data_received(OK + b"Content-Length: 1000000\r\n\r\n")
    await head
    received = 0
    while not transport.is_paused:
        connection.data_received(PART)
        received += len(PART)
    assert received <= 2 * connections.MAX_WAITING_BYTES

    read = len(await connection.read())

    assert (received, False) == (read, transport.is_paused)
    while received < 1_000_000:
        connection.data_received(PART)
        received += len(PART)
        read += len(await connection.read())
    assert (1_000_000, b"", True) == (read, await connection.read(), connection.end())


def endless(kind: str) -> Iterable[bytes]:
    """A response that never gets to its body, or never beyond it."""
    yield {"header": OK + b"x: ", "trailer": CHUNKED + b"1\r\na\r\n0\r\nx: ", "chunk": CHUNKED + b"1;"}.get(kind, OK)
    for number in range(5000):
        yield b"x-%d: x\r\n" % number if kind == "headers" else PART[:1000]


@every_row("kind", ["header", "headers", "trailer", "chunk"])
async def test_a_response_that_is_all_head_is_malformed(kind: str):
    """No header, trailer or chunk's size fills the memory, and there are not too many of them."""
    connection, transport, head = await exchanging()
    sent = 0
    for part in endless(kind):
        connection.data_received(part)
        sent += len(part)
        if transport.is_aborted:
            break

    assert sent < connections.MAX_HEAD_BYTES + 2000
    with pytest.raises(Malformed, match=r"[Hh]eaders"):
        await read_all(connection, head)


async def test_small_chunks_are_a_body():
    """What frames them may be several times as long as they are."""
    connection, _, head = await exchanging()
    connection.data_received(CHUNKED)
    for _ in range(20_000):
        connection.data_received(b"1;name=value\r\na\r\n")
    connection.data_received(b"0\r\nx-trailer: 1\r\n\r\n")

    assert b"a" * 20_000 == await read_all(connection, head)
    assert {"transfer-encoding": "chunked"} == (await head).headers  # type: ignore[attr-defined]


async def test_a_connection_that_does_not_read_takes_no_other_request():
    """Its response would not be read either. It has stopped if nobody has read a body that is there."""
    connection, transport, head = await exchanging()
    connection.data_received(OK + b"Content-Length: 300000\r\n\r\n")
    await head
    for _ in range(3):
        connection.data_received(PART)

    assert transport.is_paused
    assert (True, False) == (connection.is_complete, connection.end())
    assert transport.is_aborted


@pytest.mark.parametrize("encoding", ["chunked", "Chunked ", "gzip,chunked\t"])
async def test_a_chunked_body_that_breaks_off_is_not_complete(encoding: str):
    """However its header is written, only its last chunk ends it, and no end of the connection."""
    connection, _, head = await exchanging()
    connection.data_received(OK + f"Transfer-Encoding: {encoding}\r\n\r\n2\r\nab\r\n".encode())
    connection.eof_received()

    with pytest.raises(ExchangeFailed):
        await read_all(connection, head)


@pytest.mark.parametrize("part", [b"x", b"x: x\r\n", b"\r\n\r\nHTTP/1.1 103 Early Hints\r\nx:"])
async def test_a_head_that_is_repaired_is_not_read_over_and_over(part: bytes, monkeypatch: pytest.MonkeyPatch):
    """Otherwise a server that sends one slowly would take all of a worker's time."""
    read = 0

    def counted(data: bytes) -> bytes | None:
        nonlocal read
        read += len(data)
        return repaired(data)

    monkeypatch.setattr(connections, "repaired", counted)
    monkeypatch.setattr(connections, "MAX_HEAD_BYTES", 64 * 1024)
    connection, transport, head = await exchanging()
    connection.data_received(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 1\r\nContent-Length: 1\r\nx: ")
    while not transport.is_aborted:
        connection.data_received(part)

    assert read <= 2 * connections.MAX_HEAD_BYTES
    with pytest.raises(Malformed, match="Headers of more"):
        await head


async def test_endless_interim_responses_are_malformed():
    """They count as the head that they come before."""
    connection, transport, head = await exchanging()
    sent = 0
    while not transport.is_aborted:
        connection.data_received(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 100)
        sent += 1

    assert sent < 100
    with pytest.raises(Malformed, match="Headers of more"):
        await head


@pytest.mark.parametrize("ends", ["eof_received", "connection_lost"])
async def test_a_body_without_a_length_ends_with_the_connection(ends: str):
    """If the server ends it; a connection that is lost ends none."""
    connection, _, head = await exchanging()
    connection.data_received(OK + b"\r\nab")
    await head
    if ends == "eof_received":
        connection.eof_received()
    else:
        connection.connection_lost(ConnectionResetError())

    assert b"ab" == await connection.read()
    if ends == "eof_received":
        assert (b"", False) == (await connection.read(), connection.end())
    else:
        with pytest.raises(ExchangeFailed, match="ConnectionResetError"):
            await connection.read()


async def test_a_header_that_occurs_twice_is_joined():
    """As in a list, whatever the case of its name; text is UTF-8 or else Latin-1."""
    connection, _, head = await exchanging()

    connection.data_received(OK + "A: ä\r\nB: é\r\n".encode() + b"a: \xe4\r\nContent-Length: 0\r\n\r\n")

    assert {"a": "ä, ä", "b": "é", "content-length": "0"} == (await head).headers  # type: ignore[attr-defined]


async def test_few_idle_connections_are_kept():
    """The one that was used last is used next; beyond the limit, and if it is too old, the oldest is closed."""
    hosts = [Host(f"{n}.example", 443, is_secure=True) for n in range(5)]
    idle = IdleConnections(3)
    made = []
    for host in hosts:
        connection, transport, head = await exchanging()
        connection.data_received(OK + b"Content-Length: 0\r\n\r\n")
        await head
        idle.put(host, connection)
        made.append((connection, transport))

    assert [True, True, False, False, False] == [transport.is_aborted for _, transport in made]
    idle.close()
    assert all(transport.is_aborted for _, transport in made)
    assert [None] * 5 == [idle.take(host) for host in hosts]
    connection, transport, head = await exchanging()  # one that was in use meanwhile
    connection.data_received(OK + b"Content-Length: 0\r\n\r\n")
    await head
    idle.put(hosts[0], connection)
    assert transport.is_aborted
