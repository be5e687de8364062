"""Hosts: how a request to one is written, and connections that wait for their next request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from shared.network.connection import Connection
from shared.network.response import NotReached

MAX_IDLE_S = 60.0
_SWEEP_S = 10.0


class Host(NamedTuple):
    """A host and port, reached by TLS or not."""

    name: str
    port: int
    is_secure: bool


@lru_cache(maxsize=256)
def host_header(host: Host) -> str:
    """Return the `Host` header of requests."""
    name = f"[{host.name}]" if ":" in host.name else host.name
    return name if host.port == (443 if host.is_secure else 80) else f"{name}:{host.port}"


def render_request(method: str, target: str, host: Host, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Return the bytes of a request. Raises NotReached if a line of it would not be one line, or not ASCII."""
    lines = [f"{method} {target} HTTP/1.1", f"host: {host_header(host)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "\r\n".join([*lines, "\r\n"])
    if not head.isascii() or head.count("\n") != len(lines) + 1 or head.count("\r") != len(lines) + 1:
        raise NotReached("A header can't be sent as it is.")
    return head.encode() + body


class IdleConnections:
    """At most `limit`, of all hosts. Of a host, the one used last is used next, so that the others expire."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._hosts: dict[Host, dict[Connection, None]] = {}
        self._all: dict[Connection, Host] = {}
        """The one that waits for the longest time is first."""
        self._swept_at = 0.0
        self._is_closed = False

    def take(self, host: Host) -> Connection | None:
        """Return a connection, which is no longer kept, or None."""
        connections = self._hosts.get(host)
        while connections:
            connection = next(reversed(connections))
            self._forget(connection)
            if asyncio.get_running_loop().time() - connection.idle_since < MAX_IDLE_S and connection.is_usable():
                return connection
            connection.close()
        return None

    def put(self, host: Host, connection: Connection) -> None:
        """Keep a connection after an exchange, if it can be used again; close it otherwise."""
        if not connection.end():
            return
        if self._is_closed:
            connection.close()
            return
        connection.idle_since = now = asyncio.get_running_loop().time()
        self._all[connection] = host
        self._hosts.setdefault(host, {})[connection] = None
        if len(self._all) > self._limit:
            self._close(next(iter(self._all)))
        if now - self._swept_at >= _SWEEP_S:
            self._swept_at = now
            for expired in [each for each in self._all if now - each.idle_since >= MAX_IDLE_S]:
                self._close(expired)

    def close(self) -> None:
        """Close all that are idle, and from now on those that are put back."""
        self._is_closed = True
        for connection in list(self._all):
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._forget(connection)
        connection.close()

    def _forget(self, connection: Connection) -> None:
        host = self._all.pop(connection)
        connections = self._hosts[host]
        del connections[connection]
        if not connections:
            del self._hosts[host]
