"""Portkey's gateway, set up as its documentation says."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import aiohttp

from benchmarks.gateways import installs
from benchmarks.gateways.proxy import Proxy
from benchmarks.messages import KEY
from local.stack.node import node


class Portkey(Proxy):
    """Portkey's gateway, which keeps nothing: the caller names the account and the key in each call."""

    notes = "no durable record, no keys of its own: it does less"

    def __init__(self, script: Path, http: aiohttp.ClientSession, urls: Sequence[str]) -> None:
        super().__init__("Portkey gateway", installs.PORTKEY, http, urls)
        self._script = script

    def program(self) -> tuple[list[str | Path], Mapping[str, str], str]:
        """The gateway without its web page."""
        command: list[str | Path] = [node(), self._script, f"--port={self.url.rpartition(':')[2]}", "--headless"]
        return command, {"NODE_ENV": "production"}, "/"

    def headers(self, number: int) -> Mapping[str, str]:
        """The customer's account and key."""
        return {
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": self.urls[number],
            "authorization": f"Bearer {KEY}",
        }

    async def opened(self) -> None:
        """Nothing: it has no state."""

    async def recorded(self, expected: int | None = None) -> None:  # it has no record
        """None."""


@contextlib.asynccontextmanager
async def start(http: aiohttp.ClientSession, urls: Sequence[str]) -> AsyncIterator[Proxy]:
    """Portkey's gateway. Raises Absent, NotInstalled, ProcessFailed."""
    proxy = Portkey(await installs.portkey(), http, urls)
    try:
        await proxy.start()
        yield proxy
    finally:
        await proxy.stop()
