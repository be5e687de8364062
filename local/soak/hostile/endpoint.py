"""The endpoint of the hostile customers: answers as badly as it can, and records each request in the soak's journal."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from local.soak.hostile.attacks import Attack
from local.soak.hostile.bodies import UNREADABLE, completion, compressed, filler
from local.soak.journal import Entry, Journal
from local.soak.plan import format_tag, parse_tag
from local.stack.customers import Customer

_CHUNK = 1024 * 1024
_TAG_BYTES = 4096
_HANG_S = 120.0
_NEVER = str(10**6)
_MAX_REQUEST_BYTES = 64 * 1024 * 1024


class HostileEndpoint:
    """The endpoint of all hostile customers; a request's key says whose it is. `/receiver` is for callbacks."""

    def __init__(self, journal: Journal) -> None:
        self.url = ""
        self.callbacks = 0
        """Callbacks that were received, and are left to hang."""
        self._journal = journal
        self._attacks: dict[str, Attack] = {}

    def accept_key(self, customer: Customer, attack: Attack) -> None:
        """Answer requests with the customer's key as its attack says."""
        self._attacks[customer.key] = attack

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Record a request, and answer it badly."""
        attack = self._attacks.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        call = parse_tag((await request.read())[:_TAG_BYTES].decode("latin-1"))
        entry = self._journal.open(attack.customer if attack else "", call)
        if attack is None or call is None:
            self._journal.close(entry, "no tag")
            return web.Response(status=401)
        if attack.filler not in UNREADABLE:
            entry.consume(20 + len(call[1]), random.Random(f"{call}"))  # noqa: S311 -- repeatable on purpose
        try:
            await asyncio.sleep(attack.seconds)
            outcome, response = await ANSWERS[attack.answer](request, entry, attack)
        except ConnectionError:  # the client has seen enough
            outcome, response = "hung", web.Response()
        if attack.filler in UNREADABLE:
            outcome = "unreadable"
        self._journal.close(entry, outcome)
        return response

    async def hang(self, request: web.Request) -> web.StreamResponse:
        """Receive a callback, and never answer it."""
        self.callbacks += 1
        await _while_open(request)
        return web.Response()


_Answer = tuple[str, web.StreamResponse]
"""An outcome for the journal, and the response."""


async def _send_text(_: web.Request, entry: Entry, attack: Attack) -> _Answer:
    return "answered", web.Response(body=b"".join(_pieces(entry, attack)), headers=_headers(entry))


async def _send_body(request: web.Request, entry: Entry, attack: Attack) -> _Answer:
    pieces = _pieces(entry, attack)
    return await _send(request, entry, pieces, {"content-length": str(sum(map(len, pieces)))})


async def _send_chunks(request: web.Request, entry: Entry, attack: Attack) -> _Answer:
    return await _send(request, entry, _pieces(entry, attack), {})


async def _send_gzip(request: web.Request, entry: Entry, attack: Attack) -> _Answer:
    return await _send(request, entry, [compressed(_pieces(entry, attack))], {"content-encoding": "gzip"})


async def _drip(request: web.Request, entry: Entry, _: Attack) -> _Answer:
    response = await _start(request, entry, {"content-length": "100000"})
    while request.transport is not None and not request.transport.is_closing():
        await response.write(b" ")
        await asyncio.sleep(0.5)
    return "hung", response


async def _hang(request: web.Request, _: Entry, __: Attack) -> _Answer:
    await _while_open(request)
    return "hung", web.Response()


async def _reset(request: web.Request, _: Entry, __: Attack) -> _Answer:
    if request.transport is not None:
        request.transport.abort()
    return "reset after", web.Response()


async def _refuse(_: web.Request, entry: Entry, attack: Attack) -> _Answer:
    body = {"error": {"code": attack.answer, "message": "Never.", "type": "error"}}
    headers = {"x-request-id": entry.request_id} | ({"retry-after": _NEVER} if attack.answer == "429" else {})
    return attack.answer, web.json_response(body, status=int(attack.answer), headers=headers)


ANSWERS: dict[str, Callable[[web.Request, Entry, Attack], Awaitable[_Answer]]] = {
    "text": _send_text,
    "body": _send_body,
    "chunks": _send_chunks,
    "gzip": _send_gzip,
    "drip": _drip,
    "hang": _hang,
    "reset": _reset,
    "401": _refuse,
    "429": _refuse,
}
"""The ways to answer."""


def _pieces(entry: Entry, attack: Attack) -> list[bytes]:
    text = f"{format_tag(entry.call or ('', '', 0))} {entry.request_id} "
    return completion(text, entry.chat_usage, filler(attack.filler))


def _headers(entry: Entry) -> dict[str, str]:
    return {"content-type": "application/json", "x-request-id": entry.request_id}


async def _start(request: web.Request, entry: Entry, headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(headers=_headers(entry) | headers)
    await response.prepare(request)
    return response


async def _send(request: web.Request, entry: Entry, pieces: list[bytes], headers: dict[str, str]) -> _Answer:
    response = await _start(request, entry, headers)
    for piece in pieces:
        view = memoryview(piece)
        for at in range(0, len(piece), _CHUNK):
            await response.write(view[at : at + _CHUNK])
    await response.write_eof()
    return "answered", response


async def _while_open(request: web.Request) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_HANG_S):
            while request.transport is not None and not request.transport.is_closing():  # noqa: ASYNC110
                await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def start(journal: Journal) -> AsyncIterator[HostileEndpoint]:
    """The endpoint on a free port of loopback, until the block ends."""
    endpoint = HostileEndpoint(journal)
    app = web.Application(client_max_size=_MAX_REQUEST_BYTES)
    app.router.add_post("/receiver/{path:.*}", endpoint.hang)
    app.router.add_post("/{path:.*}", endpoint.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield endpoint
    finally:
        await runner.cleanup()
