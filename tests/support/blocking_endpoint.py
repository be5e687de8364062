"""An endpoint that blocks its answer until a test releases it."""

from __future__ import annotations

import asyncio

from aiohttp import web

from tests.support.endpoint import Answer, completion


class BlockingEndpoint:
    """An Answer. It sets `called` when a request comes, and sends `answer` once `release` is set."""

    def __init__(self, answer: Answer | None = None) -> None:
        self.called, self.release = asyncio.Event(), asyncio.Event()
        self._answer = answer or completion()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """See Answer."""
        self.called.set()
        await self.release.wait()
        return await self._answer(request)
