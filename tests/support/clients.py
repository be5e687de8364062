"""HTTP clients for tests, with names and tokens of their own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp.abc import AbstractResolver, ResolveResult

from shared.errors import (
    ProviderUnavailable,
    UpstreamFacts,
)
from shared.secret import Secret
from shared.upstream.client import UpstreamClient


class Tokens:
    """Gives one token, and notes for what."""

    def __init__(self, token: str = "", *, after_s: float = 0, failures: int = 0) -> None:
        self.text = token
        self.asked: list[tuple[str, str | None]] = []
        self._after_s = after_s
        self._failures = failures

    async def token(self, scope: str, tenant_id: str | None) -> Secret:
        """The token."""
        self.asked.append((scope, tenant_id))
        await asyncio.sleep(self._after_s)
        if len(self.asked) <= self._failures:
            raise ProviderUnavailable("Entra issued no token.", UpstreamFacts(transient=True))
        return Secret(self.text)


class Names(AbstractResolver):
    """A name server that knows a few names; every other is unknown."""

    def __init__(self, addresses: dict[str, list[str]]) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of the name."""
        if host not in self.addresses:
            raise OSError(None, "Name or service not known")
        return [
            ResolveResult(hostname=host, host=one, port=port, family=family, proto=0, flags=0)
            for one in self.addresses[host]
        ]

    async def close(self) -> None:
        """Nothing to close."""


@asynccontextmanager
async def opened(tokens: Tokens | None = None, *, allow_local: bool = True) -> AsyncIterator[UpstreamClient]:
    """A client of its own until the block ends."""
    client = UpstreamClient(tokens or Tokens(), allow_local=allow_local)
    try:
        yield client
    finally:
        await client.close()
