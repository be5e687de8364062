"""HTTP clients for tests, with names and tokens of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp.abc import AbstractResolver, ResolveResult

from shared.errors import ProviderUnavailable, UpstreamFacts
from shared.secret import Secret
from shared.upstream.client import UpstreamClient


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


class Resolver(AbstractResolver):
    """A resolver with a list of addresses for each name. Any other name does not exist."""

    def __init__(self, addresses: dict[str, list[str]]) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of the name."""
        if host not in self.addresses:
            raise OSError(None, "Name or service not known")
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self.addresses[host]
        ]

    async def close(self) -> None:
        """Nothing to close."""


@asynccontextmanager
async def open_client(tokens: Tokens | None = None, *, allow_local: bool = True) -> AsyncIterator[UpstreamClient]:
    """Return a client, which is closed at the end of the block."""
    client = UpstreamClient(tokens or Tokens(), allow_local=allow_local)
    try:
        yield client
    finally:
        await client.close()
