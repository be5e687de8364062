"""A name server and a network that a test controls."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from shared.upstream.guarded_addresses import AddrInfo
from tests.support.clients import address_info

PORTS = {80, 443, 8001, 8002, 8080}
"""The ports of endpoints here; the stand-ins for Azure have others."""


class RebindingResolver:
    """A name server that answers each query with the next of its addresses, and repeats the last."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = list(addresses)

    async def look_up(self, _: str, port: int) -> list[AddrInfo]:
        """Return the next address."""
        address = self._addresses.pop(0) if len(self._addresses) > 1 else self._addresses[0]
        return [address_info(address, port)]


class Network:
    """A network in which every address is the AI endpoint's, and which records those that were called."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int) -> None:
        self.called: list[str] = []
        self._connect = loop.sock_connect
        self.port = port

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect to the endpoint, whatever the address."""
        if address[1] in PORTS:
            self.called.append(address[0])
            address = ("127.0.0.1", self.port)
        await self._connect(sock, address)
