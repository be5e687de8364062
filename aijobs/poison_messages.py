"""The messages in the poison queues: what is in each, why it is there, and how it is put back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from aijobs.diagnostics import CommandError, Exists
from aijobs.queues import Message
from shared.batches.queries import BatchQueries
from shared.batches.records import BatchRecord
from shared.clock import rfc3339
from shared.contract.callback import CallbackMessage, decode_callback
from shared.errors import AlreadyRunning, InvalidJob
from shared.jobs.batch_message import BatchMessage, decode_batch_message
from shared.jobs.envelope import QueuedJob, decode_queued_job
from shared.jobs.fingerprint import fingerprint
from shared.jobs.records import JobRecord
from shared.services import Services

Kind = Literal["job", "callback", "batch", "unreadable"]


@dataclass(frozen=True, slots=True)
class PoisonedMessage:
    """A message of a poison queue, with what it is about as far as that exists. `reason` says why it is there."""

    queue: str
    message: Message
    reason: str
    job: QueuedJob | None = None
    callback: CallbackMessage | None = None
    batch: BatchMessage | None = None
    record: JobRecord | BatchRecord | None = None

    @property
    def kind(self) -> Kind:
        """What the message is: `unreadable` is neither a job, a callback nor a batch."""
        kinds: dict[Kind, object] = {"job": self.job, "callback": self.callback, "batch": self.batch}
        return next((kind for kind, content in kinds.items() if content is not None), "unreadable")

    @property
    def customer(self) -> str | None:
        """The customer whom the message is about."""
        content = self.job or self.callback or self.batch
        return None if content is None else content.customer

    @property
    def job_id(self) -> str | None:
        """The job that the message is about."""
        return self.callback.job_id if self.callback is not None else None if self.job is None else self.job.id

    def document(self) -> dict[str, object]:
        """Return the message for programs."""
        status: str | None = None if self.record is None else self.record.state
        if isinstance(self.record, JobRecord) and self.callback is not None:
            status = self.record.callback_status
        members = {
            "message": self.message.id,
            "queue": self.queue,
            "kind": self.kind,
            "inserted_at": rfc3339(self.message.inserted_at),
            "size": len(self.message.body),
            "customer": self.customer,
            "job_id": self.job_id,
            "batch": None if self.batch is None else self.batch.batch,
            "action": None if self.job is None else self.job.action,
            "status": status or None,
            "reason": self.reason,
        }
        return {name: value for name, value in members.items() if value is not None}


async def read_message(services: Services, queue: str, message: Message) -> PoisonedMessage:
    """Return what a message of the queue is about."""
    if queue == services.settings.callbacks_poison_queue:
        return await _read_callback(services, queue, message)
    if queue == services.settings.batches_poison_queue:
        return await _read_batch(services, queue, message)
    try:
        job = decode_queued_job(message.body, default_id=message.id)
    except InvalidJob as exc:
        return PoisonedMessage(queue, message, str(exc))
    if job.id == message.id:  # the host's move gave the message a new id; the job is found by its content
        try:
            job_id = await services.queries.find_unfinished(job.customer, fingerprint(job))
        except AlreadyRunning as exc:
            return PoisonedMessage(queue, message, str(exc), job)
        job = msgspec.structs.replace(job, job_id=job_id or job.id)
    record = await services.queries.get(job.customer, job.id)
    return PoisonedMessage(queue, message, _reason_of_job(record), job, record=record)


async def prepare(services: Services, poisoned: PoisonedMessage) -> tuple[str, bytes]:
    """
    Return the queue that a message is put back into, and its body: a job's original id and submission time.

    The job's failure count is reset. Raises CommandError if the message has to stay.
    """
    if poisoned.callback is not None:
        return services.settings.callbacks_queue, poisoned.message.body
    if poisoned.batch is not None:
        return services.settings.batches_queue, poisoned.message.body
    job, record = poisoned.job, poisoned.record
    if job is None:
        raise CommandError(f"The message is not one of the app's and stays in the queue. {poisoned.reason}")
    submitted_at, generation = poisoned.message.inserted_at, 0
    if job.envelope is not None:
        submitted_at, generation = job.envelope.submitted_at, job.envelope.generation
    if isinstance(record, JobRecord):
        submitted_at = record.submitted_at
        generation = max(generation, record.generation)  # whoever puts it back wants it processed
        if record.state != "done":
            try:  # without this, the ledger would give the job up again at once
                await services.updates.reset_failed_attempts(record.customer, record.job_id)
            except AlreadyRunning:
                raise Exists("A worker is running the job at the moment. Try again later.") from None
    body = await services.outputs.message_of(job, submitted_at=submitted_at, traceparent=None, generation=generation)
    return services.settings.jobs_queue, body


async def _read_callback(services: Services, queue: str, message: Message) -> PoisonedMessage:
    callback = decode_callback(message.body)
    if callback is None:
        return PoisonedMessage(queue, message, "The message is not a callback of the app.")
    record = await services.queries.get(callback.customer, callback.job_id)
    return PoisonedMessage(queue, message, _reason_of_callback(record), callback=callback, record=record)


async def _read_batch(services: Services, queue: str, message: Message) -> PoisonedMessage:
    batch = decode_batch_message(message.body)
    if batch is None:
        return PoisonedMessage(queue, message, "The message is not a batch of the app.")
    record = await BatchQueries(services.table).get(batch.customer, batch.batch)
    return PoisonedMessage(queue, message, _reason_of_batch(record), batch=batch, record=record)


def _reason_of_job(record: JobRecord | None) -> str:
    if record is None:
        return "No attempt was recorded."
    if record.state == "done":
        return "The job has ended. A retry publishes its stored result again."
    return record.reason or "Its attempts recorded no reason."


def _reason_of_batch(record: BatchRecord | None) -> str:
    if record is None:
        return "The batch is not on record any more. The app drops the message."
    if record.state == "done":
        return "The batch is done. The app drops the message."
    return record.error or "Its turns recorded no reason."


def _reason_of_callback(record: JobRecord | None) -> str:
    if record is None:
        return "The job is not on record any more. The app drops the callback."
    if record.callback_status == "delivered":
        return "The callback was delivered. The app drops the message."
    return record.callback_error or "Its tries recorded no reason."
