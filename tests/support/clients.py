"""HTTP clients for tests, with names and tokens of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.errors import ProviderUnavailable, UpstreamFacts
from shared.secret import Secret
from shared.upstream.client import UpstreamClient
from shared.upstream.guarded_addresses import AddrInfo


class Tokens:
    """A TokenSource with one token. It records its requests: scope and tenant."""

    def __init__(self, token: str = "", *, after_s: float = 0, failures: int = 0) -> None:
        self.text = token
        self.requests: list[tuple[str, str | None]] = []
        self._after_s = after_s
        self._failures = failures

    async def token(self, scope: str, tenant_id: str | None) -> Secret:
        """See TokenSource."""
        self.requests.append((scope, tenant_id))
        await asyncio.sleep(self._after_s)
        if len(self.requests) <= self._failures:
            raise ProviderUnavailable("Entra issued no token.", UpstreamFacts(transient=True))
        return Secret(self.text)


class Resolver:
    """A name server with a list of addresses for each name. Any other name does not exist."""

    def __init__(self, addresses: dict[str, list[str]]) -> None:
        self.addresses = addresses

    async def look_up(self, name: str, port: int) -> list[AddrInfo]:
        """Return the addresses of the name."""
        if name not in self.addresses:
            raise OSError(None, "Name or service not known")
        return [address_info(address, port) for address in self.addresses[name]]


def address_info(address: str, port: int) -> AddrInfo:
    """Return what a name server says of an address."""
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))


@asynccontextmanager
async def open_client(tokens: Tokens | None = None, *, allow_local: bool = True) -> AsyncIterator[UpstreamClient]:
    """Return a client, which is closed at the end of the block."""
    client = UpstreamClient(tokens or Tokens(), allow_local=allow_local)
    try:
        yield client
    finally:
        await client.close()
