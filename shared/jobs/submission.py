"""
A job that is handed in directly: on record first, then in the queue, so that a crash between the two loses
nothing that was accepted, and handing it in again doubles nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.clock import now
from shared.contract.job import Job, request_hash
from shared.jobs.ledger import Ledger
from shared.jobs.outputs import Outputs
from shared.jobs.records import JobRecord
from shared.settings import Settings
from shared.storage.base import Queues
from shared.telemetry.base import SILENT, Telemetry


@dataclass(frozen=True, slots=True)
class Submissions:
    """Puts jobs on record and into the jobs queue."""

    settings: Settings
    ledger: Ledger
    queues: Queues
    outputs: Outputs
    telemetry: Telemetry = SILENT

    async def submit(self, job: Job) -> JobRecord:
        """
        The record of the job, which was made now or before.

        An input that does not fit a message becomes a blob of the job's own. Where the record is there and
        says that the job has not begun, its message may never have been sent: it is sent again, and the
        ledger sees to it that the job is run once. Raises JobConflict for an id that belongs to a job which
        asked for something else, StorageUnavailable.
        """
        moment, traceparent = now(), self.telemetry.job_submitted(job)
        record = await self.ledger.submit(job, request_hash=request_hash(job), submitted_at=moment)
        if record.state not in {"queued", "cancelled"}:
            return record
        body = await self.outputs.message_of(job, submitted_at=record.submitted_at, traceparent=traceparent)
        await self.queues.send(self.settings.jobs_queue, body)
        return record

    async def known(self, job: Job) -> JobRecord | None:
        """The record of the job, if there is one. Raises JobConflict where its id belongs to another."""
        return await self.ledger.find(job.customer, job.id, request_hash(job))
