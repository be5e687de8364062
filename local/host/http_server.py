"""
The HTTP triggers: one listener on loopback that hands requests to functions and their replies back.

Also the host's own way to run a function by hand, `POST /admin/functions/{name}`, here for timers
(learn.microsoft.com/azure/azure-functions/functions-manually-run-non-http).

As with Core Tools, keys are not asked for. Knows nothing of the worker: `run` runs a function.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from multidict import CIMultiDict, MultiMapping

from local.host.bindings import HTTP_TRIGGER, Function
from local.host.routes import Routes, read_route
from local.host.worker import HttpReply, Invocation

MAX_BODY = 100 * 1024 * 1024  # FUNCTIONS_REQUEST_BODY_SIZE_LIMIT's default

_log = logging.getLogger("host.http")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request, as Azure's host tells its worker of it."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


Run = Callable[[str, HttpRequest], Awaitable[Invocation]]
RunByHand = Callable[[str], bool]
"""Begins a function by its name; False where there is no such timer function."""


def read_routes(functions: Mapping[str, Function], prefix: str) -> Routes:
    """The routes of all HTTP functions. Raises HostError."""
    return Routes(
        read_route(name, settings.get("route") or name, prefix, settings.get("methods"))
        for name, settings in (
            (function.name, function.trigger.settings)
            for function in functions.values()
            if function.trigger.type == HTTP_TRIGGER
        )
    )


async def start_front(
    routes: Routes, run: Run, port: int, run_by_hand: RunByHand = lambda _: False
) -> tuple[web.AppRunner, str]:
    """
    Listens on loopback, on a free port where `port` is 0; gives the runner and the URL.

    Raises OSError if the port is taken.
    """

    async def answer(request: web.Request) -> web.Response:
        found = routes.find(request.method, request.rel_url.raw_path)
        if found is None:
            return web.Response(status=404)
        name, params = found
        invocation = await run(name, await _read(request, params))
        return _reply(invocation)

    async def begin(request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return web.Response(status=415)
        return web.Response(status=202 if run_by_hand(request.match_info["name"]) else 404)

    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_post("/admin/functions/{name}", begin)
    app.router.add_route("*", r"/{path:[\s\S]*}", answer)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def _read(request: web.Request, params: Mapping[str, str]) -> HttpRequest:
    if (request.content_length or 0) > MAX_BODY:
        # Before reading: aiohttp would refuse only what has arrived.
        raise web.HTTPRequestEntityTooLarge(MAX_BODY, request.content_length or 0)
    body = await request.read()
    if body and not request.content_length:
        # Azure's host hands a body on only where its length is told.
        _log.warning(
            "A %s request came in chunks, without Content-Length: as in Azure, its body is dropped.",
            request.method,
        )
        body = b""
    return HttpRequest(
        method=request.method,
        url=f"http://{request.host}{request.raw_path}",
        headers=_joined(request.headers),
        query={name: value for name, value in _joined(request.query).items() if value},
        params=params,
        body=body,
    )


def _joined(values: MultiMapping[str]) -> dict[str, str]:
    return {name: ",".join(values.getall(name)) for name in values}


def _reply(invocation: Invocation) -> web.Response:
    value: Any = invocation.return_value
    if not invocation.ok:
        return web.Response(status=500)
    if not isinstance(value, HttpReply):
        return web.Response(text=str(value))
    headers = CIMultiDict(value.headers)
    headers.extend(("Set-Cookie", cookie) for cookie in value.cookies)
    # Whoever serves the body says how long it is.
    headers.popall("Content-Length", None)
    headers.popall("Transfer-Encoding", None)
    return web.Response(status=value.status, headers=headers, body=value.body)
