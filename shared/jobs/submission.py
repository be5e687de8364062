"""
Submits a job directly: its row first, then its message, so that a crash between the two loses nothing that was
accepted, and submitting it again doubles nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.clock import now
from shared.contract.job import Job
from shared.jobs.fingerprint import fingerprint
from shared.jobs.ledger import Ledger
from shared.jobs.outputs import Outputs
from shared.jobs.queries import JobQueries
from shared.jobs.records import JobRecord
from shared.settings import Settings
from shared.storage.base import Queues
from shared.telemetry.base import SILENT, Telemetry


@dataclass(frozen=True, slots=True)
class Submissions:
    """Puts jobs on record and sends their messages. Every method raises JobConflict, StorageUnavailable."""

    settings: Settings
    ledger: Ledger
    queries: JobQueries
    queues: Queues
    outputs: Outputs
    telemetry: Telemetry = SILENT

    async def submit(self, job: Job) -> JobRecord:
        """
        Return the record of the job, made now or before.

        An input that does not fit a message becomes a blob of the job's own. If the record exists and the job has not
        started, its message may never have been sent: it is sent again, and the ledger makes sure that the job runs
        once.
        """
        submitted_at, traceparent = now(), self.telemetry.job_submitted(job)
        record = await self.ledger.submit(job, fingerprint=fingerprint(job), submitted_at=submitted_at)
        if record.state not in {"queued", "cancelled"}:
            return record
        body = await self.outputs.message_of(job, submitted_at=record.submitted_at, traceparent=traceparent)
        await self.queues.send(self.settings.jobs_queue, body)
        return record

    async def find(self, job: Job) -> JobRecord | None:
        """Return the record of the job, if it exists."""
        return await self.queries.get_same(job.customer, job.id, fingerprint(job))
