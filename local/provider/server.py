"""
An AI endpoint with patient prices: files, batches, responses in the background, flex, and webhooks; and Claude's
batches.

It behaves as providers document it, runs batches by a clock that a test may move, lets go wrong what a test asks for,
and keeps a journal of what each account bought. Nothing is shared between accounts, which it knows by their keys.

It does not count tokens as a model does (a token is four characters), streams nothing, and has no images and no audio.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp
from aiohttp import web

from local.provider.account import Account, Durations, Received, Style
from local.provider.batch_run import BatchRuns
from local.provider.clock import Clock, ManualClock, Timers
from local.provider.errors import ApiError
from local.provider.faults import RouteFault
from local.provider.handlers import Handlers, Request
from local.provider.journal import Prices, Totals, add_up
from local.provider.responses import Responses
from local.provider.routes import find_route
from local.provider.webhooks import Webhooks

MAX_BODY = 2**30
MAX_CATCH_UP_S = 0.05
"""How long a request waits, in real seconds, for what is due before it."""
_DONE_FIRST = ("lost", "hang_after", "cut", "slow")


@dataclass(slots=True)
class Endpoint:
    """The running endpoint. `url` has no path; an account's `url` is what a connection needs."""

    clock: Clock
    durations: Durations
    timers: Timers
    webhooks: Webhooks
    url: str = ""
    accounts: dict[str, Account] = field(default_factory=dict, repr=False)
    """By key."""
    _handlers: Handlers = field(init=False)

    def __post_init__(self) -> None:
        self._handlers = Handlers(
            BatchRuns(self.timers, self.webhooks.notify), Responses(self.timers, self.webhooks.notify)
        )

    def account(
        self, key: str = "", style: Style = "openai", prices: Mapping[str, Prices] | Prices | None = None, **more: Any
    ) -> Account:
        """
        Return a new account; by default its key is random.

        `prices` are by model, or for all. `more` are other members of Account. It starts with a copy of the
        endpoint's durations.
        """
        by_model = {"*": prices} if isinstance(prices, Prices) else dict(prices or {})
        durations = more.pop("durations", None) or Durations(
            **{name: getattr(self.durations, name) for name in Durations.__slots__}
        )
        made = Account(key or f"key-{uuid4().hex}", self.url, style=style, prices=by_model, durations=durations, **more)
        self.accounts[made.key] = made
        return made

    async def settle(self) -> None:
        """Do what is due by now, and wait until its webhooks have been sent."""
        await self.timers.run_due()
        await self.webhooks.sent()

    async def advance(self, seconds: float) -> None:
        """Move a manual clock, and settle."""
        if not isinstance(self.clock, ManualClock):
            raise TypeError("The endpoint's clock can't be moved.")
        self.clock.advance(seconds)
        await self.settle()

    def totals(self, processing: str | None = None) -> Totals:
        """Return the sums over what was billed to all accounts."""
        return add_up(entry for each in self.accounts.values() for entry in each.journal.billed(processing))

    async def handle(self, http: web.Request) -> web.StreamResponse:
        """Answer a request of an account, or let its fault happen."""
        key = (
            http.headers.get("api-key")
            or http.headers.get("x-api-key")
            or http.headers.get("authorization", "").removeprefix("Bearer ")
        )
        account = self.accounts.get(key)
        if account is None:
            return _error(ApiError(401, "invalid_api_key", "Incorrect API key provided."), "openai")
        route = find_route(http.method, http.path, account.style, has_api_version="api-version" in http.query)
        if route is None:
            return _error(ApiError(404, "not_found", f"Unknown request URL: {http.method} {http.path}."), account.style)
        await self.timers.run_due(MAX_CATCH_UP_S)
        request = Request(http, account, route, self.clock())
        fault = account.faults.take_route(route.name, http.path)
        if fault is not None and fault.kind not in _DONE_FIRST:
            await http.read()
            response: web.Response | None = await _instead(http, fault, account.style)
        else:
            try:
                response = await self._handlers.handle(request)
            except ApiError as exc:
                response = _error(exc, account.style)
            response = await _afterwards(http, fault, response)
        if response is not None:
            response.headers.setdefault("x-request-id", f"req_{uuid4().hex}")
        account.received.append(Received(request.at, route.name, route.target, response.status if response else 0))
        if response is None and http.transport is not None:
            http.transport.abort()
        return response or web.Response()


def _error(exc: ApiError, style: str) -> web.Response:
    return web.json_response(exc.body(style), status=exc.status, headers=exc.headers)


async def _instead(http: web.Request, fault: RouteFault, style: str) -> web.Response | None:
    """What happens instead of the work. None: the connection breaks."""
    if fault.kind == "hang":
        await _client_left(http)
    if fault.kind != "status":
        return None
    return _error(ApiError(fault.status, fault.code, fault.message, headers=fault.headers), style)


async def _afterwards(http: web.Request, fault: RouteFault | None, response: web.Response) -> web.Response | None:
    """What happens to the answer when the work is done. None: the connection breaks."""
    match fault and fault.kind:
        case "hang_after":
            await _client_left(http)
        case "cut" if isinstance(response.body, bytes):
            cut = web.StreamResponse(headers={"content-length": str(len(response.body))})
            await cut.prepare(http)
            await cut.write(response.body[: len(response.body) // 2])
            await asyncio.sleep(0.05)  # an abort at once would discard what was written
        case "slow" if fault is not None:
            await asyncio.sleep(fault.after_s)
            return response
        case None:
            return response
    return None


async def _client_left(http: web.Request) -> None:
    while http.transport is not None and not http.transport.is_closing():  # noqa: ASYNC110 -- aiohttp has no event
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def start(clock: Clock | None = None, durations: Durations | None = None) -> AsyncIterator[Endpoint]:
    """
    The endpoint on a free port of loopback, until the block ends.

    `clock` returns seconds since 1970: a ManualClock, or any other; the system's if left out.
    """
    timers = Timers(clock or time.time)
    async with contextlib.AsyncExitStack() as parts:
        webhooks = Webhooks(timers, await parts.enter_async_context(aiohttp.ClientSession()))
        parts.push_async_callback(webhooks.stop)
        endpoint = Endpoint(timers.clock, durations or Durations(), timers, webhooks)
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", endpoint.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        parts.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        ticking = asyncio.create_task(timers.run())
        try:
            yield endpoint
        finally:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking
