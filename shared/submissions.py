"""
A job that is handed in directly: on record first, then in the queue, so that a crash between the two loses
nothing that was accepted, and handing it in again doubles nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec

from shared.clock import now
from shared.contract.job import PUT_BACK_ROOM, Job, encode_job, input_digest, request_hash
from shared.contract.result import MESSAGE_LIMIT
from shared.ledger import Ledger
from shared.outputs import Outputs
from shared.rows import JobRecord
from shared.settings import Settings
from shared.stores import Queues
from shared.telemetry import SILENT, Telemetry

_JSON = "application/json"


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
        moment, traceparent = now(), self.telemetry.submitted(job)
        job, blob = self._fitted(job, moment, traceparent)
        asked = request_hash(job)
        record = await self.ledger.submit(job, asked=asked, submitted_at=moment)
        if record.state not in {"queued", "cancelled"}:
            return record
        if blob is not None:
            await self.outputs.write(job, *blob, _JSON)
        body = encode_job(job, submitted_at=record.submitted_at, traceparent=traceparent)
        await self.queues.send(self.settings.jobs_queue, body)
        return record

    async def known(self, job: Job) -> JobRecord | None:
        """The record of the job, if there is one. Raises JobConflict where its id belongs to another."""
        return await self.ledger.find(job.customer, job.id, request_hash(job))

    def _fitted(self, job: Job, moment: datetime, traceparent: str | None) -> tuple[Job, tuple[str, bytes] | None]:
        size = len(encode_job(job, submitted_at=moment, traceparent=traceparent))
        if size <= MESSAGE_LIMIT - PUT_BACK_ROOM or not isinstance(job.input, msgspec.Raw):
            return job, None
        # As it was written; named after what it says, so that another input makes another name, and another request.
        place = f"{self.settings.results_container}/{job.customer}/{job.id}/input-{input_digest(job.input)}.json"
        _, name = place.rsplit("/", 1)
        return msgspec.structs.replace(job, input=msgspec.UNSET, input_blob=place), (name, bytes(job.input))
