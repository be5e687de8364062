"""
The HTTP triggers: a server on loopback that passes requests to functions and returns their responses.

It also has the host's route that runs a function manually, `POST /admin/functions/{name}`, here only for timers
(learn.microsoft.com/azure/azure-functions/functions-manually-run-non-http).

As in Core Tools, no key is needed. Knows nothing of the worker: `run` runs a function.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from multidict import CIMultiDict, MultiMapping

from local.host.bindings import HTTP_TRIGGER, Function
from local.host.routes import Routes, read_route
from local.host.worker import HttpResponse, Invocation

MAX_BODY_SIZE = int(os.environ.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT") or 100 * 1024 * 1024)

_log = logging.getLogger("host.http")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request, as Azure's host describes it to its worker."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


Run = Callable[[str, HttpRequest], Awaitable[Invocation]]
RunManually = Callable[[str], bool]
"""Starts a timer function by its name. Returns False if it does not exist."""


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


async def start_server(
    routes: Routes, run: Run, port: int, run_manually: RunManually = lambda _: False
) -> tuple[web.AppRunner, str]:
    """
    Listen on loopback, on a free port if `port` is 0. Returns the runner and the URL.

    Raises OSError if the port is in use.
    """

    async def handle(request: web.Request) -> web.Response:
        route = routes.find(request.method, request.rel_url.raw_path)
        if route is None:
            return web.Response(status=404)
        name, params = route
        invocation = await run(name, await _read(request, params))
        return _response(invocation)

    async def handle_manual_run(request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return web.Response(status=415)
        return web.Response(status=202 if run_manually(request.match_info["name"]) else 404)

    app = web.Application(client_max_size=MAX_BODY_SIZE)
    app.router.add_post("/admin/functions/{name}", handle_manual_run)
    app.router.add_route("*", r"/{path:[\s\S]*}", handle)
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def _read(request: web.Request, params: Mapping[str, str]) -> HttpRequest:
    if (request.content_length or 0) > MAX_BODY_SIZE:
        # Before reading: aiohttp rejects a body only once it has received too much.
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_SIZE, request.content_length or 0)
    body = await request.read()
    if body and not request.content_length:
        # Azure's host passes on only a body whose length is declared.
        _log.warning(
            "A %s request was sent in chunks, without Content-Length. As in Azure, its body is dropped.",
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


def _response(invocation: Invocation) -> web.Response:
    value: Any = invocation.return_value
    if not invocation.ok:
        return web.Response(status=500)
    if not isinstance(value, HttpResponse):
        return web.Response(text=str(value))
    headers = CIMultiDict(value.headers)
    headers.extend(("Set-Cookie", cookie) for cookie in value.cookies)
    # aiohttp sets these itself.
    headers.popall("Content-Length", None)
    headers.popall("Transfer-Encoding", None)
    return web.Response(status=value.status, headers=headers, body=value.body)
