"""
The message of a job in the jobs queue: the job, and beside its members an envelope of the app's own.

The envelope is not part of the public contract: a job over HTTP, by webhook or from a file can't have one.
"""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from shared.actions.base import WITHOUT_CONNECTION
from shared.clock import rfc3339
from shared.contract.job import AnyAction, Job, check_run_at, decode_job_as, explicit_members
from shared.contract.names import is_reserved_id
from shared.errors import InvalidJob
from shared.jobs.versions import VERSION, Version, check_message_version

if TYPE_CHECKING:
    from shared.jobs.base import JobServices

_CLOCK_SKEW = timedelta(days=1)


class Envelope(Struct, frozen=True, kw_only=True):
    """What the app writes beside a job that it sends to the queue, because a message doesn't keep it."""

    submitted_at: Annotated[datetime, Meta(tz=True)]
    """When the job was first submitted."""
    traceparent: Annotated[str, Meta(max_length=55)] | None = None
    """The trace that the job belongs to (w3.org/TR/trace-context), if telemetry is on. An invalid one is ignored."""
    marker: Annotated[str, Meta(max_length=64)] | None = None
    """What the row of a job has that only the app itself sends (see `jobs.statement_jobs`)."""
    generation: Annotated[int, Meta(ge=0)] = 0
    """How often a worker that stopped has sent the job again (see `lease.check_claim`)."""
    version: Version = 0
    """Of the worker that sent it (see `jobs.versions`)."""


class QueuedJob(Job, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job with its envelope, if the app has sent it to the queue."""

    action: AnyAction  # type: ignore[assignment]
    """Also what only the app itself sends."""
    envelope: Envelope | None = msgspec.field(default=None, name="_envelope")


def decode_queued_job(body: bytes, *, default_id: str) -> QueuedJob:
    """
    Return the job in a message. Raises InvalidJob with the path of the member at fault, NewerVersion if a later version
    of the app sent it.
    """
    try:
        job = decode_job_as(QueuedJob, body, default_id=default_id)
    except InvalidJob:
        check_message_version(body)
        raise
    if job.envelope is not None and job.envelope.version > VERSION:
        check_message_version(body)
    if job.options.run_at is not None:
        # What a worker has accepted is not refused by another one, whose clock may be slower.
        check_run_at(job, skew=_CLOCK_SKEW if job.envelope else timedelta())
    return job


def encode_queued_job(job: Job, *, submitted_at: datetime, traceparent: str | None = None, generation: int) -> bytes:
    """Return the job's message, with its id, and the envelope: the marker is that of the job's own."""
    marker = job.envelope.marker if isinstance(job, QueuedJob) and job.envelope is not None else None
    optional = {"traceparent": traceparent, "marker": marker, "generation": generation}
    envelope = {"submitted_at": rfc3339(submitted_at), "version": VERSION}
    envelope |= {name: value for name, value in optional.items() if value}
    return msgspec.json.encode({**explicit_members(job), "_envelope": envelope})


async def check_marker(job: QueuedJob, services: JobServices) -> None:
    """
    Raise InvalidJob for a message that closes a month, or has such an id, and that the app has not sent itself.

    Raises StorageUnavailable.
    """
    is_suspect = job.action in WITHOUT_CONNECTION or (job.id.startswith("statement") and is_reserved_id(job.id))
    if not is_suspect:
        return
    record = await services.queries.get(job.customer, job.id)
    marker = (job.envelope.marker if job.envelope else None) or ""
    if record is None or not record.marker or not hmac.compare_digest(record.marker.encode(), marker.encode()):
        raise InvalidJob(
            "Months are closed by the app itself and by `aijobs close-month`: the action `statement` and the ids "
            "`statements` and `statement-…` are not for callers."
        )
