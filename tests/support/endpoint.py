"""
An AI endpoint over real HTTP that records requests, and answers as a test says.

It knows accounts by their keys, as a real one does, so that tests that run side by side share one server.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from aiohttp import web

from tests.support.audio_samples import MP3
from tests.support.loopback import Answer, serve


@dataclass(frozen=True)
class Received:
    """A request as it arrived. Header names are in lower case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's JSON."""
        return json.loads(self.body)


Around = Callable[[web.Request, Answer], Awaitable[web.StreamResponse]]


@dataclass
class Account:
    """A customer's account at the endpoint: its key, the requests that it got, and the answers that it will send."""

    key: str
    base: str
    received: list[Received] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    """They are sent one after the other; after the last one, the usual answer of the operation."""
    around: Around | None = None
    """If set, it answers instead. It gets the request, and the answer that would be sent."""

    def will_answer(self, *answers: Answer) -> None:
        """Add answers for the next requests."""
        self.answers.extend(answers)


@dataclass
class Endpoint:
    """The running endpoint."""

    url: str
    accounts: dict[str, Account] = field(default_factory=dict)

    def account(self, key: str = "") -> Account:
        """Return a new account; by default its key is random."""
        account = Account(key or f"key-{uuid4().hex}", self.url)
        self.accounts[account.key] = account
        return account

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Record the request and answer it for the account with its key; 401 if no account has that key."""
        key = (
            request.headers.get("api-key")
            or request.headers.get("x-api-key")
            or request.headers.get("authorization", "").removeprefix("Bearer ")
        )
        account = self.accounts.get(key)
        if account is None:
            return web.json_response({"error": {"code": "401", "message": f"Wrong key {key}."}}, status=401)
        headers = {name.lower(): value for name, value in request.headers.items()}
        account.received.append(
            Received(request.method, request.path, dict(request.query), headers, await request.read())
        )

        async def answer(request: web.Request) -> web.StreamResponse:
            return await (account.answers.pop(0) if account.answers else usual(request.path))(request)

        return await (account.around(request, answer) if account.around else answer(request))


def reply(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None, after_s: float = 0) -> Answer:
    """Return an answer with JSON, or with bytes as they are, that takes `after_s` seconds."""

    async def answer(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(after_s)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(body=data, status=status, headers=headers, content_type="application/json")

    return answer


def completion(
    text: str = "Hello.",
    *,
    usage: dict[str, Any] | None = None,
    finish_reason: str = "stop",
    after_s: float = 0,
    **more: Any,
) -> Answer:
    """Return an answer with a chat completion as OpenAI documents it; `more` are members of its JSON."""
    message = {"role": "assistant", "content": text}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1763640000,
        "model": "gpt-4o-2024-08-06",
        "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
        "usage": usage or {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18},
    } | more
    return reply(body, headers={"x-request-id": "req-1"}, after_s=after_s)


def claude_message(
    *blocks: dict[str, Any], stop_reason: str = "end_turn", usage: dict[str, Any] | None = None, **more: Any
) -> Answer:
    """Return an answer with a message as Anthropic documents it; `more` are members of its JSON."""
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": list(blocks) or [{"type": "text", "text": "Hello."}],
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage or {"input_tokens": 11, "output_tokens": 7, "service_tier": "standard"},
    } | more
    return reply(body, headers={"request-id": "req_1"})


def claude_error(status: int, kind: str, message: str = "No.", **headers: str) -> Answer:
    """Return an answer with an error as Anthropic writes it; `retry_after="1"` becomes a header."""
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_e"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return reply(body, status=status, headers={"request-id": "req_e", **named})


def after(work: Callable[[], Awaitable[Any]], answer: Answer | None = None) -> Answer:
    """Return an answer that is sent after `work` is done; by default a completion."""

    async def do(request: web.Request) -> web.StreamResponse:
        await work()
        return await (answer or completion())(request)

    return do


def pixels(width: int = 8, height: int = 8) -> bytes:
    """Return a PNG of one color."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + b"\x3a\x6e\xa5" * width for _ in range(height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def images(*pictures: bytes, **more: Any) -> Answer:
    """Return an answer with images as GPT image models send them: base64, and usage with their own names."""
    data = [{"b64_json": base64.b64encode(picture).decode()} for picture in pictures or (pixels(),)]
    usage = {"input_tokens": 9, "output_tokens": 272, "total_tokens": 281}
    return reply({"created": 1763640000, "data": data, "usage": usage} | more, headers={"x-request-id": "req-i"})


async def embeddings(request: web.Request) -> web.StreamResponse:
    """Answer with a vector of three numbers for each text."""
    texts = (await request.json())["input"]
    data = [{"object": "embedding", "index": n, "embedding": [n, 0.5, -1.25]} for n in range(len(texts))]
    body = {"object": "list", "data": data, "model": "text-embedding-3-small"}
    return await reply(body | {"usage": {"prompt_tokens": 4 * len(texts), "total_tokens": 4 * len(texts)}})(request)


def transcription(text: str = "Hello there.", **more: Any) -> Answer:
    """Return an answer with a transcription as whisper sends it: `verbose_json`, with its seconds."""
    segment = {"id": 0, "seek": 0, "start": 0.0, "end": 1.5, "text": f" {text}", "tokens": [1], "temperature": 0.0}
    body = {"task": "transcribe", "language": "english", "duration": 1.5, "text": text, "segments": [segment]}
    return reply(body | {"usage": {"type": "duration", "seconds": 2}} | more, headers={"x-request-id": "req-t"})


def speech(audio: bytes = MP3, content_type: str = "audio/mpeg") -> Answer:
    """Return an answer with audio."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=audio, content_type=content_type, headers={"x-request-id": "req-s"})

    return answer


async def responses(request: web.Request) -> web.StreamResponse:
    """Answer with a response that has ended at once, though it was to be made in the background; also if it is read."""
    sent = await request.json() if request.method == "POST" else {}
    content = [{"type": "output_text", "text": "Fine.", "annotations": []}]
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
    name = f"resp_{uuid4().hex}" if request.method == "POST" else request.path.rpartition("/")[2]
    body = {"id": name, "object": "response", "created_at": 1763640000, "status": "completed"}
    body |= {name: sent.get(name) for name in ("background", "metadata", "model")} | {"output": [message]}
    body |= {"usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}}
    return await reply(body, headers={"x-request-id": "req-r"})(request)


def usual(path: str) -> Answer:
    """Return the answer of an endpoint in good order to an operation."""
    if path.endswith("/messages"):
        return claude_message()
    if path.endswith(("/images/generations", "/images/edits")):
        return images()
    if path.endswith("/audio/transcriptions"):
        return transcription()
    if path.endswith("/audio/speech"):
        return speech()
    if "/responses" in path:
        return responses
    return embeddings if path.endswith("/embeddings") else completion()


def error(status: int, code: str = "", message: str = "No.", **headers: str) -> Answer:
    """Return an answer with an error as OpenAI and Azure OpenAI write it; `retry_after="1"` becomes a header."""
    body = {"error": {"code": code or str(status), "message": message, "type": "error", "param": None}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return reply(body, status=status, headers={"x-request-id": "req-e", **named})


async def reset(request: web.Request) -> web.StreamResponse:
    """Break the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    await asyncio.sleep(0)
    return web.Response()


async def truncated(request: web.Request) -> web.StreamResponse:
    """Announce more than is sent, and break the connection."""
    response = web.StreamResponse(headers={"content-length": "1000", "content-type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    assert request.transport is not None
    request.transport.abort()
    return response


async def endless(request: web.Request) -> web.StreamResponse:
    """Send without end."""
    response = web.StreamResponse(headers={"content-type": "application/json"})
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(b" " * 1024 * 1024)
    return response


@contextlib.asynccontextmanager
async def start() -> AsyncIterator[Endpoint]:
    """Return the endpoint, on a free loopback port, until the end of the block."""
    endpoint = Endpoint("")
    async with serve(endpoint.answer, client_max_size=64 * 1024 * 1024) as endpoint.url:
        yield endpoint
