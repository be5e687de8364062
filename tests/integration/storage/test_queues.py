"""One contract for the queues in memory and those on Azurite."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from typing import Any

import pytest
from azure.storage.queue.aio import QueueClient

from shared.contract.result import MESSAGE_LIMIT
from shared.errors import StorageUnavailable
from shared.storage.base import MAX_HIDDEN_S, Queues
from shared.storage.queues import AzureQueues
from tests.support.fakes import MemoryQueues
from tests.support.faulty_tables import account_of
from tests.support.harness import Harness
from tests.support.storage_pools import ClosedPool, RecordingPool


@pytest.fixture(params=["memory", "azure", "azure by the SDK"])
def queues(request: pytest.FixtureRequest, harness: Harness) -> Queues:
    """Queues in memory, and on Azurite."""
    return MemoryQueues() if request.param == "memory" else AzureQueues(account_of(harness, request.param))


@pytest.fixture
async def queue(harness: Harness) -> str:
    """A new queue."""
    name = f"q-{uuid.uuid4().hex}"
    await harness.queues.create_queue(name)
    return name


async def received(queues: Queues, harness: Harness, queue: str) -> list[bytes]:
    """The messages that can be received now."""
    if isinstance(queues, MemoryQueues):
        return [body for body, delay_s in queues.sent[queue] if not delay_s]
    return await harness.messages(queue)


async def test_the_error_for_a_missing_queue_names_it(harness: Harness) -> None:
    """A failed send has the queue, the operation and Storage's error code."""
    with pytest.raises(StorageUnavailable, match="queue never-made: send: 404 QueueNotFound"):
        await AzureQueues(account_of(harness)).send("never-made", b"x")


@pytest.mark.parametrize(
    "body",
    [b"{}", bytes(range(256)), "Grüße 🙂 <&>".encode(), b"x" * MESSAGE_LIMIT],
    ids=["small", "bytes", "unicode", "largest"],
)
async def test_a_message_is_received_as_it_was_sent(queues: Queues, harness: Harness, body: bytes, queue: str) -> None:
    """The receiver gets exactly the bytes, up to the maximum size of a message."""
    await queues.send(queue, body)

    assert [body] == await received(queues, harness, queue)


@pytest.mark.parametrize("delay_s", [0.2, 60, MAX_HIDDEN_S])
async def test_a_delayed_message_is_hidden(queues: Queues, harness: Harness, delay_s: float, queue: str) -> None:
    """A message with a delay is in the queue, but hidden."""
    began = time.monotonic()
    await queues.send(queue, b"later", delay_s=delay_s)
    messages = await received(queues, harness, queue)

    assert [] == messages or time.monotonic() - began > 1 > delay_s  # whoever looks so late may find it
    if isinstance(queues, AzureQueues) and not messages:
        properties = await harness.queues.get_queue_client(queue).get_queue_properties()
        assert 1 == properties.approximate_message_count


async def test_no_message_is_hidden_for_longer(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for more gets two minutes, sent directly or by the SDK: the host scales by hidden messages, too."""
    hidden_s: list[float] = []

    async def send_message(_: QueueClient, *__: Any, visibility_timeout: float, **___: Any) -> None:
        hidden_s.append(visibility_timeout)

    monkeypatch.setattr(QueueClient, "send_message", send_message)
    delays_s = (119.5, MAX_HIDDEN_S, 121, 7 * 24 * 3600, 1e308, float("inf"))
    direct, none = RecordingPool(201), ClosedPool()
    for pool in (direct, none):
        queues = AzureQueues(replace(account_of(harness), pool=pool))
        for delay_s in delays_s:
            await queues.send("any", b"later", delay_s=delay_s)

    assert [MAX_HIDDEN_S] * len(delays_s) == hidden_s
    assert [b"?visibilitytimeout=120&messagettl=-1 "] * len(delays_s) == [
        request[request.index(b"?") : request.index(b" HTTP")] + b" " for request in direct.requests
    ]


async def test_a_delayed_message_becomes_visible(harness: Harness, queue: str) -> None:
    """After its delay, rounded up to seconds, the message can be received."""
    await AzureQueues(account_of(harness)).send(queue, b"later", delay_s=0.5)

    await asyncio.sleep(1.1)

    assert [b"later"] == await harness.messages(queue)
