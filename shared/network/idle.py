"""Connections that wait for their next request."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from shared.network.connection import Connection

MAX_IDLE_S = 60.0
_SWEEP_S = 10.0


class Host(NamedTuple):
    """A host and port, reached by TLS or not."""

    name: str
    port: int
    is_secure: bool

    @property
    def header(self) -> str:
        """The `Host` header."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return name if self.port == (443 if self.is_secure else 80) else f"{name}:{self.port}"


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
