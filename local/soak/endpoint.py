"""
The soak's AI endpoint: responds to chats and images with plausible, varying token counts, fails a fifth of the
requests, and records each in its journal. What happens to a request depends only on the seed, its call and the number
of the try, so a run can be repeated, in whatever order its requests arrive.
"""

import asyncio
import base64
import contextlib
import random
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from local.soak.journal import Entry, Journal
from local.soak.plan import SHORT_TIMEOUT_S, CallKey, format_tag, parse_tag
from local.stack.customers import Customer

FAULTS = {
    "429": 4.0,
    "429 long": 1.0,
    "500": 4.0,
    "503": 3.0,
    "reset before": 3.0,
    "reset after": 2.0,
    "slow": 3.0,
}
"""The percentage of requests that meet each fault."""
LONG_RETRY_AFTER_S = 7
"""A `retry-after` that is too long for a worker to wait; the job is requeued."""
SLOW_S = SHORT_TIMEOUT_S + 1.0
_USUAL_S = (0.02, 0.15)


class FaultyEndpoint:
    """The endpoint. `faulty` can be turned off, and `duration_s`, the range of a request's duration, be set."""

    def __init__(self, seed: int) -> None:
        self.url = ""
        self.journal = Journal()
        self.faulty = True
        self.duration_s = _USUAL_S
        self._seed = seed
        self._keys: dict[str, str] = {}

    def accept_key(self, customer: Customer) -> None:
        """Accept the customer's key from now on."""
        self._keys[customer.key] = customer.id

    def reject_key(self, customer: Customer) -> None:
        """Reject the customer's key from now on. The journal still has its customer."""
        self._keys[customer.key] = f"{customer.id} rejected"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Record the request, then respond to it or reset the connection."""
        key = request.headers.get("api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        customer, _, rejected = self._keys.get(key, "").partition(" ")
        body = await request.json()
        prompt = str(body["prompt"] if "prompt" in body else body["messages"][-1]["content"])
        call = parse_tag(prompt)
        entry = self.journal.open(customer, call)
        if call is None or not customer or rejected:
            self.journal.close(entry, "wrong key" if call else "no tag")
            return _error(401 if call else 400, entry)
        chance = random.Random(f"{self._seed} {call} {self.journal.tries[call]}")  # noqa: S311 -- repeatable
        fault = choose_fault(chance) if self.faulty else ""
        entry.consume(7 + len(prompt) // 4, chance)
        await asyncio.sleep(SLOW_S if fault == "slow" else chance.uniform(*self.duration_s))
        self.journal.close(entry, fault.partition(" long")[0] or "answered")
        if fault.startswith("reset"):
            return _reset(request)
        if fault not in ("", "slow"):
            retry_after = LONG_RETRY_AFTER_S if "long" in fault else 1
            return _error(int(fault[:3]), entry, {"retry-after": str(retry_after)} if fault.startswith("429") else {})
        response = _image(entry) if request.path.endswith("/images/generations") else _completion(call, entry)
        return web.json_response(response, headers={"x-request-id": entry.request_id})


def choose_fault(chance: random.Random) -> str:
    """The fault that a request meets, one of FAULTS; empty for none."""
    (fault,) = chance.choices([*FAULTS, ""], [*FAULTS.values(), 100 - sum(FAULTS.values())])
    return fault


def _completion(call: CallKey, entry: Entry) -> dict[str, Any]:
    text = f"{format_tag(call)} {entry.request_id} {'a generated text ' * (entry.output_tokens // 4)}"
    return {
        "id": entry.request_id,
        "object": "chat.completion",
        "created": 1763640000,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        **entry.chat_usage,
    }


def _image(entry: Entry) -> dict[str, Any]:
    usage = {
        "input_tokens": entry.input_tokens,
        "output_tokens": entry.output_tokens,
        "total_tokens": entry.input_tokens + entry.output_tokens,
        "input_tokens_details": {
            "cached_tokens": entry.cached_tokens,
            "cache_write_tokens": entry.cache_write_tokens,
        },
        "output_tokens_details": {"reasoning_tokens": entry.reasoning_tokens},
    }
    image = base64.b64encode(make_png(entry.request_id)).decode()
    return {
        "created": 1763640000,
        "data": [{"b64_json": image}],
        "usage": usage,
        "service_tier": entry.service_tier,
    }


def make_png(text: str) -> bytes:
    """A PNG whose color and comment are from `text`, so that no two images are equal."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + zlib.crc32(text.encode()).to_bytes(4, "big")[1:] * 8 for _ in range(8))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    comment = chunk(b"tEXt", b"Comment\0" + text.encode())
    return b"\x89PNG\r\n\x1a\n" + header + comment + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _error(status: int, entry: Entry, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"code": str(status), "message": "The soak injected this error.", "type": "error"}}
    return web.json_response(body, status=status, headers={"x-request-id": entry.request_id, **(headers or {})})


def _reset(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


@contextlib.asynccontextmanager
async def start(seed: int) -> AsyncIterator[FaultyEndpoint]:
    """The endpoint on a free port of loopback, until the block ends."""
    endpoint = FaultyEndpoint(seed)
    app = web.Application()
    app.router.add_post("/{path:.*}", endpoint.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield endpoint
    finally:
        await runner.cleanup()
