"""
Callbacks: results posted to the address that a job has named, signed, and again until somebody takes them.

Every try is a message of its own in the callbacks queue, hidden for as long as the try has to wait. What has
become of it stands in the job's row, which is done by then and has no claim any more.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import msgspec

from shared.clock import now, rfc3339
from shared.contract.callback import CallbackMessage, decode_callback, encode_callback
from shared.errors import ConnectionInvalid, RetryLater, StorageUnavailable, UpstreamError
from shared.event_names import (
    CALLBACK_DELIVERED,
    CALLBACK_DROPPED,
    CALLBACK_FAILED,
    CALLBACK_NOT_RECORDED,
    CALLBACK_UNREADABLE,
    CALLBACK_WAITING,
)
from shared.jobs.queries import Records
from shared.jobs.records import JobRecord, job_key
from shared.settings import Settings
from shared.storage.base import Queues, Row, RowChanged, Table
from shared.upstream.client import Transport
from shared.webhooks.signing import NoSigningSecret, Signing

WAITS_S = (5.0, 5 * 60.0, 30 * 60.0, 2 * 3600.0, 5 * 3600.0, 10 * 3600.0)
"""Seconds from one try to the next, at least: the beginning of the specification's own example."""
LONGEST_WAIT_S = 24 * 3600.0
"""The longest that a receiver may ask for."""
GIVE_UP = timedelta(days=7)
"""When a callback ends whatever it waits for: longer than all its tries take."""
TIMEOUT_S = 15.0
"""Of one try; the specification names 15 to 30 seconds."""
AT_ONCE = 8
"""Callbacks of a customer that a worker makes at once: a receiver that hangs must not hold up the others'."""
_BUSY_S = 20.0
_GONE = 410
_WAITABLE = (429, 503)
_CHANGES = 5
_ERROR_LIMIT = 500

_EVENTS = {"waiting": CALLBACK_WAITING, "delivered": CALLBACK_DELIVERED, "failed": CALLBACK_FAILED}

log = logging.getLogger("customer_ai_jobs")


class _Busy(RetryLater):
    """The customer has enough callbacks under way on this worker."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a try has come to; `waiting` is to be tried again, after `wait_s` at least."""

    status: Literal["waiting", "delivered", "failed"]
    error: str = ""
    last_status: int = 0
    wait_s: float = 0


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Makes callbacks."""

    settings: Settings
    table: Table
    queues: Queues
    signing: Signing
    transport: Transport
    _under_way: Counter[str] = field(default_factory=Counter)

    async def deliver(self, body: bytes) -> None:
        """
        One try of the callback in this message of the callbacks queue; the next one is sent off, where there is one.

        Raises StorageUnavailable where nothing could be done; the host then delivers the message again.
        """
        message = decode_callback(body)
        if message is None:
            log.error("%s bytes=%d", CALLBACK_UNREADABLE, len(body))
            return
        try:
            if self._under_way[message.customer] >= AT_ONCE:
                raise _Busy("The customer has enough callbacks under way.", _BUSY_S)
            self._under_way[message.customer] += 1
            try:
                await self._deliver(message)
            finally:
                self._under_way[message.customer] -= 1
                if not self._under_way[message.customer]:
                    del self._under_way[message.customer]
        except RetryLater as moment:  # that was no try: the same message, later
            await self._put(self.settings.callbacks_queue, message, moment.delay_s)

    async def bury(self, body: bytes) -> None:
        """Ends a callback that the host has given up: the worker died at each of its tries. Raises as `deliver`."""
        message = decode_callback(body)
        if message is None:
            log.error("%s bytes=%d", CALLBACK_UNREADABLE, len(body))
            return
        try:
            record = await self._look(message)
            if record is not None:
                error = "The callback was given up: the worker that made it died each time."
                await self._record(message, _Outcome("failed", error, record.callback_last_status))
        except RetryLater as moment:
            await self._put(self.settings.callbacks_poison_queue, message, moment.delay_s)

    async def _deliver(self, message: CallbackMessage) -> None:
        record = await self._look(message)
        if record is None:
            return
        if now() - message.first_at > GIVE_UP:
            error = f"Given up after {GIVE_UP.days} days. {record.callback_error}".rstrip()
            await self._record(message, _Outcome("failed", error, record.callback_last_status))
            return
        outcome = await self._try(message, record)
        if outcome.status != "waiting":
            await self._record(message, outcome)
            return
        # First the next try, then the record of this one: a death in between makes a try too many, none too few.
        following = msgspec.structs.replace(message, attempt=message.attempt + 1)
        await self._put(self.settings.callbacks_queue, following, outcome.wait_s)
        try:
            await self._record(message, outcome)
        except StorageUnavailable as exc:
            log.warning("%s %s: %s", CALLBACK_NOT_RECORDED, _named(message), exc)  # the next try will be

    async def _look(self, message: CallbackMessage) -> JobRecord | None:
        """The job's record, or None where this try is nobody's any more. Raises StorageUnavailable."""
        record = await Records(self.table).look(message.customer, message.job_id)
        if record is not None and record.told is not None and _is_due(message, record):
            return record
        log.info("%s %s", CALLBACK_DROPPED, _named(message))
        return None

    async def _try(self, message: CallbackMessage, record: JobRecord) -> _Outcome:
        told = record.told or b""
        try:
            signed = await self.signing.sign(message.customer, message_id(record), told)
            headers = {"content-type": "application/json", **signed}
            receipt = await self.transport.post(message.url, told, headers, timeout_s=TIMEOUT_S)
        except (NoSigningSecret, ConnectionInvalid) as exc:
            return _Outcome("failed", str(exc))
        except UpstreamError as exc:
            return _again(message, _Outcome("waiting", str(exc)))
        status = receipt.status
        if 200 <= status < 300:  # noqa: PLR2004
            return _Outcome("delivered", "", status)
        if status == _GONE:
            return _Outcome("failed", "The receiver wants no more of it (410).", status)
        wait_s = (receipt.retry_after_s or 0) if status in _WAITABLE else 0
        said = f"a redirect ({status}), which is not followed" if 300 <= status < 400 else f"{status}"  # noqa: PLR2004
        return _again(message, _Outcome("waiting", f"The receiver answered {said}.", status, wait_s))

    async def _record(self, message: CallbackMessage, outcome: _Outcome) -> None:
        values = {
            "callback_status": outcome.status,
            "callback_attempts": message.attempt + 1,
            "callback_last_status": outcome.last_status,
            "callback_error": outcome.error[:_ERROR_LIMIT],
        }
        for _ in range(_CHANGES):
            row = await self.table.read(message.customer, job_key(message.job_id))
            if row is None:
                break
            try:
                await self.table.merge(Row(row.partition, row.key, values, row.etag))
            except RowChanged:
                continue
            break
        level = logging.WARNING if outcome.status == "failed" else logging.INFO
        log.log(
            level,
            "%s %s attempt=%d http_status=%s error=%s",
            _EVENTS[outcome.status],
            _named(message),
            message.attempt + 1,
            outcome.last_status or "-",
            outcome.error or "-",
        )

    async def _put(self, queue: str, message: CallbackMessage, delay_s: float) -> None:
        delay_s *= random.uniform(1, 1.1)  # noqa: S311  # so that many do not come back at once
        await self.queues.send(queue, encode_callback(message), delay_s=delay_s)


def message_id(record: JobRecord) -> str:
    """
    The `webhook-id` of a job's callback: the same at each try, another for each customer's job.

    Not the job's id: that may bear full stops, and a receiver may serve several customers, who may use the same.
    """
    named = f"{record.customer}/{record.job_id}/{rfc3339(record.submitted_at)}"
    return f"msg_{hashlib.sha256(named.encode()).hexdigest()[:32]}"


def _is_due(message: CallbackMessage, record: JobRecord) -> bool:
    """Whether this try is to be made: it may have been made before, or be of a job that was told again."""
    if record.callback_status == "delivered" or record.callback_last_status == _GONE:
        return False
    if record.callback_status == "failed":
        return message.attempt == 0  # told again: from the beginning
    return message.attempt >= record.callback_attempts


def _again(message: CallbackMessage, outcome: _Outcome) -> _Outcome:
    if message.attempt >= len(WAITS_S):
        return _Outcome("failed", f"Given up after {message.attempt + 1} tries. {outcome.error}", outcome.last_status)
    wait_s = max(WAITS_S[message.attempt], min(outcome.wait_s, LONGEST_WAIT_S))
    return _Outcome("waiting", outcome.error, outcome.last_status, wait_s)


def _named(message: CallbackMessage) -> str:
    return f"customer={message.customer} job_id={message.job_id}"
