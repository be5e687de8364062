"""The connections of the Azure SDKs, by aiohttp, which is loaded when an SDK first needs it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp
    from azure.core.pipeline.transport import AioHttpTransport


class SdkConnections:
    """One session for all of the SDKs' clients. Use it on one event loop."""

    def __init__(self, tls: Callable[[], ssl.SSLContext]) -> None:
        self._tls = tls

    @cached_property
    def session(self) -> aiohttp.ClientSession:
        """The session. It does not decode bodies, which the SDKs do themselves."""
        import aiohttp  # noqa: PLC0415

        connector = aiohttp.TCPConnector(ssl=self._tls())
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)

    def transport(self) -> AioHttpTransport:
        """Return a transport for one client. If it is closed, the session is not."""
        from azure.core.pipeline.transport import AioHttpTransport  # noqa: PLC0415

        return AioHttpTransport(session=self.session, session_owner=False)

    async def close(self) -> None:
        """Close every connection."""
        if "session" in self.__dict__:
            await self.session.close()
