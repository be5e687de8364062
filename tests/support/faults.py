"""
A proxy between the app and all that it calls: Storage's three services, the vault, the AI endpoint.

Every request of a customer's job passes an `Interceptor`, over real HTTP: it is named ("table transaction merge j",
"blob put result.json", "vault read", "ai chat/completions"), recorded, and handled by the behavior that the test has
for it, such as `refused`, `reset`, `lost` or one that holds it until a process is killed. Requests are distinguished
by their customer, so that many jobs run side by side through one proxy.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from yarl import URL

from local.stack.azurite import Azurite
from local.vault.server import Vault
from tests.support.endpoint import Endpoint
from tests.support.harness import Customer, Harness, open_harness

_CUSTOMER = re.compile(r"\bc-[0-9a-f]{12}\b")  # as `Harness.customer` names them
_OWN = re.compile(r"-[0-9a-f]{8}")  # what `open_harness` puts behind the names of queues
_ROW = re.compile(r"RowKey=?'([a-z])_")
_INSERTED = re.compile(rb'"RowKey": ?"([a-z])_')
_CHANGED = re.compile(rb"^(POST|PATCH) .*?RowKey(?:='|\": ?\")([a-z])_", re.DOTALL | re.MULTILINE)
_MESSAGE = re.compile(rb"<MessageText>(.*)</MessageText>", re.DOTALL)
_XML = '<?xml version="1.0" encoding="utf-8"?><Error><Code>ServerBusy</Code><Message>Busy.</Message></Error>'
# As the services refuse what they have no time for: 503 `ServerBusy` (learn.microsoft.com/rest/api/storageservices).
_REFUSALS = {
    "table": ("application/json", '{"odata.error":{"code":"ServerBusy","message":{"lang":"en-US","value":"Busy."}}}'),
    "blob": ("application/xml", _XML),
    "queue": ("application/xml", _XML),
    "vault": ("application/json", '{"error":{"code":"ServiceUnavailable","message":"Busy."}}'),
    "ai": ("application/json", '{"error":{"code":"503","message":"Busy.","type":"error","param":null}}'),
}
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}
_NOTHING_ADDED = ("User-Agent", "Content-Type", "Accept", "Accept-Encoding")  # they are signed, or are not asked for


JOBS: dict[str, dict[str, Any]] = {
    "chat": {},
    "chat with blob": {"output": {"blob": True}},
    "multi_chat of 3": {"action": "multi_chat", "input": {"prompts": ["One?", "Two?", "Three?"]}},
    "image": {"action": "image", "input": {"prompt": "A cat."}},
    "summarize in parts": {"action": "summarize", "input": {"text": "Some words. " * 3_500}},
    "embed": {"action": "embed", "input": {"texts": ["One.", "Two."]}},
}
"""Jobs of every shape that a run has: with steps and without, with blobs and without."""


@dataclass(eq=False)
class Exchange:
    """One request, and what happened to it."""

    customer: str
    name: str
    body: bytes
    """The request's body; for a queue message, the message."""
    done: bool = False
    """It was forwarded, and answered with 2xx."""
    relayed: bool = False
    """That response was relayed to the app."""
    over: bool = False
    """Nothing more happens to it."""

    @property
    def service(self) -> str:
        """`table`, `blob`, `queue`, `vault` or `ai`."""
        return self.name.partition(" ")[0]


class Broken(Exception):
    """Break the connection."""


Forward = Callable[[], Awaitable[web.StreamResponse]]
Behavior = Callable[[Exchange, Forward], Awaitable[web.StreamResponse]]


async def passed(_: Exchange, forward: Forward) -> web.StreamResponse:
    """Forward it."""
    return await forward()


async def refused(exchange: Exchange, _: Forward) -> web.StreamResponse:
    """Answer 503 as the service does; nothing is done."""
    kind, text = _REFUSALS[exchange.service]
    return web.Response(status=503, text=text, content_type=kind, headers={"x-ms-error-code": "ServerBusy"})


async def reset(_: Exchange, __: Forward) -> web.StreamResponse:
    """Break the connection before anything is done."""
    raise Broken


async def lost(_: Exchange, forward: Forward) -> web.StreamResponse:
    """Forward it, and break the connection instead of relaying the response."""
    await forward()
    raise Broken


@dataclass
class Interceptor:
    """The requests so far, in order, and how those of a customer's jobs are handled."""

    exchanges: list[Exchange] = field(default_factory=list)
    behaviors: dict[str, Callable[[Exchange], Behavior]] = field(default_factory=dict)
    """By customer, called for each request. A request of a customer that has none is forwarded."""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def of(self, customer: str, *services: str) -> list[Exchange]:
        """Return a customer's requests, only those to these services if any are named."""
        return [
            exchange
            for exchange in self.exchanges
            if exchange.customer == customer and (not services or exchange.service in services)
        ]

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is checked after each request and response."""
        async with self._changed:
            await self._changed.wait_for(holds)

    async def intercept(self, request: web.Request, exchange: Exchange, forward: Forward) -> web.StreamResponse:
        """Handle one request by the behavior that the test has for it."""

        async def forward_noted() -> web.StreamResponse:
            response = await forward()
            exchange.done = 200 <= response.status < 300
            await self.notify()
            return response

        self.exchanges.append(exchange)
        await self.notify()
        try:
            response = await self.behaviors.get(exchange.customer, lambda _: passed)(exchange)(exchange, forward_noted)
            exchange.relayed = exchange.done
        except Broken:
            response = web.Response()
            if request.transport is not None:  # whoever asked may have died meanwhile
                request.transport.abort()
        finally:
            exchange.over = True
            await self.notify()
        return response

    async def notify(self) -> None:
        """Lets whoever waits in `until` look again."""
        async with self._changed:
            self._changed.notify_all()


@dataclass
class FaultyHarness:
    """A harness whose every call outside is watched."""

    harness: Harness
    interceptor: Interceptor

    def customer(self, **secret: Any) -> Customer:
        """A new customer as `Harness.customer` gives it, whose account at the endpoint is watched as well."""
        customer = self.harness.customer(**secret)
        customer.account.around = _endpoint_watched(self.interceptor, customer.name)
        return customer

    async def end_lease(self, customer: Customer) -> None:
        """Lets as much time pass for a customer's jobs as a lease takes to end."""
        for row in await customer.rows():
            if row["RowKey"].startswith("j_") and row["state"] == "running":
                key = {"PartitionKey": row["PartitionKey"], "RowKey": row["RowKey"]}
                await self.harness.table.update_entity({**key, "lease_until": datetime.now(UTC) - timedelta(seconds=1)})


@contextlib.asynccontextmanager
async def open_faulty_harness(
    azurite: Azurite, vault: Vault, endpoint: Endpoint, **settings: str
) -> AsyncIterator[FaultyHarness]:
    """A harness as `open_harness` opens it, its app behind the interceptor; the harness's own clients go round it."""
    interceptor = Interceptor()
    async with between(azurite, interceptor) as storage:
        vault.read_middleware = _vault_watched(interceptor)
        try:
            async with open_harness(azurite, vault, endpoint, JobStorage=storage, **settings) as harness:
                yield FaultyHarness(harness, interceptor)
        finally:
            vault.read_middleware = None


@contextlib.asynccontextmanager
async def between(azurite: Azurite, interceptor: Interceptor) -> AsyncIterator[str]:
    """The connection string of a Storage that passes everything by `interceptor` and on to `azurite`."""
    async with contextlib.AsyncExitStack() as stack:
        # What is signed is the path, so requests can be passed on as they are.
        session = aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        await stack.enter_async_context(session)
        urls = {}
        for service in ("blob", "queue", "table"):
            url = URL(getattr(azurite, f"{service}_url"))
            app = web.Application(client_max_size=64 * 1024 * 1024)
            app.router.add_route("*", "/{path:.*}", _storage_watched(interceptor, session, service, url.origin()))
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            urls[f"{service}_url"] = str(url.with_port(runner.addresses[0][1]))
        yield replace(azurite, **urls).connection_string


def name_of(service: str, method: str, path: str, body: bytes) -> str:
    """
    What a request to Storage asks for.

    `table insert j`, `table read j`, `table merge j`, `table query`; of a transaction its first change,
    `table transaction merge j`; `blob put` and `blob get` with the blob's name below the job's; `queue put`,
    `queue get`, `queue update` and `queue delete` with the queue's name.
    """
    _, _, first, *rest = unquote(path.partition("?")[0]).split("/")
    if service == "queue":
        verb = {"POST": "put", "GET": "get", "PUT": "update", "DELETE": "delete"}[method]
        return f"queue {verb} {_OWN.sub('', first)}"
    if service == "blob":
        return f"blob {method.lower()} {'/'.join(rest[2:] or rest)}"
    if first == "$batch":
        match = _CHANGED.search(body)
        assert match is not None
        return f"table transaction {'insert' if match[1] == b'POST' else 'merge'} {match[2].decode()}"
    if match := _ROW.search(first):
        verb = {"GET": "read", "PATCH": "merge"}.get(method, method.lower())
        return f"table {verb} {match[1]}"
    row = _INSERTED.search(body)
    return f"table insert {row[1].decode()}" if method == "POST" and row else "table query"


def _storage_watched(interceptor: Interceptor, session: aiohttp.ClientSession, service: str, origin: URL) -> Any:
    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.read()

        async def forward() -> web.StreamResponse:
            headers = {name: text for name, text in request.headers.items() if name.lower() not in _HOP}
            url = URL(f"{origin}{request.raw_path}", encoded=True)
            async with session.request(
                request.method, url, data=body or None, headers=headers, skip_auto_headers=_NOTHING_ADDED
            ) as reply:
                kept = {name: text for name, text in reply.headers.items() if name.lower() not in _HOP}
                return web.Response(status=reply.status, body=await reply.read(), headers=kept)

        message = _MESSAGE.search(body) if service == "queue" else None
        carried = base64.b64decode(message[1]) if message else body
        name = name_of(service, request.method, request.raw_path, body)
        match = _CUSTOMER.search(unquote(request.raw_path) + carried.decode(errors="replace"))
        return await interceptor.intercept(request, Exchange(match[0] if match else "", name, carried), forward)

    return answer


def _vault_watched(interceptor: Interceptor) -> Any:
    async def answer(request: web.Request, handler: Callable[..., Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        match = _CUSTOMER.search(request.path)
        exchange = Exchange(match[0] if match else "", "vault read", b"")
        return await interceptor.intercept(request, exchange, lambda: handler(request))

    return answer


def _endpoint_watched(interceptor: Interceptor, customer: str) -> Any:
    async def answer(request: web.Request, respond: Callable[..., Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        exchange = Exchange(customer, f"ai {request.path.removeprefix('/openai/v1/')}", await request.read())
        return await interceptor.intercept(request, exchange, lambda: respond(request))

    return answer
