"""
The way of a message, in order: what it asks for is claimed, done and told, or it goes back into the queue.

bytes ► job ► claim ► (execution) ► told
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import msgspec

from shared.actions.base import Completed, action_named
from shared.clock import now
from shared.contract.callback import CallbackMessage, encode_callback
from shared.contract.job import LONGEST_DEADLINE_S, Job, PutBack, decode_job, encode_job, named_blob, request_hash
from shared.contract.result import encode_result
from shared.errors import (
    AlreadyRunning,
    InternalError,
    InvalidJob,
    JobError,
    LeaseLost,
    RetryLater,
    StorageUnavailable,
    Throttled,
)
from shared.event_names import JOB_REJECTED, JOB_REQUEUED, LEASE_LOST
from shared.jobs.base import JobServices
from shared.jobs.context import Bench
from shared.jobs.crash_log import CRASHED, log_crash
from shared.jobs.executor import MOST_FAILURES, Executor, Work
from shared.jobs.message import Delivery, deadline_of, refused
from shared.jobs.records import Done, Lease

_AT_ONCE = timedelta(seconds=1)
"""A message that went back was hidden for longer."""

_AGAIN_S = 60.0
_OWN_QUEUE_FOR = timedelta(minutes=10)
"""Beyond its deadline a job's own results queue is tried for so long, before the result goes to the usual one."""

log = logging.getLogger("customer_ai_jobs")


@dataclass(frozen=True, slots=True)
class Worker:
    """Everything that a job meets on its way."""

    services: JobServices

    async def process(self, delivery: Delivery) -> bytes | None:
        """
        The result to publish on the results queue, or None where there is none to publish there: the
        job wants none, has gone back into the queue for a while, or is another worker's.

        Every failure that is the job's own is a result. What is raised from here says that nothing
        could be done; the host then delivers the message again.
        """
        return await self._settle(delivery, self.services.settings.jobs_queue, self._answer)

    async def dead_letter(self, delivery: Delivery) -> bytes | None:
        """
        As `process`, for a job from the poison queue: each of its runs ended in the death of the worker.

        One that only waits, as no worker could put its message back, goes on doing so, five times at most.
        """
        return await self._settle(delivery, self.services.settings.poison_queue, self._bury)

    async def _settle(
        self, delivery: Delivery, queue: str, step: Callable[[Job, Delivery], Awaitable[tuple[Job, bytes | None]]]
    ) -> bytes | None:
        job: Job | None = None
        told: bytes | None = None
        with ExitStack() as spans:
            try:
                job = decode_job(delivery.body, default_id=delivery.message_id)
                if job.put_back is not None:
                    delivery = _came_back(delivery, job.put_back)
                spans.enter_context(self.services.telemetry.job(job))
                job, told = await step(job, delivery)
            except JobError as error:  # before the claim: no ledger row tells of it, and the id stays free
                return self._refuse(delivery, error)
            except RetryLater as delay:
                if job is None:
                    raise
                await self._put_back(job, delivery, queue, delay)
            except LeaseLost:
                log.warning("%s %s", LEASE_LOST, _named(job, delivery))
            except Exception as exc:  # noqa: BLE001  # a fault of ours, which five more tries would not mend
                log_crash(exc, _named(job, delivery))
                return self._refuse(delivery, InternalError(CRASHED))
            if job is None or told is None:
                return None
            # From here on the job has its result, under this id, and nothing else may be told of it.
            try:
                return await self._tell(job, delivery, told)
            except RetryLater as delay:
                await self._put_back(job, delivery, queue, delay, named=True)
        return None

    async def _answer(self, job: Job, delivery: Delivery) -> tuple[Job, bytes]:
        with await self._admitted(job, delivery):
            try:
                action = action_named(job.action)
                self.services.outputs.check(job.output)
                asked = action.decode(await self.services.inputs.of(job))
                work: Work = partial(Executor(self.services).call, action=action, asked=asked)
            except (InvalidJob, RetryLater) as error:
                # A blob may be gone by now, or out of reach; a queue may be allowed no more: a job that is known is
                # told, or comes to its end. Only one that was on record before is looked for.
                may_be_known = named_blob(job) is not None or job.put_back is not None
                if not may_be_known or not (isinstance(error, RetryLater) or await self._knows(job)):
                    raise
                work = partial(_fail, error)
            claim = await self._claim(job, delivery)
            return job, claim.told if isinstance(claim, Done) else await Executor(self.services).run(job, claim, work)

    async def _bury(self, job: Job, delivery: Delivery) -> tuple[Job, bytes | None]:
        if job.id == delivery.message_id:
            known = await self._find_unfinished(job, delivery)
            job = msgspec.structs.replace(job, job_id=known or job.id)
        if await self._goes_on(job, delivery):
            return job, None
        claim = await self._claim(job, delivery)
        return job, claim.told if isinstance(claim, Done) else await Executor(self.services).give_up(job, claim)

    async def _find_unfinished(self, job: Job, delivery: Delivery) -> str | None:
        try:
            return await self.services.ledger.find_unfinished(job.customer, request_hash(job))
        except AlreadyRunning:
            if now() < deadline_of(job, delivery.submitted_at):
                raise
            return None

    async def _goes_on(self, job: Job, delivery: Delivery) -> bool:
        """Whether the job was only waiting, and nothing but its way back into the queue had failed: it goes there."""
        ledger = self.services.ledger
        record = await ledger.find(job.customer, job.id, request_hash(job))
        if record is None or record.state not in {"queued", "waiting"} or record.failures >= MOST_FAILURES:
            return False
        if now() >= deadline_of(job, record.submitted_at):
            return False
        delay = RetryLater("The host gave its message up, though no worker of it has died.", _AGAIN_S)
        delivery = replace(delivery, submitted_at=record.submitted_at)
        await self._put_back(job, delivery, self.services.settings.jobs_queue, delay)
        with suppress(RetryLater):  # it may be run already
            await ledger.fail(job.customer, job.id)
        return True

    async def _admitted(self, job: Job, delivery: Delivery) -> AbstractContextManager[None]:
        deadline = deadline_of(job, delivery.submitted_at)
        if delivery.returned and now() < deadline:
            await self.services.limiter.wait_in_hand(job.customer, job.connection)
        if now() >= deadline:
            return nullcontext()  # it is not worked on, it only comes to its end
        return self.services.limiter.admitted(job.customer, job.connection)

    async def _claim(self, job: Job, delivery: Delivery) -> Lease | Done:
        return await self.services.ledger.claim(
            job.customer,
            job.id,
            request_hash=request_hash(job),
            submitted_at=delivery.submitted_at,
            action=job.action,
        )

    async def _knows(self, job: Job) -> bool:
        return await self.services.ledger.knows(job.customer, job.id)

    async def _tell(self, job: Job, delivery: Delivery, told: bytes) -> bytes | None:
        output = self.services.outputs.allowed(job.output)
        usual = output.queue is True or output.queue == self.services.settings.results_queue
        if isinstance(output.queue, str) and not usual:
            try:
                await self.services.queues.send(output.queue, told)
            except StorageUnavailable:
                if now() < deadline_of(job, delivery.submitted_at) + _OWN_QUEUE_FOR:
                    raise
                usual = True  # nobody may ever have made that queue
        if output.callback is not None:
            message = CallbackMessage(customer=job.customer, job_id=job.id, url=output.callback, first_at=now())
            await self.services.queues.send(self.services.settings.callbacks_queue, encode_callback(message))
        return told if usual else None

    def _refuse(self, delivery: Delivery, error: JobError) -> bytes:
        result = refused(delivery, error)
        self.services.telemetry.job_finished(result.customer, result.action, result.status, error.code)
        log.info("%s job_id=%s code=%s", JOB_REJECTED, result.job_id, error.code)
        return encode_result(result)

    async def _put_back(
        self, job: Job, delivery: Delivery, queue: str, delay: RetryLater, *, named: bool = False
    ) -> None:
        traceparent, submitted_at = self.services.telemetry.requeue_traceparent(job, delay), delivery.submitted_at
        if queue == self.services.settings.poison_queue and job.id == delivery.message_id and not named:
            job = msgspec.structs.replace(job, job_id=None)  # the host's, which says nothing of the job that it was
            body = encode_job(job, submitted_at=submitted_at, traceparent=traceparent)
        else:
            body = await self.services.outputs.message_of(job, submitted_at=submitted_at, traceparent=traceparent)
        left = (deadline_of(job, delivery.submitted_at) - now()).total_seconds()
        # Not all at once, and not long after the deadline, with which it ends unless something is still out of reach.
        delay_s = min(delay.delay_s * random.uniform(1, 1.1), max(left, 1.0) if left > 0 else math.inf)  # noqa: S311
        await self.services.queues.send(queue, body, delay_s=delay_s)
        self.services.telemetry.job_requeued(job, delay, delay_s)
        if not isinstance(delay, Throttled):  # the lane says so itself, once for many
            log.warning("%s %s delay_s=%.1f %s: %s", JOB_REQUEUED, _named(job), delay_s, type(delay).__name__, delay)


async def _fail(error: Exception, _: Bench) -> Completed:
    raise error


def _came_back(delivery: Delivery, put_back: PutBack) -> Delivery:
    # Ours alone, but anybody can write a message: never later than this one, nor earlier than any deadline reaches.
    earliest = delivery.submitted_at - timedelta(seconds=LONGEST_DEADLINE_S)
    first = max(min(delivery.submitted_at, put_back.submitted_at), earliest)
    # One that was handed in over HTTP says when, too, and comes at once.
    return replace(delivery, submitted_at=first, returned=delivery.submitted_at - first > _AT_ONCE)


def _named(job: Job | None, delivery: Delivery | None = None) -> str:
    if job is None:
        return f"job_id={delivery.message_id if delivery else '-'}"
    return f"customer={job.customer} job_id={job.id}"
