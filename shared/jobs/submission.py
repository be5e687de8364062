"""
Submits a job directly: its row first, then its message, so that a crash between the two loses nothing that was
accepted, and submitting it again doubles nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial

from shared.clock import now
from shared.contract.job import Job
from shared.jobs.fingerprint import fingerprint
from shared.jobs.ledger import Ledger
from shared.jobs.message import Delivery, starts_at
from shared.jobs.outputs import Outputs
from shared.jobs.queries import JobQueries
from shared.jobs.records import JobRecord
from shared.jobs.schedule import Schedule
from shared.lru import LRU
from shared.single_flight import SingleFlight
from shared.telemetry.base import SILENT, Telemetry

RESEND_S = 30.0
"""
As long after this worker has sent a job's message, it sends no other: the message is in the queue. Otherwise hundreds
of requests for one job would be hundreds of messages, each of which is claimed in vain and requeued.
"""
_MAX_SENT = 10_000

_Submitted = tuple[str, str, str]
"""A job, and when it was submitted."""


@dataclass(frozen=True, slots=True)
class Submissions:
    """Puts jobs on record and sends their messages. Every method raises JobConflict, StorageUnavailable."""

    ledger: Ledger
    queries: JobQueries
    schedule: Schedule
    outputs: Outputs
    telemetry: Telemetry = SILENT
    _sends: SingleFlight[_Submitted, None] = field(default_factory=SingleFlight)
    _sent: LRU[_Submitted, float] = field(default_factory=lambda: LRU(_MAX_SENT))
    """When this worker sent the messages of jobs, by `time.monotonic`."""

    async def submit(self, job: Job) -> JobRecord:
        """
        Return the record of the job, made now or before.

        An input that does not fit a message becomes a blob of the job's own. If the record exists and the job has not
        started, its message may never have been sent: it is sent again unless this worker has just sent it, and the
        ledger makes sure that the job runs once.
        """
        submitted_at, traceparent = now(), self.telemetry.job_submitted(job)
        record = await self.ledger.submit(job, fingerprint=fingerprint(job), submitted_at=submitted_at)
        if record.state == "queued":
            submitted = record.customer, record.job_id, record.submitted_at.isoformat()
            await self._sends.run(submitted, partial(self._send_once, submitted, job, record, traceparent))
        elif record.state == "cancelled":
            await self._send(job, record, traceparent)
        return record

    async def hold_back(self, job: Job, delivery: Delivery) -> bool:
        """Have a job from the queue wait if its `run_at` is to come. Return whether it waits."""
        if starts_at(job, delivery.submitted_at) <= now():
            return False
        record = await self.ledger.submit(job, fingerprint=fingerprint(job), submitted_at=delivery.submitted_at)
        if record.state != "queued":  # it was cancelled, so it ends at once
            return False
        await self._send(job, record, delivery.traceparent)
        return True

    async def find(self, job: Job) -> JobRecord | None:
        """Return the record of the job, if it exists."""
        return await self.queries.get_same(job.customer, job.id, fingerprint(job))

    async def _send_once(self, submitted: _Submitted, job: Job, record: JobRecord, traceparent: str | None) -> None:
        sent_at = self._sent.get(submitted)
        if sent_at is None or time.monotonic() - sent_at >= RESEND_S:
            await self._send(job, record, traceparent)
            self._sent.set(submitted, time.monotonic())

    async def _send(self, job: Job, record: JobRecord, traceparent: str | None) -> None:
        body = await self.outputs.message_of(
            job, submitted_at=record.submitted_at, traceparent=traceparent, generation=record.generation
        )
        # A cancelled job ends at once.
        due_at = starts_at(job, record.submitted_at) if record.state == "queued" else record.submitted_at
        await self.schedule.send_at(job.customer, job.id, body, due_at=due_at)
