"""
The soak's AI endpoint: answers chats and pictures with honest, varying token counts, fails a fifth of the
calls, and writes down each. What it does to a call depends on the seed, the call's piece of work and on how
often that was asked, so a run can be had again, in whatever order its calls come.
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
from local.soak.plan import CUT_S, Piece, read_tag, write_tag
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
"""Percent of the calls that meet each."""
LONG_S = 7
"""A `retry-after` that no worker sits out."""
SLOW_S = CUT_S + 1.0
_USUAL_S = (0.02, 0.15)


class AiEndpoint:
    """The endpoint. `faulty` may be switched off, and `takes_s`, the seconds of a call, be set."""

    def __init__(self, seed: int) -> None:
        self.url = ""
        self.journal = Journal()
        self.faulty = True
        self.takes_s = _USUAL_S
        self._seed = seed
        self._keys: dict[str, str] = {}

    def admit(self, customer: Customer) -> None:
        """From now on takes the customer's key."""
        self._keys[customer.key] = customer.id

    def retire(self, customer: Customer) -> None:
        """From now on refuses the customer's key. The journal still says whose it was."""
        self._keys[customer.key] = f"{customer.id} retired"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Writes the request down, then answers it or does not."""
        key = request.headers.get("api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        customer, _, retired = self._keys.get(key, "").partition(" ")
        body = await request.json()
        prompt = str(body["prompt"] if "prompt" in body else body["messages"][-1]["content"])
        piece = read_tag(prompt)
        entry = self.journal.open(customer, piece)
        if piece is None or not customer or retired:
            self.journal.close(entry, "refused" if piece else "unknown")
            return _error(401 if piece else 400, entry)
        chance = random.Random(f"{self._seed} {piece} {self.journal.tries[piece]}")  # noqa: S311  # repeatable
        fault = choose_fault(chance) if self.faulty else ""
        entry.input_tokens = 7 + len(prompt) // 4
        entry.output_tokens = chance.randint(1, 200)
        entry.cached_tokens = chance.choice([0, entry.input_tokens // 2])
        await asyncio.sleep(SLOW_S if fault == "slow" else chance.uniform(*self.takes_s))
        self.journal.close(entry, fault.partition(" long")[0] or "answered")
        if fault.startswith("reset"):
            return _reset(request)
        if fault not in ("", "slow"):
            headers = {"retry-after": str(LONG_S if "long" in fault else 1)} if fault.startswith("429") else {}
            return _error(int(fault[:3]), entry, headers)
        made = _picture(entry) if request.path.endswith("/images/generations") else _completion(piece, entry)
        return web.json_response(made, headers={"x-request-id": entry.request_id})


def choose_fault(chance: random.Random) -> str:
    """What a call meets: one of FAULTS, or nothing."""
    (fault,) = chance.choices([*FAULTS, ""], [*FAULTS.values(), 100 - sum(FAULTS.values())])
    return fault


def _completion(piece: Piece, entry: Entry) -> dict[str, Any]:
    text = f"{write_tag(piece)} {entry.request_id} {'so it is said ' * (entry.output_tokens // 4)}"
    return {
        "id": entry.request_id,
        "object": "chat.completion",
        "created": 1763640000,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {
            "prompt_tokens": entry.input_tokens,
            "completion_tokens": entry.output_tokens,
            "total_tokens": entry.input_tokens + entry.output_tokens,
            "prompt_tokens_details": {"cached_tokens": entry.cached_tokens},
        },
    }


def _picture(entry: Entry) -> dict[str, Any]:
    picture = base64.b64encode(draw(entry.request_id)).decode()
    usage = {
        "input_tokens": entry.input_tokens,
        "output_tokens": entry.output_tokens,
        "total_tokens": entry.input_tokens + entry.output_tokens,
        "input_tokens_details": {"cached_tokens": entry.cached_tokens},
    }
    return {"created": 1763640000, "data": [{"b64_json": picture}], "usage": usage}


def draw(colour: str) -> bytes:
    """A PNG, another one for each `colour`, so that one picture can't pass for another."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + zlib.crc32(colour.encode()).to_bytes(4, "big")[1:] * 8 for _ in range(8))
    header = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    text = chunk(b"tEXt", b"Comment\0" + colour.encode())
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + text + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


def _error(status: int, entry: Entry, headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"code": str(status), "message": "The soak's endpoint was told to.", "type": "error"}}
    return web.json_response(body, status=status, headers={"x-request-id": entry.request_id, **(headers or {})})


def _reset(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


@contextlib.asynccontextmanager
async def start(seed: int) -> AsyncIterator[AiEndpoint]:
    """The endpoint on a free loopback port, until the block ends."""
    endpoint = AiEndpoint(seed)
    app = web.Application()
    app.router.add_post("/{path:.*}", endpoint.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield endpoint
    finally:
        await runner.cleanup()
