"""
The message of a job in the jobs queue: the job, and beside its members an envelope of the app's own.

The envelope is not part of the public contract: a job over HTTP, by webhook or from a file can't have one.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from shared.clock import rfc3339
from shared.contract.job import Job, check_run_at, decode_job_as, explicit_members

_CLOCK_SKEW = timedelta(days=1)


class Envelope(Struct, frozen=True, kw_only=True):
    """What the app writes beside a job that it sends to the queue, because a message doesn't keep it."""

    submitted_at: Annotated[datetime, Meta(tz=True)]
    """When the job was first submitted."""
    traceparent: Annotated[str, Meta(max_length=55)] | None = None
    """The trace that the job belongs to (w3.org/TR/trace-context), if telemetry is on. An invalid one is ignored."""


class QueuedJob(Job, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A job with its envelope, if the app has sent it to the queue."""

    envelope: Envelope | None = msgspec.field(default=None, name="_envelope")


def decode_queued_job(body: bytes, *, default_id: str) -> QueuedJob:
    """Return the job in a message. Raises InvalidJob with the path of the member at fault."""
    job = decode_job_as(QueuedJob, body, default_id=default_id)
    if job.options.run_at is not None:
        # What a worker has accepted is not refused by another one, whose clock may be slower.
        check_run_at(job, skew=_CLOCK_SKEW if job.envelope else timedelta())
    return job


def encode_queued_job(job: Job, *, submitted_at: datetime, traceparent: str | None = None) -> bytes:
    """Return the job's message, with its id, the time when it was first submitted, and its trace."""
    envelope = {"submitted_at": rfc3339(submitted_at), **({"traceparent": traceparent} if traceparent else {})}
    return msgspec.json.encode({**explicit_members(job), "_envelope": envelope})
