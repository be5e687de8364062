"""
One queue trigger: polls its queue, runs a job a message, and settles the message by how the job ended.

Plays QueueListener and QueueProcessor of Microsoft.Azure.WebJobs.Extensions.Storage.Queues (in
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
from local.host.message_encoding import NotDecodable, decode_text
from local.host.queues import send, storage_problem
from local.host.trigger_metadata import MessageFacts

_log = logging.getLogger("host.queues")

Run = Callable[[bytes, MessageFacts], Awaitable[bool]]


class QueueListener:
    """
    Listens to one queue. `poison` is None for a queue that is one itself: what fails there stays hidden
    until its visibility ends, and is tried again without end.
    """

    def __init__(
        self,
        queue: QueueClient,
        poison: QueueClient | None,
        settings: QueueSettings,
        *,
        run: Run,
        wrote: Callable[[QueueClient], None],
        invisible: int,
    ) -> None:
        self.woken = asyncio.Event()
        self._queue = queue
        self._poison = poison
        self._settings = settings
        self._run = run
        self._wrote = wrote
        self._invisible = invisible
        self._jobs: set[asyncio.Task[None]] = set()
        self._in_outage = False

    async def listen(self) -> None:
        """Polls until cancelled."""
        pause = Backoff(MIN_POLLING_INTERVAL, self._settings.max_polling_interval)
        while True:
            self.woken.clear()
            messages = await self._fetch()
            for message in messages:
                job = asyncio.create_task(self._process(message))
                self._jobs.add(job)
                job.add_done_callback(self._jobs.discard)
            if messages:
                pause.reset()
                while len(self._jobs) > self._settings.new_batch_threshold:
                    await asyncio.wait(self._jobs, return_when=asyncio.FIRST_COMPLETED)
            else:
                await _wait(self.woken, pause.next())

    async def _fetch(self) -> list[QueueMessage]:
        try:
            pages = self._queue.receive_messages(
                messages_per_page=self._settings.batch_size,
                visibility_timeout=self._invisible,
                retry_total=0,  # this loop tries again
            ).by_page()
            page = await anext(pages, None)
            messages = [message async for message in page] if page is not None else []
        except ResourceNotFoundError:
            return []  # as Azure's host does: no queue is no message, and whoever sends makes the queue
        except AzureError as exc:
            if not self._in_outage:
                name = self._queue.queue_name
                _log.warning("Queue %s cannot be read (%s); trying on.", name, storage_problem(exc))
            self._in_outage = True
            return []
        if self._in_outage:
            _log.warning("Queue %s can be read again.", self._queue.queue_name)
        self._in_outage = False
        return messages

    async def _process(self, message: QueueMessage) -> None:
        try:
            await self._settle(message)
        except AzureError as exc:
            # In Azure this is an unhandled exception of the host. The message comes back either way.
            _log.warning(
                "Message %s of queue %s could not be settled (%s); it comes back within %d s.",
                message.id,
                self._queue.queue_name,
                storage_problem(exc),
                self._invisible,
            )

    async def _settle(self, message: QueueMessage) -> None:
        try:
            body = decode_text(message.content or "", self._settings.message_encoding)
        except NotDecodable:
            await self._bury(message, "is not base64")
            return
        most = self._settings.max_dequeue_count
        count = message.dequeue_count or 0
        if count > most:
            await self._bury(message, f"was fetched more than {most} times")
            return
        ended = asyncio.Event()
        renewal = asyncio.create_task(self._renew(message, ended))
        try:
            ok = await self._run(body, _read_facts(message))
        finally:
            # Asked to end and not cancelled: a renewal in flight changes the pop receipt.
            ended.set()
            await renewal
        if ok:
            await self._delete(message)
        elif self._poison is None:
            pass
        elif count >= most:
            await self._bury(message, f"failed {most} times")
        else:
            await self._hide(message, self._settings.visibility_timeout)

    async def _renew(self, message: QueueMessage, ended: asyncio.Event) -> None:
        pause = self._invisible / 2
        while not await _wait(ended, pause):
            try:
                if not await self._hide(message, self._invisible):
                    return  # someone else has it
                pause = self._invisible / 2
            except AzureError as exc:
                pause = max(pause / 2, 0.5)
                _log.warning("Message %s could not be renewed (%s).", message.id, storage_problem(exc))

    async def _bury(self, message: QueueMessage, why: str) -> None:
        if self._poison is None:
            _log.warning(
                "Message %s of queue %s %s, and a poison queue has no poison queue: it is left to come back.",
                message.id,
                self._queue.queue_name,
                why,
            )
            return
        _log.warning("Message %s %s. Moving it to queue '%s'.", message.id, why, self._poison.queue_name)
        await send(self._poison, message.content or "")
        self._wrote(self._poison)
        await self._delete(message)

    async def _hide(self, message: QueueMessage, seconds: float) -> bool:
        """Hides the message for so long from now; False if it is no longer ours."""
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


def _read_facts(message: QueueMessage) -> MessageFacts:
    return MessageFacts(
        id=message.id,
        dequeue_count=message.dequeue_count or 0,
        pop_receipt=message.pop_receipt or "",
        inserted_at=message.inserted_on or datetime.now(UTC),
        expires_at=message.expires_on,
        next_visible_at=message.next_visible_on,
    )


class Backoff:
    """The pauses of an idle queue: doubling from the least to the most, a fifth of it by chance."""

    def __init__(self, least: float, most: float) -> None:
        self._least = least
        self._most = most
        self.reset()

    def reset(self) -> None:
        """Something was found: the next pause is the least."""
        self._step = 0
        self._last = 0.0

    def next(self) -> float:
        """The next pause, in seconds."""
        if self._last < self._most:
            grown = self._least * 2 ** (self._step - 1) if self._step else 0
            self._last = min(self._least + grown * random.uniform(0.8, 1.2), self._most)  # noqa: S311
            self._step += 1
        return self._last


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event happened within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def _is_lost(exc: HttpResponseError) -> bool:
    """Whether someone else fetched the message since, or it is gone."""
    return isinstance(exc, ResourceNotFoundError) or storage_problem(exc) == "PopReceiptMismatch"
