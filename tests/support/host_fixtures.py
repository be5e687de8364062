"""
What the host's tests share: a real Azurite, its queues, and hosts that run the sample app.

Loaded with `pytest_plugins`; tests get everything as fixtures.
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
    """The queues of a running Azurite, in base64 as host.json says."""

    def __init__(self, connection_string: str) -> None:
        self.connection_string = connection_string
        self.service = QueueServiceClient.from_connection_string(connection_string)

    async def put(self, queue: str, *bodies: bytes) -> None:
        """Sends messages, and creates the queue if it is missing."""
        await self.put_text(queue, *(base64.b64encode(body).decode() for body in bodies))

    async def put_text(self, queue: str, *texts: str) -> None:
        """Sends messages as they are."""
        client = self.service.get_queue_client(queue)
        with contextlib.suppress(ResourceExistsError):
            await client.create_queue()
        for text in texts:
            await client.send_message(text)

    async def take(self, queue: str, count: int = 1, within: float = 60) -> list[bytes]:
        """The bodies of `take_texts`."""
        return [base64.b64decode(text) for text in await self.take_texts(queue, count, within)]

    async def take_texts(self, queue: str, count: int = 1, within: float = 60) -> list[str]:
        """Waits for so many messages, and takes them off the queue."""
        found: list[str] = []
        client = self.service.get_queue_client(queue)
        async with asyncio.timeout(within):
            while len(found) < count:
                with contextlib.suppress(ResourceNotFoundError):
                    async for message in client.receive_messages(messages_per_page=32):
                        found.append(message.content)
                        await client.delete_message(message)
                if len(found) < count:
                    await asyncio.sleep(0.05)
        return found

    async def emptied(self, queue: str) -> None:
        """Waits until there is no message, not even a hidden one: a host deletes it after its output is there."""
        async with asyncio.timeout(60):
            while await self.length(queue):  # noqa: ASYNC110 -- a queue cannot tell
                await asyncio.sleep(0.05)

    async def length(self, queue: str) -> int:
        """How many messages there are, hidden ones too."""
        try:
            properties = await self.service.get_queue_client(queue).get_queue_properties()
        except ResourceNotFoundError:
            return 0
        return properties.approximate_message_count


@dataclass
class Host:
    """A host process, and all that it prints."""

    process: Process
    lines: list[str] = field(default_factory=list)
    url: str = ""

    async def printed(self, text: str, within: float = 60) -> None:
        """Waits for a line with the text."""
        async with asyncio.timeout(within):
            while not any(text in line for line in self.lines):  # noqa: ASYNC110 -- a list cannot tell
                await asyncio.sleep(0.02)


Start = Callable[..., Awaitable[Host]]


@pytest.fixture(scope="session")
async def queues(azurite: Azurite) -> AsyncIterator[Queues]:
    """Of the Azurite of all tests."""
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
        tell=lines.append,
    )
    host = Host(process, lines)
    if ready:
        (match,) = await process.ready([r"^host ready ?(\S*)"], within=90)
        host.url = match[1]
    return host


@pytest.fixture
async def start_host(queues: Queues) -> AsyncIterator[Start]:
    """Starts hosts; takes a prefix for the names of queues, arguments, and app settings."""
    started = []

    async def start(prefix: str, *arguments: str, **options: str) -> Host:
        options.setdefault("connection_string", queues.connection_string)
        host = await _start(options.pop("connection_string"), prefix, *arguments, **options)
        started.append(host)
        return host

    yield start
    for host in started:
        await host.process.stop()


@pytest.fixture(scope="session")
async def host(queues: Queues) -> AsyncIterator[Host]:
    """One host for all tests that need no special one; its queues' names start with `shared-`."""
    host = await _start(queues.connection_string, "shared-", "--port", "auto")
    yield host
    await host.process.stop()
