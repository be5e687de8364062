"""
A proxy between the app and all that it calls: Storage's three services, the vault, the AI endpoint.

Every request of a customer's jobs passes a FaultProxy, over real HTTP. It has a name ("table transaction merge j",
"blob put result.json", "vault read", "ai chat/completions"), is recorded, and is handled as the test says: forwarded,
refused, reset, or held until a process is killed. Each customer's requests have faults of their own, so that many jobs
run side by side through one proxy.
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
from tests.support.endpoint import Answer, Endpoint, error
from tests.support.harness import Customer, Harness, open_harness

_CUSTOMER = re.compile(r"\bc-[0-9a-f]{12}\b")  # as `Harness.customer` names them
_OWN = re.compile(r"-[0-9a-f]{8}")  # the end of the names of queues that `open_harness` makes
_ROW = re.compile(r"RowKey=?'([a-z]+)[_']")
_INSERTED = re.compile(rb'"RowKey": ?"([a-z]+)[_"]')
_CHANGED = re.compile(rb"^(POST|PATCH|DELETE) .*?RowKey(?:='|\": ?\")([a-z]+)[_'\"]", re.DOTALL | re.MULTILINE)
_MESSAGE = re.compile(rb"<MessageText>(.*)</MessageText>", re.DOTALL)
_XML = '<?xml version="1.0" encoding="utf-8"?><Error><Code>ServerBusy</Code><Message>Busy.</Message></Error>'
# As a busy service refuses a request: 503 `ServerBusy` (learn.microsoft.com/rest/api/storageservices).
_REFUSALS = {
    "table": ("application/json", '{"odata.error":{"code":"ServerBusy","message":{"lang":"en-US","value":"Busy."}}}'),
    "blob": ("application/xml", _XML),
    "queue": ("application/xml", _XML),
    "vault": ("application/json", '{"error":{"code":"ServiceUnavailable","message":"Busy."}}'),
    "ai": ("application/json", '{"error":{"code":"503","message":"Busy.","type":"error","param":null}}'),
}
_NO_QUOTA = error(429, code="insufficient_quota")
_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}
_NOTHING_ADDED = ("User-Agent", "Content-Type", "Accept", "Accept-Encoding")  # they are signed, or not requested


CLAUDE, FALLBACK = "chat with Claude", "chat on two connections"
"""Jobs of customers with a connection to Claude, and with one that is out of quota beside another."""
JOBS: dict[str, dict[str, Any]] = {
    "chat": {},
    "chat with blob": {"output": {"blob": True}},
    "multi_chat of 3": {"action": "multi_chat", "input": {"prompts": ["One?", "Two?", "Three?"]}},
    "image": {"action": "image", "input": {"prompt": "A cat."}},
    "summarize in parts": {"action": "summarize", "input": {"text": "Some words. " * 3_500}},
    "embed": {"action": "embed", "input": {"texts": ["One.", "Two."]}},
    "edit_image": {"action": "edit_image", "input": {"images": ["INPUTS/a.png", "INPUTS/b.png"], "prompt": "A cat."}},
    "transcribe": {"action": "transcribe", "input": {"blob": "INPUTS/call.wav", "response_format": "srt"}},
    "speak": {"action": "speak", "input": {"text": "Hello.", "voice": "alloy"}},
    "raw": {"action": "raw", "input": {"path": "chat/completions", "json": {"messages": []}}},
    "summarize a document": {"action": "summarize", "input": {"blob": "INPUTS/notes.md"}},
    "respond": {"action": "respond", "input": {"input": "Hello."}},
    CLAUDE: {},
    FALLBACK: {"connection": ["default", "second"]},
}
"""
The members of jobs with steps and without, with blobs and without, beyond those of a chat job. `with_blobs` writes the
blobs that they name.
"""


@dataclass(eq=False)
class ProxiedRequest:
    """A request that came to the proxy, and what became of it."""

    customer: str
    name: str
    body: bytes
    """For a queue's message, the decoded message."""
    succeeded: bool = False
    """It was forwarded, and the response was 2xx."""
    answered: bool = False
    """That response was returned."""
    broken: bool = False
    """The connection was broken in place of a response."""
    ended: bool = False
    """Nothing more will happen to it."""

    @property
    def service(self) -> str:
        """`table`, `blob`, `queue`, `vault` or `ai`."""
        return self.name.partition(" ")[0]

    @property
    def is_call(self) -> bool:
        """Whether it buys something: a look at a stored response does not."""
        return self.service == "ai" and not self.name.startswith("ai responses/")


class BreakConnection(Exception):
    """Raised by a handler to break the connection in place of a response."""


Forward = Callable[[], Awaitable[web.StreamResponse]]
Handler = Callable[[ProxiedRequest, Forward], Awaitable[web.StreamResponse]]


async def forwarded(_: ProxiedRequest, forward: Forward) -> web.StreamResponse:
    """Forward the request."""
    return await forward()


async def refused(request: ProxiedRequest, _: Forward) -> web.StreamResponse:
    """Answer 503 as the service does, without forwarding the request."""
    kind, text = _REFUSALS[request.service]
    return web.Response(status=503, text=text, content_type=kind, headers={"x-ms-error-code": "ServerBusy"})


async def reset(_: ProxiedRequest, __: Forward) -> web.StreamResponse:
    """Break the connection without forwarding the request."""
    raise BreakConnection


async def lost(_: ProxiedRequest, forward: Forward) -> web.StreamResponse:
    """Forward the request, and break the connection in place of the response."""
    await forward()
    raise BreakConnection


@dataclass
class FaultProxy:
    """The requests that have come, in order, and how those of a customer's jobs are handled."""

    requests: list[ProxiedRequest] = field(default_factory=list)
    handlers: dict[str, Callable[[ProxiedRequest], Handler]] = field(default_factory=dict)
    """By customer; called with each request. Requests of other customers are forwarded."""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def of(self, customer: str, *services: str) -> list[ProxiedRequest]:
        """Return a customer's requests, to these services only if any are named."""
        return [
            request
            for request in self.requests
            if request.customer == customer and (not services or request.service in services)
        ]

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition is true; it is checked whenever something has changed."""
        async with self._changed:
            await self._changed.wait_for(condition)

    async def handle(self, request: web.Request, proxied: ProxiedRequest, forward: Forward) -> web.StreamResponse:
        """Record a request, and answer it with its customer's handler."""

        async def recording() -> web.StreamResponse:
            response = await forward()
            proxied.succeeded = 200 <= response.status < 300
            await self.notify()
            return response

        self.requests.append(proxied)
        await self.notify()
        try:
            response = await self.handlers.get(proxied.customer, lambda _: forwarded)(proxied)(proxied, recording)
            proxied.answered = proxied.succeeded
        except BreakConnection:
            proxied.broken = True
            response = web.Response()
            if request.transport is not None:  # the client may have died meanwhile
                request.transport.abort()
        finally:
            proxied.ended = True
            await self.notify()
        return response

    async def notify(self) -> None:
        """Have the conditions of `wait_for` checked again."""
        async with self._changed:
            self._changed.notify_all()


@dataclass
class FaultyHarness:
    """A harness whose app calls everything through a proxy."""

    harness: Harness
    proxy: FaultProxy

    def customer(self, kind: str = "", **secret: Any) -> Customer:
        """Return a new customer, as `Harness.customer`, whose requests to the endpoint pass the proxy as well."""
        if kind == CLAUDE:
            secret |= {"endpoint": f"{self.harness.endpoint.url}/anthropic", "provider": "anthropic"}
        customer = self.harness.customer(**secret)
        customer.account.around = _proxied_endpoint(self.proxy, customer.name)
        if kind == FALLBACK:
            second = replace(customer, account=self.harness.endpoint.account())
            second.account.around = customer.account.around
            self.harness.connect(second, "second", **secret)
            customer.account.around = _proxied_endpoint(self.proxy, customer.name, _NO_QUOTA)
        return customer

    async def expire_leases(self, customer: Customer) -> None:
        """Let as much time pass for a customer's jobs as a lease lasts."""
        for row in await customer.rows():
            if row["RowKey"].startswith("j_") and row["state"] == "running":
                key = {"PartitionKey": row["PartitionKey"], "RowKey": row["RowKey"]}
                await self.harness.table.update_entity({**key, "lease_until": datetime.now(UTC) - timedelta(seconds=1)})


@contextlib.asynccontextmanager
async def open_faulty_harness(
    azurite: Azurite, vault: Vault, endpoint: Endpoint, **settings: str
) -> AsyncIterator[FaultyHarness]:
    """Return a harness whose app is behind a proxy; the harness's own clients are not."""
    proxy, at_once = FaultProxy(), {"ADOPT_WINDOW_S": "0"}  # no provider's event will come
    async with proxied_storage(azurite, proxy) as storage:
        vault.read_middleware = _proxied_vault(proxy)
        try:
            async with open_harness(azurite, vault, endpoint, JobStorage=storage, **at_once, **settings) as harness:
                yield FaultyHarness(harness, proxy)
        finally:
            vault.read_middleware = None


@contextlib.asynccontextmanager
async def proxied_storage(azurite: Azurite, proxy: FaultProxy) -> AsyncIterator[str]:
    """Return the connection string of a Storage whose requests pass the proxy on their way to `azurite`."""
    async with contextlib.AsyncExitStack() as stack:
        # The signature covers the path and not the host, so requests can be forwarded as they are.
        session = aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        await stack.enter_async_context(session)
        urls = {}
        for service in ("blob", "queue", "table"):
            url = URL(getattr(azurite, f"{service}_url"))
            app = web.Application(client_max_size=64 * 1024 * 1024)
            app.router.add_route("*", "/{path:.*}", _proxied_service(proxy, session, service, url.origin()))
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            urls[f"{service}_url"] = str(url.with_port(runner.addresses[0][1]))
        yield replace(azurite, **urls).connection_string


def name_of(service: str, method: str, path: str, body: bytes) -> str:
    """
    Return the name of a request to Storage.

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
        change = _CHANGED.search(body)
        assert change is not None
        verb = {b"POST": "insert", b"PATCH": "merge", b"DELETE": "delete"}[change[1]]
        return f"table transaction {verb} {change[2].decode()}"
    if key := _ROW.search(first):
        verb = {"GET": "read", "PATCH": "merge"}.get(method, method.lower())
        return f"table {verb} {key[1]}"
    row = _INSERTED.search(body)
    return f"table insert {row[1].decode()}" if method == "POST" and row else "table query"


def _proxied_service(proxy: FaultProxy, session: aiohttp.ClientSession, service: str, origin: URL) -> Any:
    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.read()

        async def forward() -> web.StreamResponse:
            headers = {name: text for name, text in request.headers.items() if name.lower() not in _HOP}
            url = URL(f"{origin}{request.raw_path}", encoded=True)
            async with session.request(
                request.method, url, data=body or None, headers=headers, skip_auto_headers=_NOTHING_ADDED
            ) as reply:
                hop = _HOP - {"content-length"} if request.method == "HEAD" else _HOP
                kept = {name: text for name, text in reply.headers.items() if name.lower() not in hop}
                return web.Response(status=reply.status, body=await reply.read(), headers=kept)

        message = _MESSAGE.search(body) if service == "queue" else None
        content = base64.b64decode(message[1]) if message else body
        name = name_of(service, request.method, request.raw_path, body)
        customer = _CUSTOMER.search(unquote(request.raw_path) + content.decode(errors="replace"))
        return await proxy.handle(request, ProxiedRequest(customer[0] if customer else "", name, content), forward)

    return answer


def _proxied_vault(proxy: FaultProxy) -> Any:
    async def answer(request: web.Request, handler: Callable[..., Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        customer = _CUSTOMER.search(request.path)
        proxied = ProxiedRequest(customer[0] if customer else "", "vault read", b"")
        return await proxy.handle(request, proxied, lambda: handler(request))

    return answer


def _proxied_endpoint(proxy: FaultProxy, customer: str, always: Answer | None = None) -> Any:
    async def answer(request: web.Request, usual: Callable[..., Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        name = f"ai {request.path.removeprefix('/openai/v1/').removeprefix('/anthropic/v1/')}"
        proxied = ProxiedRequest(customer, name, await request.read())
        return await proxy.handle(request, proxied, lambda: (always or usual)(request))

    return answer
