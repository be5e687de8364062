"""A receiver of callbacks on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web

from tests.support.loopback import Answer, serve

BODY = b"MARKED-BODY-OF-THE-RECEIVER"
"""The body of every response but 204."""


@dataclass
class Receiver:
    """A receiver's server: answers as the test says, then 204, and records what it received."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Give the next answer."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append((headers, await request.read()))
        return await (self.answers.pop(0) if self.answers else answers_with(204))(request)


def answers_with(status: int, **headers: str) -> Answer:
    """An answer with a status, headers (`retry_after="5"`), and a body that must never appear anywhere."""

    async def answer(_: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        return web.Response(status=status, headers=named, body=b"" if status == 204 else BODY)

    return answer


async def abort(request: web.Request) -> web.StreamResponse:
    """Abort the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@contextlib.asynccontextmanager
async def open_receiver() -> AsyncIterator[Receiver]:
    """Serve a receiver on a free loopback port."""
    receiver = Receiver()
    async with serve(receiver.answer) as url:
        receiver.url = f"{url}/callback?token=MARKED-TOKEN"
        yield receiver
