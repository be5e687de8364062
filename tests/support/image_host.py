"""A host of images at URLs, as providers return them, on loopback. It checks no key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.support.image_samples import PNG
from tests.support.loopback import serve


class ImageHost:
    """Answers with PNG, or with the `answers` of a path, one after the other, and keeps the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.answers: dict[str, list[web.Response]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        """The path with its query, and the headers, with names in lower case."""

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request."""
        self.requests.append((request.raw_path, {name.lower(): text for name, text in request.headers.items()}))
        answers = self.answers.get(request.path)
        return answers.pop(0) if answers else web.Response(body=PNG)


@asynccontextmanager
async def open_image_host() -> AsyncIterator[ImageHost]:
    """Serve images until the block ends."""
    host = ImageHost()
    async with serve(host.answer) as host.url:
        yield host
