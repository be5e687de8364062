"""
Uploads and downloads of files at customers' endpoints: streams, of which little is in memory at a time.

They have the guards of `UpstreamClient.send`, but for the time: a file may take long, as long as something moves.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import NamedTuple

from shared.errors import ConnectionInvalid, ProviderUnavailable, UpstreamError, UpstreamFacts
from shared.network.connection import Connection
from shared.network.response import Head
from shared.secret import Secret, redact
from shared.shares import Shares
from shared.upstream.error_mapping import map_error, read_request_id
from shared.upstream.messages import Access, Response, UpstreamRequest
from shared.upstream.outgoing import Target, read_target, write_call
from shared.upstream.response_body import NotDecodable, read_body
from shared.upstream.sending import Begin, Sending, do_nothing, mapped_step, redact_headers, without_key
from shared.upstream.stream_decoding import StreamDecoder, StreamRedactor

_WRITE_BYTES = 64 * 1024
"""What has to move within the time: a slow line takes a larger chunk piece by piece."""

_Credential = tuple[Secret, tuple[str, str]]


class _Times(NamedTuple):
    """The longest that one wait may take, and when all of them end on the loop's clock."""

    stall_s: float
    ends_at: float = math.inf


class Transfers:
    """The uploads and downloads of an UpstreamClient."""

    def __init__(
        self,
        connect: Callable[[Target, str], AbstractAsyncContextManager[Connection]],
        credential: Callable[[Access], Awaitable[_Credential]],
        memory: Shares,
    ) -> None:
        self._connect = connect
        self._credential = credential
        self._memory = memory

    async def upload(
        self,
        request: UpstreamRequest,
        chunks: AsyncIterable[bytes],
        size: int,
        access: Access,
        *,
        customer: str,
        stall_s: float,
        total_s: float = math.inf,
        begin: Begin = do_nothing,
    ) -> Response:
        """
        Send `request` with a body of `size` bytes from `chunks`, and return the 2xx response.

        It sends no faster than the endpoint reads, and stops as soon as it answers. `stall_s` limits each wait: for a
        connection, for the endpoint to take more, for the response; what `chunks` take for themselves counts only in
        `total_s`, the time for all of it, and their errors are raised as they are. A request that was cut off is not
        `unanswered`: it was not billed.
        `begin` is as `send` has it.

        Raises UpstreamError; ConnectionInvalid if the address may not be called; ValueError if `chunks` have another
        size, before the endpoint has all of it.
        """
        async with AsyncExitStack() as stack:
            times = _Times(stall_s, asyncio.get_running_loop().time() + total_s)
            transfer = await self._open(stack, request, access, customer, times, begin, size=size)
            sending, connection = transfer.sending, transfer.connection
            sending.is_whole = False
            stack.callback(transfer.close_if_partial)
            async with transfer.step():
                sending.start()
                connection.begin(transfer.head)
            is_wanted = await _send_all(transfer, chunks, size)
            sending.is_whole = is_wanted
            async with transfer.step():
                head = await connection.head()
                body, memory = await read_body(sending.host, head, connection, self._memory, customer)
            redact_headers(head, transfer.secret)
            body = redact(body, transfer.secret)
            if not head.is_success:
                error = map_error(head.status, head.headers, body)
                error.facts = replace(error.facts, unanswered=error.facts.unanswered and is_wanted)
                raise error
            if not is_wanted:
                raise _unusable(f"{sending.host} answered before it had the whole request.", head)
            return Response(head.status, head.headers, body, read_request_id(head.headers), memory)

    async def download(
        self, request: UpstreamRequest, access: Access, *, customer: str, stall_s: float, max_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        """
        Send `request` and yield the body of the 2xx response, decompressed, in chunks of some hundred KiB at most.

        `stall_s` limits each wait: for a connection, for the response, for more of its body. Whoever stops before the
        end uses `contextlib.aclosing`, so that the connection is free at once. Raises UpstreamError, after whatever
        was yielded until then, also if there is more than `max_bytes`, decompressed; ConnectionInvalid.
        """
        headers = {**request.headers, "accept-encoding": "gzip"}  # `deflate` may come without a header to tell it by
        async with AsyncExitStack() as stack:
            transfer = await self._open(stack, replace(request, headers=headers), access, customer, _Times(stall_s))
            host, connection = transfer.sending.host, transfer.connection
            async with transfer.step():
                transfer.sending.start()
                head = await connection.send(transfer.head)
                redact_headers(head, transfer.secret)
                if not head.is_success:
                    body, _ = await read_body(host, head, connection, self._memory, customer)
                    raise map_error(head.status, head.headers, redact(body, transfer.secret))
            encoding = head.headers.get("content-encoding", "")
            if "," in encoding:
                raise _unusable(f"{host} answered with more than one content encoding.", head)
            redactor, size = StreamRedactor(transfer.secret), 0
            try:
                async for piece in _decoded(transfer, StreamDecoder(encoding)):
                    size += len(piece)
                    if size > max_bytes:
                        raise _unusable(f"{host} answered with more than {max_bytes >> 20} MiB.", head)
                    if clean := redactor.feed(piece):
                        yield clean
            except NotDecodable:
                message = f"{host} answered with a body that is not {encoding}, as its header says, or not all of it."
                raise _unusable(message, head, transient=True) from None
            if rest := redactor.finish():
                yield rest

    async def _open(
        self,
        stack: AsyncExitStack,
        request: UpstreamRequest,
        access: Access,
        customer: str,
        times: _Times,
        begin: Begin = do_nothing,
        *,
        size: int | None = None,
    ) -> _Transfer:
        try:
            target = read_target(request.url)
            sending = Sending(without_key(target.name, access), begin)
            async with _step(sending, target, times):
                secret, header = await self._credential(access)
                head = write_call(request, target, header, size=size)
                connection = await stack.enter_async_context(self._connect(target, customer))
        except ConnectionInvalid as exc:
            raise ConnectionInvalid(without_key(str(exc), access)) from None
        return _Transfer(connection, sending, target, times, secret, head)


class _Transfer:
    """One upload or download, on its connection."""

    def __init__(
        self, connection: Connection, sending: Sending, target: Target, times: _Times, secret: Secret, head: bytes
    ) -> None:
        self.connection = connection
        self.sending = sending
        self.secret = secret
        self.head = head
        self._target = target
        self._times = times

    def step(self) -> AbstractAsyncContextManager[None]:
        """One wait for the endpoint."""
        return _step(self.sending, self._target, self._times)

    async def write(self, chunk: bytes) -> bool:
        """Send a chunk. Return whether the endpoint has not answered yet."""
        view = memoryview(chunk)
        for start in range(0, len(view), _WRITE_BYTES):
            async with self.step():
                is_wanted = await self.connection.write(view[start : start + _WRITE_BYTES])
            if not is_wanted:
                return False
        return True

    def close_if_partial(self) -> None:
        """Let nobody use a connection on which the endpoint would take the next request for the rest of this one."""
        if not self.sending.is_whole:
            self.connection.close()

    async def read(self) -> bytes:
        """Return more of the body; nothing at its end."""
        async with self.step():
            return await self.connection.read()


async def _send_all(transfer: _Transfer, chunks: AsyncIterable[bytes], size: int) -> bool:
    """Send a body and return True, or False as soon as there is a response. The last chunk waits for the size."""
    rest, waiting = size, b""
    async for chunk in chunks:
        rest -= len(chunk)
        if rest < 0:
            break
        if waiting and not await transfer.write(waiting):
            return False
        waiting = chunk
    if rest:
        raise ValueError(f"The chunks do not have {size} bytes.")
    return await transfer.write(waiting)


async def _decoded(transfer: _Transfer, decoder: StreamDecoder) -> AsyncIterator[bytes]:
    while chunk := await transfer.read():
        for count, piece in enumerate(decoder.feed(chunk)):
            if count:
                await asyncio.sleep(0)  # a few bytes can unpack to much, and others have their turn
            yield piece
    for piece in decoder.finish():
        yield piece


@asynccontextmanager
async def _step(sending: Sending, target: Target, times: _Times) -> AsyncIterator[None]:
    with mapped_step(sending, target, times.stall_s):
        now = asyncio.get_running_loop().time()
        if now >= times.ends_at:  # a write that need not wait would not end it
            raise TimeoutError
        async with asyncio.timeout_at(min(now + times.stall_s, times.ends_at)):
            yield


def _unusable(message: str, head: Head, *, transient: bool = False) -> UpstreamError:
    facts = UpstreamFacts(status=head.status, request_id=read_request_id(head.headers), transient=transient)
    return ProviderUnavailable(message, facts)
