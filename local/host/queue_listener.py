"""
One queue trigger: polls its queue, runs a job for each message, and settles the message by how the job ended.

Reproduces QueueListener and QueueProcessor of Microsoft.Azure.WebJobs.Extensions.Storage.Queues (in
azure-sdk-for-net). Knows nothing of the worker: `run` runs the job.
"""

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.storage.queue import QueueMessage
from azure.storage.queue.aio import QueueClient

from local.host.host_json import MIN_POLLING_INTERVAL, QueueSettings
from local.host.message_encoding import NotBase64, decode_text
from local.host.queues import send, storage_problem
from local.host.trigger_metadata import MessageProperties

_log = logging.getLogger("host.queues")

Run = Callable[[bytes, MessageProperties], Awaitable[bool]]


class QueueListener:
    """
    Listens to one queue. `run` returns whether the job succeeded; `on_sent` is called with a queue that a message was
    sent to; `visibility_timeout` is in seconds. `poison` is None for a poison queue: its failed messages stay
    invisible until their visibility timeout ends, and are then tried again, without limit.
    """

    def __init__(
        self,
        queue: QueueClient,
        poison: QueueClient | None,
        settings: QueueSettings,
        *,
        run: Run,
        on_sent: Callable[[QueueClient], None],
        visibility_timeout: int,
    ) -> None:
        self.wake_up = asyncio.Event()
        self._queue = queue
        self._poison = poison
        self._settings = settings
        self._run = run
        self._on_sent = on_sent
        self._visibility_timeout = visibility_timeout
        self._jobs: set[asyncio.Task[None]] = set()
        self._in_outage = False
        self._stopping = False

    def stop(self) -> None:
        """Fetch nothing more."""
        self._stopping = True
        self.wake_up.set()

    async def listen(self) -> None:
        """Poll until stopped, and then until all that was fetched is settled."""
        backoff = Backoff(MIN_POLLING_INTERVAL, self._settings.max_polling_interval)
        while not self._stopping:
            self.wake_up.clear()
            messages = await self._receive()
            for message in messages:
                job = asyncio.create_task(self._process(message))
                self._jobs.add(job)
                job.add_done_callback(self._jobs.discard)
            if messages:
                backoff.reset()
                while len(self._jobs) > self._settings.new_batch_threshold:
                    await asyncio.wait(self._jobs, return_when=asyncio.FIRST_COMPLETED)
            else:
                await _wait(self.wake_up, backoff.next())
        if self._jobs:
            await asyncio.wait(self._jobs)

    async def _receive(self) -> list[QueueMessage]:
        try:
            pages = self._queue.receive_messages(
                messages_per_page=self._settings.batch_size,
                visibility_timeout=self._visibility_timeout,
                retry_total=0,  # `listen` polls again
            ).by_page()
            page = await anext(pages, None)
            messages = [message async for message in page] if page is not None else []
        except ResourceNotFoundError:
            return []  # as in Azure's host: a missing queue has no messages, and the first sender creates it
        except AzureError as exc:
            if not self._in_outage:
                name = self._queue.queue_name
                _log.warning("Queue %s can't be read (%s). The host continues to poll it.", name, storage_problem(exc))
            self._in_outage = True
            return []
        if self._in_outage:
            _log.warning("Queue %s can be read again.", self._queue.queue_name)
        self._in_outage = False
        return messages

    async def _process(self, message: QueueMessage) -> None:
        try:
            await self._handle(message)
        except AzureError as exc:
            # In Azure this is an unhandled exception of the host. The message becomes visible again either way.
            _log.warning(
                "Message %s of queue %s could not be settled (%s). It is visible again within %d s.",
                message.id,
                self._queue.queue_name,
                storage_problem(exc),
                self._visibility_timeout,
            )

    async def _handle(self, message: QueueMessage) -> None:
        try:
            body = decode_text(message.content or "", self._settings.message_encoding)
        except NotBase64:
            await self._move_to_poison(message, "is not base64")
            return
        limit = self._settings.max_dequeue_count
        count = message.dequeue_count or 0
        if count > limit:
            await self._move_to_poison(message, f"was received more than {limit} times")
            return
        ended = asyncio.Event()
        renewal = asyncio.create_task(self._renew(message, ended))
        try:
            ok = await self._run(body, _properties(message))
        finally:
            # Stopped and not cancelled: a renewal in flight changes the pop receipt.
            ended.set()
            await renewal
        if ok:
            await self._delete(message)
        elif self._poison is None:
            pass
        elif count >= limit:
            await self._move_to_poison(message, f"failed {limit} times")
        else:
            await self._set_visibility_timeout(message, self._settings.visibility_timeout)

    async def _renew(self, message: QueueMessage, ended: asyncio.Event) -> None:
        pause = self._visibility_timeout / 2
        while not await _wait(ended, pause):
            try:
                if not await self._set_visibility_timeout(message, self._visibility_timeout):
                    return  # another host has received it
                pause = self._visibility_timeout / 2
            except AzureError as exc:
                pause = max(pause / 2, 0.5)
                _log.warning("Message %s could not be renewed (%s).", message.id, storage_problem(exc))

    async def _move_to_poison(self, message: QueueMessage, reason: str) -> None:
        if self._poison is None:
            _log.warning(
                "Message %s of queue %s %s. A poison queue has no poison queue, so the message stays in it.",
                message.id,
                self._queue.queue_name,
                reason,
            )
            return
        _log.warning("Message %s %s. Moving it to queue '%s'.", message.id, reason, self._poison.queue_name)
        await send(self._poison, message.content or "")
        self._on_sent(self._poison)
        await self._delete(message)

    async def _set_visibility_timeout(self, message: QueueMessage, seconds: float) -> bool:
        """Make the message invisible for `seconds` from now. Returns False if another host has received it."""
        try:
            updated = await self._queue.update_message(
                message.id, message.pop_receipt, visibility_timeout=math.floor(seconds)
            )
        except HttpResponseError as exc:
            if _is_lost(exc):
                return False
            raise
        message.pop_receipt = updated.pop_receipt
        return True

    async def _delete(self, message: QueueMessage) -> None:
        try:
            await self._queue.delete_message(message.id, message.pop_receipt)
        except HttpResponseError as exc:
            if not _is_lost(exc):
                raise


def _properties(message: QueueMessage) -> MessageProperties:
    return MessageProperties(
        id=message.id,
        dequeue_count=message.dequeue_count or 0,
        pop_receipt=message.pop_receipt or "",
        inserted_at=message.inserted_on or datetime.now(UTC),
        expires_at=message.expires_on,
        next_visible_at=message.next_visible_on,
    )


class Backoff:
    """The pauses between polls of an empty queue, in seconds: doubling from minimum to maximum, with 20 % jitter."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self.reset()

    def reset(self) -> None:
        """Restart from the minimum, because there were messages."""
        self._step = 0
        self._last = 0.0

    def next(self) -> float:
        """The next pause, in seconds."""
        if self._last < self._maximum:
            growth = self._minimum * 2 ** (self._step - 1) if self._step else 0
            self._last = min(self._minimum + growth * random.uniform(0.8, 1.2), self._maximum)  # noqa: S311
            self._step += 1
        return self._last


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event was set within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def _is_lost(exc: HttpResponseError) -> bool:
    """Whether another host has received or deleted the message."""
    return isinstance(exc, ResourceNotFoundError) or storage_problem(exc) == "PopReceiptMismatch"
