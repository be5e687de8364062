"""
The way of a message: what it asks for is claimed, executed and published, or the message is requeued.

bytes ► job ► lease ► (attempt) ► result
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import msgspec

from shared.actions.base import action_named
from shared.clock import now
from shared.contract.callback import CallbackMessage, encode_callback
from shared.contract.job import Job, named_blob
from shared.contract.processing import MAY_BE_RESPONSE, PATIENT
from shared.contract.result import encode_result
from shared.errors import (
    InternalError,
    InvalidJob,
    JobError,
    LeaseLost,
    RetryLater,
    StorageUnavailable,
    Throttled,
)
from shared.event_names import JOB_REJECTED, JOB_REQUEUED, LEASE_LOST, MESSAGE_SUPERSEDED, NAMESPACE
from shared.jobs.admission import PATIENT_JOBS
from shared.jobs.base import JobServices
from shared.jobs.claiming import claim
from shared.jobs.crash_log import CRASHED, drop_frames, log_crash, log_text
from shared.jobs.envelope import QueuedJob, check_marker, decode_queued_job
from shared.jobs.executor import Executor
from shared.jobs.lease import Superseded, next_generation
from shared.jobs.message import (
    DecodedJob,
    Delivery,
    clock_start,
    deadline_of,
    log_name,
    rejected,
    restore_envelope,
    with_jitter,
)
from shared.jobs.records import FinishedJob
from shared.jobs.unreadable import is_left
from shared.storage.base import MAX_HIDDEN_S

_OWN_QUEUE_FOR = timedelta(minutes=10)
"""How long beyond its deadline a job's own results queue is tried, before the result goes to the default one."""

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class Worker:
    """Processes messages of the jobs queue and of its poison queue."""

    services: JobServices

    async def process(self, delivery: Delivery) -> bytes | None:
        """
        Return the result to publish on the results queue; None if there is nothing to publish there, because the job
        wants nothing there, was requeued, or is another worker's.

        A failure of the job's own is a result. An exception means that nothing could be done; the host then delivers
        the message again.
        """
        job: QueuedJob | None = None
        queue = self.services.settings.jobs_queue
        with ExitStack() as spans:
            try:
                job = decode_queued_job(delivery.body, default_id=delivery.message_id)
                job, delivery = restore_envelope(job, delivery)
                spans.enter_context(self.services.telemetry.job(job, delivery.traceparent))
                self.services.settings.check()
                with await self._admit(job, delivery):
                    await check_marker(job, self.services)
                    work = await self._decode(job)
                    if job.options.run_at is not None and await self.services.submissions.hold_back(job, delivery):
                        return None
                    lease, attempt = await claim(self.services, job, delivery, work)
                    if isinstance(lease, FinishedJob):
                        result_body = lease.result_body
                    else:
                        is_response = job.action == "respond" or (job.action, job.options.processing) in MAY_BE_RESPONSE
                        kind = _response_executor() if is_response else Executor
                        executor = kind(self.services, partial(self._requeue, job, delivery, queue))
                        result_body = await executor.execute(job, lease, work, attempt)
            except Exception as exc:  # noqa: BLE001  # see _handle
                failure = exc  # handled below: an error of that would carry this one, and what it quotes, to the host
            else:
                return await self._publish(job, delivery, queue, result_body)
            return await self._handle(failure, job, delivery, queue)

    async def dead_letter(self, delivery: Delivery) -> bytes | None:
        """
        As `process`, for a message of the poison queue: its job ends if it is given up or late, else it is requeued.

        The ledger gives a job up after MAX_FAILED_ATTEMPTS, long before the host does. So what comes here is a message
        that could not be requeued because Storage was faulty, or with which a worker died before each claim.
        """
        from shared.jobs.poisoned import resume, with_own_id  # noqa: PLC0415  # few messages come here

        job: QueuedJob | None = None
        queue = self.services.settings.poison_queue
        with ExitStack() as spans:
            try:
                job = decode_queued_job(delivery.body, default_id=delivery.message_id)
                job, delivery = restore_envelope(job, delivery)
                spans.enter_context(self.services.telemetry.job(job, delivery.traceparent))
                self.services.settings.check()
                await check_marker(job, self.services)
                job = await with_own_id(self.services, job, delivery)
                if await resume(self.services, job, delivery, self._requeue):
                    return None
                lease, _ = await claim(self.services, job, delivery, None)
                if isinstance(lease, FinishedJob):
                    result_body = lease.result_body
                else:
                    is_response = job.action == "respond" or (job.action, job.options.processing) in MAY_BE_RESPONSE
                    kind = _response_executor() if is_response else Executor
                    executor = kind(self.services, partial(self._requeue, job, delivery, queue))
                    result_body = await executor.execute(job, lease, None)
            except Exception as exc:  # noqa: BLE001  # see _handle
                failure = exc  # handled below: an error of that would carry this one, and what it quotes, to the host
            else:
                return await self._publish(job, delivery, queue, result_body)
            return await self._handle(failure, job, delivery, queue)

    async def _handle(self, exc: Exception, job: Job | None, delivery: Delivery, queue: str) -> bytes | None:
        """Requeue the job, leave it to another worker, or return a failed result."""
        if not isinstance(exc, RetryLater | LeaseLost | JobError):
            log_crash(exc, log_name(job, delivery))  # a fault of ours, which no further delivery would correct
        drop_frames(exc)
        if (job is None or isinstance(exc, InvalidJob)) and await is_left(exc, delivery, queue, self.services):
            return None
        if isinstance(exc, RetryLater) and job is not None:
            if not exc.is_requeued:
                await self._requeue(job, delivery, queue, exc)
            return None
        if isinstance(exc, Superseded):
            log.info("%s %s", MESSAGE_SUPERSEDED, log_name(job, delivery))
            return None
        if isinstance(exc, LeaseLost):
            log.warning("%s %s", LEASE_LOST, log_name(job, delivery))
            return None
        # Before the lease: the job has no row, and its id stays free.
        return self._reject(delivery, exc if isinstance(exc, JobError) else InternalError(CRASHED))

    async def _decode(self, job: QueuedJob) -> DecodedJob | JobError | RetryLater:
        """Return what the job asks for. Raises InvalidJob, RetryLater if nothing is on record about the job."""
        try:
            action = action_named(job.action)
            self.services.outputs.check(job)
            return DecodedJob(action, *await self.services.inputs.load(job, action.decode))
        except (InvalidJob, RetryLater) as error:
            # A blob may be gone by now, or a queue no longer allowed: a job that is on record ends with its result, or
            # with this error. Only a job that can be on record is looked up.
            may_be_known = named_blob(job) is not None or job.envelope is not None
            get = self.services.queries.get
            if not may_be_known or not (isinstance(error, RetryLater) or await get(job.customer, job.id)):
                raise
            return error

    async def _admit(self, job: Job, delivery: Delivery) -> AbstractContextManager[object]:
        deadline, limiter = deadline_of(job, delivery.submitted_at), self.services.limiter
        connection = PATIENT_JOBS if job.options.processing in PATIENT else job.first_connection
        if now() < deadline:
            await limiter.wait_for_room(job.customer, connection)
        if now() >= deadline:
            return nullcontext()  # nothing is called any more; it only ends
        self.services.drain.check()
        return limiter.admit(job.customer, connection)

    async def _publish(self, job: Job, delivery: Delivery, queue: str, result_body: bytes) -> bytes | None:
        """Return the result if it goes to the default queue. The job is done: if this fails, only this is repeated."""
        try:
            return await self._send_result(job, delivery, result_body)
        except RetryLater as delay:
            await self._requeue(job, delivery, queue, delay, keeps_id=True)
            return None

    async def _send_result(self, job: Job, delivery: Delivery, result_body: bytes) -> bytes | None:
        settings, queues = self.services.settings, self.services.queues
        output = self.services.outputs.allowed(job)
        to_default = output.queue is True or output.queue == settings.results_queue
        if isinstance(output.queue, str) and not to_default:
            try:
                await queues.send(output.queue, result_body)
            except StorageUnavailable:
                if now() < deadline_of(job, delivery.submitted_at) + _OWN_QUEUE_FOR:
                    raise
                to_default = True  # the queue may not exist
        if output.callback is not None:
            message = CallbackMessage(customer=job.customer, job_id=job.id, first_at=now())
            await queues.send(settings.callbacks_queue, encode_callback(message))
        return result_body if to_default else None

    def _reject(self, delivery: Delivery, error: JobError) -> bytes:
        result = rejected(delivery, error)
        self.services.telemetry.job_finished(result.customer, result.action, result.status, error.code)
        log.info("%s job_id=%s code=%s", JOB_REJECTED, result.job_id, error.code)
        return encode_result(result)

    async def _requeue(
        self, job: Job, delivery: Delivery, queue: str, delay: RetryLater, *, keeps_id: bool = False
    ) -> None:
        traceparent = self.services.telemetry.requeue_traceparent(delivery.traceparent, delay)
        submitted_at = clock_start(job, delivery.submitted_at, int(delay.stops_clock_s))
        if queue == self.services.settings.poison_queue and job.id == delivery.message_id and not keeps_id:
            job = msgspec.structs.replace(job, job_id=None)  # that is the host's id, not the one that the job had
        is_stopping = self.services.drain.is_stopping
        # The host may deliver this one again.
        generation = next_generation(delivery.generation) if is_stopping else delivery.generation
        body = await self.services.outputs.message_of(
            job, submitted_at=submitted_at, traceparent=traceparent, generation=generation
        )
        delay_s = with_jitter(delay.delay_s, (deadline_of(job, submitted_at) - now()).total_seconds())
        if isinstance(delay, Throttled) or (is_stopping and delay.delay_s <= MAX_HIDDEN_S):
            # It may be unclaimed, and on record as running, or as done but not published: the schedule takes neither.
            delay_s = min(delay_s, MAX_HIDDEN_S)
        if queue == self.services.settings.poison_queue:
            await self.services.queues.send(queue, body, delay_s=delay_s)
        else:
            await self.services.schedule.send(job.customer, job.id, body, delay_s=delay_s)
        self.services.telemetry.job_requeued(job, delay, delay_s)
        if not isinstance(delay, Throttled):  # the limiter logs that itself, once for many jobs
            reason = type(delay).__name__, log_text(delay)
            log.warning("%s %s delay_s=%.1f %s: %s", JOB_REQUEUED, log_name(job), delay_s, *reason)


def _response_executor() -> type[Executor]:
    from shared.jobs.response_executor import ResponseExecutor  # noqa: PLC0415  # few jobs have it

    return ResponseExecutor
