"""
What stands between the app and all that it calls: Storage's three services, the vault, the AI endpoint.

Every request of a customer's job passes a `Watch`, over real HTTP: it is named ("table transaction merge j", "blob put
result.json", "vault read", "ai chat/completions"), written down, and handed to the deed that the test has
for it, such as `refused`, `reset`, `lost` or one that holds it until a process is killed. Requests are told
apart by their customer, so that many jobs run side by side through one proxy.
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
class Met:
    """One request that passed by, and what became of it."""

    customer: str
    name: str
    body: bytes
    """What it carried; of a queue's message, the message."""
    done: bool = False
    """It was let through, and answered with 2xx."""
    told: bool = False
    """That answer was given on."""
    over: bool = False
    """Nothing more will come of it."""

    @property
    def service(self) -> str:
        """`table`, `blob`, `queue`, `vault` or `ai`."""
        return self.name.partition(" ")[0]


class Broken(Exception):
    """The connection is to be broken off."""


Forward = Callable[[], Awaitable[web.StreamResponse]]
Deed = Callable[[Met, Forward], Awaitable[web.StreamResponse]]


async def passed(_: Met, forward: Forward) -> web.StreamResponse:
    """Lets it through."""
    return await forward()


async def refused(met: Met, _: Forward) -> web.StreamResponse:
    """Answers 503 in the service's own words; nothing is done."""
    kind, text = _REFUSALS[met.service]
    return web.Response(status=503, text=text, content_type=kind, headers={"x-ms-error-code": "ServerBusy"})


async def reset(_: Met, __: Forward) -> web.StreamResponse:
    """Breaks the connection before anything is done."""
    raise Broken


async def lost(_: Met, forward: Forward) -> web.StreamResponse:
    """Has it done, and breaks the connection in place of the answer."""
    await forward()
    raise Broken


@dataclass
class Watch:
    """What has passed, in order, and what is to be done about the requests of a customer's jobs."""

    met: list[Met] = field(default_factory=list)
    deeds: dict[str, Callable[[Met], Deed]] = field(default_factory=dict)
    """By customer: asked at each request. A request of a customer who has none is let through."""
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    def of(self, customer: str, *services: str) -> list[Met]:
        """What passed for a customer; of these services only, where some are named."""
        return [met for met in self.met if met.customer == customer and (not services or met.service in services)]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits until it holds; asked whenever something has passed."""
        async with self._news:
            await self._news.wait_for(holds)

    async def see(self, request: web.Request, met: Met, forward: Forward) -> web.StreamResponse:
        """Passes one request by the deed that is there for it."""

        async def noting() -> web.StreamResponse:
            response = await forward()
            met.done = 200 <= response.status < 300
            await self.tell()
            return response

        self.met.append(met)
        await self.tell()
        try:
            response = await self.deeds.get(met.customer, lambda _: passed)(met)(met, noting)
            met.told = met.done
        except Broken:
            response = web.Response()
            if request.transport is not None:  # whoever asked may have died meanwhile
                request.transport.abort()
        finally:
            met.over = True
            await self.tell()
        return response

    async def tell(self) -> None:
        """Lets whoever waits in `until` look again."""
        async with self._news:
            self._news.notify_all()


@dataclass
class FaultyHarness:
    """A harness whose every call outside is watched."""

    harness: Harness
    watch: Watch

    def customer(self, **secret: Any) -> Customer:
        """A new customer as `Harness.customer` gives it, whose account at the endpoint is watched as well."""
        customer = self.harness.customer(**secret)
        customer.account.around = _endpoint_watched(self.watch, customer.name)
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
    """A harness as `open_harness` opens it, its app behind the watch; the harness's own clients go round it."""
    watch = Watch()
    async with between(azurite, watch) as storage:
        vault.read_middleware = _vault_watched(watch)
        try:
            async with open_harness(azurite, vault, endpoint, JobStorage=storage, **settings) as harness:
                yield FaultyHarness(harness, watch)
        finally:
            vault.read_middleware = None


@contextlib.asynccontextmanager
async def between(azurite: Azurite, watch: Watch) -> AsyncIterator[str]:
    """The connection string of a Storage that passes everything by `watch` and on to `azurite`."""
    async with contextlib.AsyncExitStack() as stack:
        # What is signed is the path, so requests can be passed on as they are.
        session = aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar())
        await stack.enter_async_context(session)
        urls = {}
        for service in ("blob", "queue", "table"):
            url = URL(getattr(azurite, f"{service}_url"))
            app = web.Application(client_max_size=64 * 1024 * 1024)
            app.router.add_route("*", "/{path:.*}", _storage_watched(watch, session, service, url.origin()))
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
        found = _CHANGED.search(body)
        assert found is not None
        return f"table transaction {'insert' if found[1] == b'POST' else 'merge'} {found[2].decode()}"
    if found := _ROW.search(first):
        verb = {"GET": "read", "PATCH": "merge"}.get(method, method.lower())
        return f"table {verb} {found[1]}"
    row = _INSERTED.search(body)
    return f"table insert {row[1].decode()}" if method == "POST" and row else "table query"


def _storage_watched(watch: Watch, session: aiohttp.ClientSession, service: str, origin: URL) -> Any:
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
        found = _CUSTOMER.search(unquote(request.raw_path) + carried.decode(errors="replace"))
        return await watch.see(request, Met(found[0] if found else "", name, carried), forward)

    return answer


def _vault_watched(watch: Watch) -> Any:
    async def answer(request: web.Request, handler: Callable[..., Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        found = _CUSTOMER.search(request.path)
        met = Met(found[0] if found else "", "vault read", b"")
        return await watch.see(request, met, lambda: handler(request))

    return answer


def _endpoint_watched(watch: Watch, customer: str) -> Any:
    async def answer(request: web.Request, given: Callable[..., Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        met = Met(customer, f"ai {request.path.removeprefix('/openai/v1/')}", await request.read())
        return await watch.see(request, met, lambda: given(request))

    return answer
