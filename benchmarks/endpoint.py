"""
A cheap AI endpoint: it responds to every request after some time (20 ms), with the same 1.2 KB but for an id.

    python -m benchmarks.endpoint --accounts N [--delay SECONDS] [--certificate FILE]

A process of its own, so that neither side's measurement includes its work. It listens on N ports of loopback, one for
each account, as each Azure customer has its own host, and prints them in one line.

It keeps a journal of what it has answered, since that is what a provider bills: `GET /journal` returns the id of each
response to a prompt with a `call_tag`, with that tag. A response counts whether or not its client lived to read it.
"""

import argparse
import asyncio
import itertools
import json
import re
import ssl
from functools import partial
from pathlib import Path

DELAY_S = 0.02
READY = "endpoint listens on "
_BACKLOG = 1024
_TAG = re.compile(rb"call-[a-z]+-\d{6}")
_END = b"\r\n\r\n"

_TEXT = (
    "A queue lets a sender continue with other work while a receiver takes its time to reply. "
    "It keeps the messages of a receiver that has died, and delivers each to the next one. "
)
_COMPLETION = {
    "id": "chatcmpl-%08d",
    "object": "chat.completion",
    "created": 1763640000,
    "model": "gpt-4o-2024-08-06",
    "system_fingerprint": "fp_benchmark",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": _TEXT * 4, "refusal": None},
        }
    ],
    "usage": {
        "prompt_tokens": 112,
        "completion_tokens": 144,
        "total_tokens": 256,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    },
}
_BODY = json.dumps(_COMPLETION).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
_RESPONSE = _HEAD % len(_BODY % 0) + b"x-request-id: chatcmpl-%08d\r\n\r\n" + _BODY
_UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"
_journal: dict[str, str] = {}
_numbers = itertools.count(1)


def call_tag(side: str, number: int) -> str:
    """What a prompt contains so that the journal has its call. `side` is of letters."""
    return f"call-{side}-{number:06}"


class ClientConnection(asyncio.Protocol):
    """One connection: HTTP/1.1, keep-alive, no pipelining, bodies with Content-Length."""

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for responses."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # it is one in a TCP server
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Schedule the response once the request is complete."""
        self._received += data
        head, end, body = self._received.partition(_END)
        if not end or len(body) < _length(head):
            return
        self._received = b""
        if head.startswith(b"GET /journal "):
            journal = json.dumps(_journal).encode()
            self._send(_HEAD % len(journal) + b"\r\n" + journal)
            return
        has_key = b"\r\napi-key:" in head.lower() or b"\r\nauthorization:" in head.lower()
        tag = _TAG.search(body)
        asyncio.get_running_loop().call_later(self._delay_s, self._answer if has_key else self._refuse, tag and tag[0])

    def _answer(self, tag: bytes | None) -> None:
        number = next(_numbers)
        if tag:
            _journal[f"chatcmpl-{number:08}"] = tag.decode()
        self._send(_RESPONSE % (number, number))

    def _refuse(self, _: bytes | None) -> None:
        self._send(_UNAUTHORIZED)

    def _send(self, response: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(response)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
        if name == b"transfer-encoding":
            raise ValueError("This endpoint does not accept chunked bodies.")
    return 0


async def serve(accounts: int, delay_s: float, certificate: Path | None) -> None:
    """Serve until the process ends, over TLS if there is a certificate."""
    loop, tls = asyncio.get_running_loop(), None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    connection = partial(ClientConnection, delay_s)
    servers = [await loop.create_server(connection, "127.0.0.1", 0, ssl=tls, backlog=_BACKLOG) for _ in range(accounts)]
    ports = (str(server.sockets[0].getsockname()[1]) for server in servers)
    print(READY + ",".join(ports), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="An AI endpoint for the benchmarks.")
    parser.add_argument("--accounts", type=int, default=1)
    parser.add_argument("--delay", type=float, default=DELAY_S, help="seconds before each response")
    parser.add_argument("--certificate", type=Path, help="a PEM file with a key and its chain; without it, plain HTTP")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.accounts, arguments.delay, arguments.certificate))


if __name__ == "__main__":
    main()
