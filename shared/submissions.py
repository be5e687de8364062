"""
A job that is handed in directly: on record first, then in the queue, so that a crash between the two loses
nothing that was accepted, and handing it in again doubles nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from shared.clock import now
from shared.contract.job import Job, encode_job, request_hash
from shared.contract.result import MESSAGE_LIMIT
from shared.ledger import Ledger
from shared.outputs import Outputs
from shared.rows import JobRecord
from shared.settings import Settings
from shared.stores import Queues

_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Submissions:
    """Puts jobs on record and into the jobs queue."""

    settings: Settings
    ledger: Ledger
    queues: Queues
    outputs: Outputs

    async def submit(self, job: Job) -> JobRecord:
        """
        The record of the job, which was made now or before.

        An input that does not fit a message becomes a blob of the job's own. Where the record is there and
        says that the job has not begun, its message may never have been sent: it is sent again, and the
        ledger sees to it that the job is run once. Raises JobConflict for an id that belongs to a job which
        asked for something else, StorageUnavailable.
        """
        moment = now()
        job, blob = self._fitted(job, moment)
        asked = request_hash(job)
        record = await self.ledger.submit(job, asked=asked, submitted_at=moment)
        if record.state != "queued":
            return record
        if blob is not None:
            await self.outputs.write(job, *blob, _JSON)
        await self.queues.send(self.settings.jobs_queue, encode_job(job, submitted_at=record.submitted_at))
        return record

    def _fitted(self, job: Job, moment: datetime) -> tuple[Job, tuple[str, bytes] | None]:
        if len(encode_job(job, submitted_at=moment)) <= MESSAGE_LIMIT or not isinstance(job.input, msgspec.Raw):
            return job, None
        # Named after what it holds: another input makes another name, and so another request.
        value: Any = msgspec.json.decode(job.input)
        data = msgspec.json.encode(value, order="sorted")
        name = f"input-{hashlib.sha256(data).hexdigest()[:32]}.json"
        place = f"{self.settings.results_container}/{job.customer}/{job.id}/{name}"
        return msgspec.structs.replace(job, input=msgspec.UNSET, input_blob=place), (name, data)
