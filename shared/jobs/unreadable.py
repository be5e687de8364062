"""Messages that this worker can't read: what a later version of the app has sent, or has begun, is left to it."""

from __future__ import annotations

import logging

import msgspec
from msgspec import Raw

from shared.contract.job import salvage
from shared.errors import InvalidJob, RetryLater
from shared.event_names import JOB_REQUEUED, NAMESPACE
from shared.jobs.base import JobServices
from shared.jobs.crash_log import log_text
from shared.jobs.message import Delivery, log_name
from shared.jobs.versions import check_version

log = logging.getLogger(NAMESPACE)


async def is_left(exc: Exception, delivery: Delivery, queue: str, services: JobServices) -> bool:
    """Return whether a message that can't be read because of `exc` was sent again, as it is, for a later version."""
    body, reason = delivery.body, exc
    if isinstance(exc, InvalidJob):
        members = salvage(body)
        reason = await _reason_to_wait(members, delivery, services) or exc
        if isinstance(reason, RetryLater) and "job_id" not in members:  # it is known by the id of this message
            own_id = Raw(msgspec.json.encode(delivery.message_id))
            body = msgspec.json.encode({**msgspec.json.decode(body, type=dict[str, Raw]), "job_id": own_id})
    if not isinstance(reason, RetryLater):
        return False
    await services.queues.send(queue, body, delay_s=reason.delay_s)
    words = type(reason).__name__, log_text(reason)
    log.warning("%s customer=- %s delay_s=%.1f %s: %s", JOB_REQUEUED, log_name(None, delivery), reason.delay_s, *words)
    return True


async def _reason_to_wait(members: dict[str, str], delivery: Delivery, services: JobServices) -> RetryLater | None:
    """A sender's message says no version, but the row of a job that was begun does."""
    if "customer" not in members:
        return None
    try:
        record = await services.queries.get(members["customer"], members.get("job_id", delivery.message_id))
        if record is not None:
            check_version(record.version, "job's row")
    except RetryLater as exc:
        return exc
    return None
