"""
The way of a job, in order. The only place that knows the order of the steps.

bytes ► job ► claim ► connection ► call ► result ► saved ► done and billed ► told
"""

from __future__ import annotations

import logging
import random
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec

from shared.actions import Action, Answer, action_named
from shared.bench import RUN_S, Bench, Tools
from shared.clock import now
from shared.connections import Connections
from shared.contract.job import Job, decode_job, encode_job, named_blob, request_hash
from shared.contract.result import MESSAGE_LIMIT, encode_result
from shared.errors import (
    CredentialRejected,
    DeadlinePassed,
    InternalError,
    InvalidJob,
    JobError,
    LeaseLost,
    NotNow,
    Postponed,
    StorageUnavailable,
    UpstreamError,
)
from shared.ledger import Claim, Done
from shared.runs import Delivery, Run, finished, refused
from shared.settings import Settings
from shared.stores import Queues
from shared.usage import usage_rows

MOST_FAILURES = 5
"""Runs of a job that may come to nothing, before it is given up: as many as the host tries a message."""
_CRASHED = "The job failed by a fault of the software, which its log describes."

log = logging.getLogger("customer_ai_jobs")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Everything that a job meets on its way."""

    settings: Settings
    connections: Connections
    queues: Queues
    tools: Tools

    async def answer(self, delivery: Delivery) -> bytes | None:
        """
        The result to publish on the results queue, or None where there is none to publish there: the
        job wants none, has gone back into the queue for a while, or is another worker's.

        Every failure that is the job's own is a result. What is raised from here says that nothing
        could be done; the host then delivers the message again.
        """
        return await self._settle(delivery, self.settings.jobs_queue, self._answer)

    async def bury(self, delivery: Delivery) -> bytes | None:
        """As `answer`, for a job from the poison queue: each of its runs ended in the death of the worker."""
        return await self._settle(delivery, self.settings.poison_queue, self._bury)

    async def _settle(
        self, delivery: Delivery, queue: str, step: Callable[[Job, Delivery], Awaitable[bytes | None]]
    ) -> bytes | None:
        job: Job | None = None
        try:
            job = decode_job(delivery.body, default_id=delivery.message_id)
            return await step(job, delivery)
        except JobError as error:  # before the claim: no ledger row tells of it, and the id stays free
            return _refuse(delivery, error)
        except NotNow as moment:
            if job is None:
                raise
            await self._put_back(job, queue, moment)
        except LeaseLost:
            log.warning("lease_lost %s", _named(job, delivery))
        except Exception as exc:  # noqa: BLE001  # a fault of ours, which five more tries would not mend
            _log_crash(exc, _named(job, delivery))
            return _refuse(delivery, InternalError(_CRASHED))
        return None

    async def _answer(self, job: Job, delivery: Delivery) -> bytes | None:
        action = action_named(job.action)
        self.tools.outputs.check(job.output)
        asked: Any
        try:
            asked = action.decode(await self.tools.inputs.of(job))
        except (InvalidJob, NotNow) as error:
            # A blob may be gone by now, or out of reach: a job that is known is told, or comes to its end.
            if named_blob(job) is None or not (isinstance(error, NotNow) or await self._knows(job)):
                raise
            asked = error
        claim = await self.tools.ledger.claim(
            job.customer, job.id, asked=request_hash(job), submitted_at=delivery.submitted_at
        )
        if isinstance(claim, Done):
            return await self._tell(job, claim.told)
        run = Run(job, claim)
        if claim.failures >= MOST_FAILURES:
            return await self._close(run, _given_up(claim))
        return await self._close(run, await self._run(run, action, asked))

    async def _bury(self, job: Job, delivery: Delivery) -> bytes | None:
        asked = request_hash(job)
        if job.id == delivery.message_id and (known := await self.tools.ledger.find_unfinished(job.customer, asked)):
            job = msgspec.structs.replace(job, job_id=known)
        claim = await self.tools.ledger.claim(job.customer, job.id, asked=asked, submitted_at=delivery.submitted_at)
        if isinstance(claim, Done):
            return await self._tell(job, claim.told)
        return await self._close(Run(job, claim), _given_up(claim))

    async def _knows(self, job: Job) -> bool:
        return await self.tools.ledger.knows(job.customer, job.id)

    async def _run(self, run: Run, action: Action, asked: Any) -> Answer:
        """The action's answer; a failure is one too. Raises NotNow where the job has time to wait."""
        job = run.job
        try:
            if not run.in_time():
                raise DeadlinePassed(f"The job's deadline of {job.options.deadline_s:g} s had passed before it ran.")
            if isinstance(asked, InvalidJob | NotNow):
                raise asked
            return await self._call(run, action, asked)
        except UpstreamError as error:
            return error.answer or Answer(None, (), "failed", error)
        except JobError as error:
            return Answer(None, (), "failed", error)
        except NotNow as moment:
            if run.in_time(moment.delay_s):
                retries = moment.retries if isinstance(moment, Postponed) else run.claim.retries
                failed = isinstance(moment, StorageUnavailable)
                await self.tools.ledger.release(run.claim, retries=retries, failed=failed)
                raise
            if isinstance(moment, Postponed):
                return moment.answer or Answer(None, (), "failed", moment.reason)
            return Answer(None, (), "failed", DeadlinePassed(str(moment)))
        except LeaseLost:
            raise
        except Exception as exc:  # noqa: BLE001  # a fault of ours: the job still ends with a result
            _log_crash(exc, _named(job))
            return Answer(None, (), "failed", InternalError(_CRASHED))

    async def _call(self, run: Run, action: Action, asked: Any) -> Answer:
        job, bench = run.job, Bench(run, self.tools, time.monotonic() + min(RUN_S, run.seconds_left()))
        connection = await self.connections.resolve(job.customer, job.connection)
        model_needed = getattr(action, "NEEDS_MODEL", True)
        run.use(connection, model_needed=model_needed)
        try:
            return await action.run(asked, bench)
        except CredentialRejected:
            renewed = await self.connections.renewed(connection)
            if renewed is None:
                raise
        # The key was rotated: once more, with the new one. Steps that were answered are not asked again.
        run.use(renewed, model_needed=model_needed)
        bench.stopped = None
        return await action.run(asked, bench)

    async def _close(self, run: Run, answer: Answer) -> bytes | None:
        """Saves the result, closes the job with its usage records, and tells."""
        job, claim, at = run.job, run.claim, now()
        if not run.counted:  # an earlier run may have been billed, though this one came to nothing
            run.count(await self.tools.ledger.steps(claim))
        result = finished(run, answer, at)
        try:
            told = await self.tools.outputs.save(job, result)
        except StorageUnavailable:
            if claim.failures < MOST_FAILURES:
                await self.tools.ledger.release(claim, retries=claim.retries, failed=True)
                raise
            told = encode_result(msgspec.structs.replace(result, output=None))  # better than a job without an end
        rows = []
        if run.connection is not None and run.model is not None:
            label = run.connection.label()
            rows = usage_rows(job.customer, job.id, job.action, run.model, label, answer.calls, at)
        await self.tools.ledger.complete(claim, told, status=result.status, usage=rows)
        log.info(
            "job_finished %s action=%s status=%s code=%s attempt=%d "
            "calls=%d input_tokens=%d output_tokens=%d run_ms=%d",
            _named(job),
            job.action,
            result.status,
            result.error.code if result.error else "-",
            claim.attempt,
            result.usage.calls,
            result.usage.input_tokens,
            result.usage.output_tokens,
            (at - claim.started_at) / timedelta(milliseconds=1),
        )
        return await self._tell(job, told)

    async def _tell(self, job: Job, told: bytes) -> bytes | None:
        queue = job.output.queue
        if queue is True or queue == self.settings.results_queue:
            return told
        if isinstance(queue, str):
            await self.queues.send(queue, told)
        return None

    async def _put_back(self, job: Job, queue: str, moment: NotNow) -> None:
        body = encode_job(job)
        if len(body) > MESSAGE_LIMIT:
            raise moment  # no room for its id: the host delivers this message again by itself
        delay = moment.delay_s * random.uniform(1, 1.1)  # noqa: S311  # so that many do not come back at once
        await self.queues.send(queue, body, delay_s=delay)
        log.warning("job_put_back %s delay_s=%.1f %s: %s", _named(job), delay, type(moment).__name__, moment)


def _given_up(claim: Claim) -> Answer:
    error = InternalError(f"Every try of this job ended without an answer; it was given up after {claim.attempt}.")
    return Answer(None, (), "failed", error)


def _refuse(delivery: Delivery, error: JobError) -> bytes:
    result = refused(delivery, error)
    log.info("job_refused job_id=%s code=%s", result.job_id, error.code)
    return encode_result(result)


def _log_crash(exc: Exception, named: str) -> None:
    # Without the exception's text: a library's may quote what it was given, a header included.
    where = "".join(traceback.format_tb(exc.__traceback__))
    log.error("job_crashed %s %s\n%s", named, type(exc).__name__, where)


def _named(job: Job | None, delivery: Delivery | None = None) -> str:
    if job is None:
        return f"job_id={delivery.message_id if delivery else '-'}"
    return f"customer={job.customer} job_id={job.id}"
