"""An endpoint that holds its answers until a test lets them go."""

from __future__ import annotations

import asyncio

from aiohttp import web

from tests.support.endpoint import completion


class Held:
    """Answers when its `end` has come; says when it was asked."""

    def __init__(self) -> None:
        self.asked, self.end = asyncio.Event(), asyncio.Event()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """See `endpoint.Answer`."""
        self.asked.set()
        await self.end.wait()
        return await completion()(request)
