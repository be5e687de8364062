"""A fake of what Azure has in front of the app: an address, and the check of a function key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from shared.http.routes import ROUTES
from tests.support.harness import Harness
from tests.support.http_client import HOST_ROUTES, send
from tests.support.loopback import serve

_WITHOUT_KEY = {route.name for route in ROUTES if route.role is None}


@asynccontextmanager
async def app_front(harness: Harness, key: str = "") -> AsyncIterator[str]:
    """Serve the harness's app until the block ends, to requests with this function key. Yields its address."""

    async def answer(request: web.Request) -> web.StreamResponse:
        match = HOST_ROUTES.find(request.method, request.path)
        if match is None:
            return web.Response(status=404)
        if key and match[0] not in _WITHOUT_KEY and request.headers.get("x-functions-key") != key:
            return web.Response(status=401)
        path = request.path.removeprefix("/api/")
        body = await request.read()
        response = await send(harness, request.method, path, body=body, headers=dict(request.headers))
        return web.Response(status=response.status, body=response.body, headers={"content-type": response.media_type})

    async with serve(answer) as url:
        yield url
