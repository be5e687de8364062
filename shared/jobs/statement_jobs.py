"""
The jobs that close months: put into the queue by the timer and by the operator's command line, and by nobody else.

The job's row has a marker, written before the message is sent, and the message has the same one. A message without it
is refused, whoever sent it and whenever it comes: so neither a caller's job with such an id or action, nor a copy of
one that was read in the results queue, closes a month or stands in the way of one that does.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import Raw

from shared.billing.closed_records import ClosedRecords
from shared.billing.customer_records import CustomerRecords
from shared.clock import now
from shared.contract.closed_month import DocumentId, StatementInput
from shared.contract.job import MAX_DEADLINE_S, Options, Output
from shared.errors import InvalidJob, JobConflict
from shared.jobs.envelope import Envelope, QueuedJob, encode_queued_job
from shared.jobs.fingerprint import fingerprint
from shared.jobs.ledger import Ledger
from shared.jobs.outputs import Outputs
from shared.jobs.queries import JobQueries
from shared.jobs.records import JobRecord, job_key, may_continue, time_row
from shared.jobs.versions import check_version
from shared.storage.base import Queues, Table

ACTION: Literal["statement"] = "statement"
_ID_PREFIX = "statement-"
_OPTIONS = Options(deadline_s=float(MAX_DEADLINE_S))  # as it is read again, since the fingerprint has it
"""An app that was stopped over a weekend still closes the month."""

Submitted = Literal["queued", "running", "closed", "failed"]
"""
`queued`: its message was sent. `running`: it is under way already. `closed`: the document exists. `failed`: the job has
ended without a document, and was not started again.
"""


@dataclass(frozen=True, slots=True)
class StatementJobs:
    """Submits the jobs of all customers. Every method raises StorageUnavailable, NewerVersion."""

    table: Table
    ledger: Ledger
    queries: JobQueries
    outputs: Outputs
    queues: Queues
    jobs_queue: str
    customers: CustomerRecords

    async def submit(
        self, customer: str, document: DocumentId, *, again: bool = False, allow_unpriced: bool = False
    ) -> Submitted:
        """
        Have a month closed, or a closed one corrected, unless that was done.

        A job that was put on record and has not started is sent again: its message may never have been sent. With
        `again`, a job that ended without a document is started again, and the message of one that nobody runs is sent
        again.
        Raises JobConflict if the job's id belongs to another one's job.
        """
        if await ClosedRecords(self.table).read(customer, document) is not None:
            return "closed"
        job_id = job_id_of(document)
        record = await self.queries.get(customer, job_id)
        if record is not None:
            check_version(record.version, "job's row")
        if record is not None and record.state == "done" and record.marker:
            if not again:
                return "failed"
            await self._remove(record)
            record = None
        if record is None:
            record = await self._add(customer, document, allow_unpriced=allow_unpriced)
        if not record.marker:
            raise JobConflict(f"The id {job_id} belongs to a job of customer {customer} that does not close a month.")
        if record.state != "queued" and not (again and may_continue(record, now())):
            return "running"
        await self._send(record, document)
        return "queued"

    async def _add(self, customer: str, document: DocumentId, *, allow_unpriced: bool) -> JobRecord:
        callback = (await self.customers.read(customer)).profile.notify
        job = _job(customer, document, callback, allow_unpriced=allow_unpriced)
        try:
            self.outputs.check(job)
        except InvalidJob:  # the address is not allowed any more; the month is closed anyway
            job = _job(customer, document, None, allow_unpriced=allow_unpriced)
        marker = secrets.token_hex(16)
        return await self.ledger.submit(job, fingerprint=fingerprint(job), submitted_at=now(), marker=marker)

    async def _send(self, record: JobRecord, document: DocumentId) -> None:
        callback = record.callback_url or None
        jobs = (_job(record.customer, document, callback, allow_unpriced=allowed) for allowed in (False, True))
        job = next(job for job in jobs if fingerprint(job) == record.fingerprint)
        envelope = Envelope(submitted_at=record.submitted_at, marker=record.marker)
        job = msgspec.structs.replace(job, envelope=envelope)
        body = encode_queued_job(job, submitted_at=record.submitted_at, generation=record.generation)
        await self.queues.send(self.jobs_queue, body)

    async def _remove(self, record: JobRecord) -> None:
        """Delete the row of a job that has ended, in the version that was read, and its place in time."""
        row = await self.table.read(record.customer, job_key(record.job_id))
        if row is not None and row.values["state"] == "done":
            await self.table.delete([row, time_row(record.customer, record.job_id, row.values["submitted_at"])])


def job_id_of(document: DocumentId) -> str:
    """Return the id of the job that makes a document."""
    return f"{_ID_PREFIX}{document}"


def _job(customer: str, document: DocumentId, callback: str | None, *, allow_unpriced: bool) -> QueuedJob:
    statement = StatementInput(month=document.month, correction=document.correction, allow_unpriced=allow_unpriced)
    return QueuedJob(
        customer=customer,
        action=ACTION,
        job_id=job_id_of(document),
        input=Raw(msgspec.json.encode(statement)),
        output=Output(callback=callback),
        options=_OPTIONS,
    )
