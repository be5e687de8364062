"""
Fixtures of the host's tests: the queues of a real Azurite, and hosts that run the sample app.

Loaded with `pytest_plugins`.
"""

import asyncio
import base64
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from azure.core.exceptions import ResourceExistsError, ResourceNotFoundError
from azure.storage.queue.aio import QueueServiceClient

from local.stack.azurite import Azurite
from local.stack.processes import Process

ROOT = Path(__file__).parents[2]
APP = Path(__file__).parent / "host_app"


class Queues:
    """The queues of a running Azurite. Messages are base64, as in host.json."""

    def __init__(self, connection_string: str) -> None:
        self.connection_string = connection_string
        self.service = QueueServiceClient.from_connection_string(connection_string)

    async def put(self, queue: str, *bodies: bytes) -> None:
        """Send messages, and create the queue if it does not exist."""
        await self.put_text(queue, *(base64.b64encode(body).decode() for body in bodies))

    async def put_text(self, queue: str, *texts: str) -> None:
        """Send message texts unchanged."""
        client = self.service.get_queue_client(queue)
        with contextlib.suppress(ResourceExistsError):
            await client.create_queue()
        for text in texts:
            await client.send_message(text)

    async def take(self, queue: str, count: int = 1, within: float = 60) -> list[bytes]:
        """The bodies of `take_texts`."""
        return [base64.b64decode(text) for text in await self.take_texts(queue, count, within)]

    async def take_texts(self, queue: str, count: int = 1, within: float = 60) -> list[str]:
        """Wait for `count` messages, and delete them. Raises TimeoutError after `within` seconds."""
        texts: list[str] = []
        client = self.service.get_queue_client(queue)
        async with asyncio.timeout(within):
            while len(texts) < count:
                with contextlib.suppress(ResourceNotFoundError):
                    async for message in client.receive_messages(messages_per_page=32):
                        texts.append(message.content)
                        await client.delete_message(message)
                if len(texts) < count:
                    await asyncio.sleep(0.1)
        return texts

    async def emptied(self, queue: str) -> None:
        """Wait until the queue has no message, not even an invisible one: a host deletes them after sending outputs."""
        async with asyncio.timeout(60):
            while await self.length(queue):  # noqa: ASYNC110 -- a queue has no event
                await asyncio.sleep(0.1)

    async def length(self, queue: str) -> int:
        """The number of messages, with the invisible ones."""
        try:
            properties = await self.service.get_queue_client(queue).get_queue_properties()
        except ResourceNotFoundError:
            return 0
        return properties.approximate_message_count


@dataclass
class Host:
    """A host process, and the lines that it has printed."""

    process: Process
    lines: list[str] = field(default_factory=list)
    url: str = ""

    async def printed(self, text: str, within: float = 60) -> None:
        """Wait for a line that contains the text. Raises TimeoutError."""
        async with asyncio.timeout(within):
            while not any(text in line for line in self.lines):  # noqa: ASYNC110 -- a list has no event
                await asyncio.sleep(0.02)


Start = Callable[..., Awaitable[Host]]


@pytest.fixture(scope="session")
async def queues(azurite: Azurite) -> AsyncIterator[Queues]:
    """The queues of the session's Azurite."""
    opened = Queues(azurite.connection_string)
    async with opened.service:
        yield opened


async def _start(
    connection_string: str, prefix: str, *arguments: str, app: Path = APP, ready: bool = True, **settings: str
) -> Host:
    lines: list[str] = []
    process = await Process.start(
        "host",
        [sys.executable, "-m", "local.host", "--app", app, *arguments],
        env={**os.environ, "JobStorage": connection_string, "PREFIX": prefix, **settings},
        cwd=ROOT,
        on_line=lines.append,
    )
    host = Host(process, lines)
    if ready:
        (match,) = await process.ready([r"^host ready ?(\S*)"], within=90)
        host.url = match[1]
    return host


@pytest.fixture
async def start_host(queues: Queues) -> AsyncIterator[Start]:
    """A function that starts hosts: prefix of the queues' names, arguments, app settings."""
    started = []

    async def start(prefix: str, *arguments: str, **options: str) -> Host:
        options.setdefault("connection_string", queues.connection_string)
        host = await _start(options.pop("connection_string"), prefix, *arguments, **options)
        started.append(host)
        return host

    yield start
    for host in started:
        await host.process.stop()


@pytest.fixture(scope="module")
async def host(queues: Queues) -> AsyncIterator[Host]:
    """The module's host; it takes a sixth of a core to look at its queues. Their names begin with `shared-`."""
    host = await _start(queues.connection_string, "shared-", "--port", "auto")
    yield host
    await host.process.stop()
