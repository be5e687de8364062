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
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from shared.actions import Action, Answer, action_named
from shared.actions.parts import known_error
from shared.bench import RUN_S, Bench, Tools
from shared.clock import now
from shared.connections import Connections
from shared.contract.callback import CallbackMessage, encode_callback
from shared.contract.job import PUT_BACK_ROOM, Job, PutBack, decode_job, encode_job, named_blob, request_hash
from shared.contract.result import MESSAGE_LIMIT, encode_result
from shared.errors import (
    CredentialRejected,
    DeadlinePassed,
    InternalError,
    InvalidJob,
    JobCancelled,
    JobError,
    LaneFull,
    LeaseLost,
    NotNow,
    Postponed,
    StorageUnavailable,
)
from shared.holds import Hold, lost
from shared.rows import Claim, Done
from shared.runs import Delivery, Run, deadline_of, finished, refused
from shared.settings import Settings
from shared.stores import Queues

MOST_FAILURES = 5
"""Runs of a job that may come to nothing, before it is given up: as many as the host tries a message."""
_LONGEST_DEADLINE = timedelta(days=8)
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
        with ExitStack() as spans:
            try:
                job = decode_job(delivery.body, default_id=delivery.message_id)
                if job.put_back is not None:
                    delivery = replace(delivery, submitted_at=_first(delivery, job.put_back))
                spans.enter_context(self.tools.telemetry.job(job))
                return await step(job, delivery)
            except JobError as error:  # before the claim: no ledger row tells of it, and the id stays free
                return self._refuse(delivery, error)
            except NotNow as moment:
                if job is None:
                    raise
                await self._put_back(job, delivery, queue, moment)
            except LeaseLost:
                log.warning("lease_lost %s", _named(job, delivery))
            except Exception as exc:  # noqa: BLE001  # a fault of ours, which five more tries would not mend
                _log_crash(exc, _named(job, delivery))
                return self._refuse(delivery, InternalError(_CRASHED))
        return None

    async def _answer(self, job: Job, delivery: Delivery) -> bytes | None:
        with self._admitted(job, delivery):
            action: Action | None = None
            asked: Any
            try:
                action = action_named(job.action)
                self.tools.outputs.check(job.output)
                asked = action.decode(await self.tools.inputs.of(job))
            except (InvalidJob, NotNow) as error:
                # A blob may be gone by now, or out of reach; a queue may be allowed no more: a job that is known is
                # told, or comes to its end. Only one that was on record before is looked for.
                may_be_known = named_blob(job) is not None or job.put_back is not None
                if not may_be_known or not (isinstance(error, NotNow) or await self._knows(job)):
                    raise
                asked = error
            claim = await self._claim(job, delivery)
            if isinstance(claim, Done):
                return await self._tell(job, claim.told)
            return await self._hold(job, claim, partial(self._run, action=action, asked=asked))

    async def _bury(self, job: Job, delivery: Delivery) -> bytes | None:
        if job.id == delivery.message_id:
            known = await self.tools.ledger.find_unfinished(job.customer, request_hash(job))
            job = msgspec.structs.replace(job, job_id=known or job.id)
        claim = await self._claim(job, delivery)
        if isinstance(claim, Done):
            return await self._tell(job, claim.told)

        async def give_up(_: Bench) -> Answer:
            return _given_up(claim)

        return await self._hold(job, claim, give_up)

    def _admitted(self, job: Job, delivery: Delivery) -> AbstractContextManager[None]:
        if now() >= deadline_of(job, delivery.submitted_at):
            return nullcontext()  # it is not worked on, it only comes to its end
        # A message without room for what is written on one that goes back can't go back.
        full = len(delivery.body) > MESSAGE_LIMIT - PUT_BACK_ROOM and (
            len(encode_job(job, submitted_at=delivery.submitted_at)) > MESSAGE_LIMIT
        )
        return self.tools.lanes.admitted(job.customer, job.connection, always=full)

    async def _claim(self, job: Job, delivery: Delivery) -> Claim | Done:
        asked = request_hash(job)
        return await self.tools.ledger.claim(
            job.customer, job.id, asked=asked, submitted_at=delivery.submitted_at, action=job.action
        )

    async def _knows(self, job: Job) -> bool:
        return await self.tools.ledger.knows(job.customer, job.id)

    async def _hold(self, job: Job, claim: Claim, work: Callable[[Bench], Awaitable[Answer]]) -> bytes | None:
        """What becomes of a claimed job: `work`'s answer, saved, billed and told, while its lease is kept."""
        age = (claim.started_at - claim.submitted_at).total_seconds()
        self.tools.telemetry.claimed(job, claim.attempt, age)
        run = Run(job, claim)
        hold = Hold(run, self.tools.ledger)
        bench = Bench(hold, self.tools, time.monotonic() + min(RUN_S, run.seconds_left()))
        try:
            async with hold.kept():
                if claim.cancelled:
                    answer = Answer(None, (), "failed", JobCancelled("The job was cancelled before it was done."))
                elif (kept := await self._kept(bench)) is not None:
                    answer = kept
                elif claim.failures >= MOST_FAILURES:
                    answer = _given_up(claim)
                else:
                    answer = await work(bench)
                try:
                    told = await self._close(bench, answer)
                except (NotNow, LeaseLost):
                    raise
                except Exception as exc:  # noqa: BLE001  # a fault of ours: the job still ends with a result
                    _log_crash(exc, run.named())
                    bench.lose(bench.replies)
                    result = finished(run, Answer(None, (), "failed", InternalError(_CRASHED)), now())
                    told = encode_result(result)
                    await hold.complete(told, result.status, (), now())
        except LeaseLost:
            await self._record(hold)
            raise
        return await self._tell(job, told)

    async def _kept(self, bench: Bench) -> Answer | None:
        try:
            return await bench.kept()
        except StorageUnavailable as exc:
            if not bench.run.in_time(exc.delay_s):
                return None  # it ends, with or without what it had
            await bench.hold.release(exc)
            raise

    async def _record(self, hold: Hold) -> None:
        try:
            await hold.patiently(hold.record)
        except StorageUnavailable as exc:
            log.error("calls_not_recorded %s: %s", hold.run.named(), exc)  # noqa: TRY400  # the sentence says it all

    async def _run(self, bench: Bench, *, action: Action | None, asked: Any) -> Answer:
        """The action's answer; a failure is one too. Raises NotNow where the job has time to wait."""
        run, options = bench.run, bench.run.job.options
        try:
            if not run.in_time():
                raise DeadlinePassed(f"The job's deadline of {options.deadline_s:g} s had passed before it ran.")
            if action is None or isinstance(asked, InvalidJob | NotNow):
                raise asked
            return await self._call(bench, action, asked)
        except JobError as error:
            answer: Answer | None = getattr(error, "answer", None)
            return answer or Answer(None, (), "failed", error)
        except NotNow as moment:
            return await self._wait(bench, moment)
        except LeaseLost:
            raise
        except Exception as exc:  # noqa: BLE001  # a fault of ours: the job still ends with a result
            _log_crash(exc, run.named())
            return Answer(None, (), "failed", InternalError(_CRASHED))

    async def _wait(self, bench: Bench, moment: NotNow) -> Answer:
        if bench.run.in_time(moment.delay_s):
            await bench.hold.release(moment)
            raise moment
        if isinstance(moment, Postponed):
            return moment.answer or Answer(None, (), "failed", moment.reason)
        return Answer(None, (), "failed", DeadlinePassed(str(moment)))

    async def _call(self, bench: Bench, action: Action, asked: Any) -> Answer:
        run, job = bench.run, bench.run.job
        connection = await self.connections.resolve(job.customer, job.connection)
        model_needed = getattr(action, "NEEDS_MODEL", True)
        run.use(connection, model_needed=model_needed)
        if job.output.blob or getattr(action, "keeps_blobs", lambda _: False)(asked):
            await self.tools.outputs.prove()
        try:
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
        except BaseException:
            bench.lose(bench.replies)
            raise

    async def _close(self, bench: Bench, answer: Answer) -> bytes:
        """Saves the result, and closes the job with its usage records."""
        hold, run, at = bench.hold, bench.run, now()
        job, claim, calls = run.job, run.claim, answer.calls
        await hold.steps()  # an earlier run may have been billed, though this one came to nothing
        if run.label is not None and run.connection is not None and (state := bench.breaker.state) != "closed":
            run.label = msgspec.structs.replace(run.label, breaker=state)
        result = finished(run, answer, at)
        told = self.tools.outputs.whole(job, result)
        try:
            if told is None:
                if calls:
                    calls = ()
                    await bench.keep(answer)
                told = await hold.patiently(lambda: self.tools.outputs.save(job, result))
        except StorageUnavailable as exc:
            if claim.failures < MOST_FAILURES:
                await hold.release(exc)
                raise
            answer = Answer(None, (), "failed", InternalError(f"The job's answer could not be kept: {exc}"))
            result = finished(run, answer, at)
            told = encode_result(result)
        try:
            await hold.complete(told, result.status, calls, at)
        except LeaseLost:
            hold.owe(lost(calls))
            raise
        code = result.error.code if result.error else None
        self.tools.telemetry.ended(job.customer, job.action, result.status, code)
        log.info(
            "job_finished %s action=%s status=%s code=%s attempt=%d "
            "calls=%d input_tokens=%d output_tokens=%d run_ms=%d",
            run.named(),
            job.action,
            result.status,
            code or "-",
            claim.attempt,
            result.usage.calls,
            result.usage.input_tokens,
            result.usage.output_tokens,
            (at - claim.started_at) / timedelta(milliseconds=1),
        )
        return told

    async def _tell(self, job: Job, told: bytes) -> bytes | None:
        output = self.tools.outputs.allowed(job.output)
        if output.callback is not None:
            message = CallbackMessage(customer=job.customer, job_id=job.id, url=output.callback, first_at=now())
            await self.queues.send(self.settings.callbacks_queue, encode_callback(message))
        queue = output.queue
        if queue is True or queue == self.settings.results_queue:
            return told
        if isinstance(queue, str):
            await self.queues.send(queue, told)
        return None

    def _refuse(self, delivery: Delivery, error: JobError) -> bytes:
        result = refused(delivery, error)
        self.tools.telemetry.ended(result.customer, result.action, result.status, error.code)
        log.info("job_refused job_id=%s code=%s", result.job_id, error.code)
        return encode_result(result)

    async def _put_back(self, job: Job, delivery: Delivery, queue: str, moment: NotNow) -> None:
        traceparent = self.tools.telemetry.carried(job, moment)
        if queue == self.settings.poison_queue and job.id == delivery.message_id:
            job = msgspec.structs.replace(job, job_id=None)  # the host's, which says nothing of the job that it was
        body = encode_job(job, submitted_at=delivery.submitted_at, traceparent=traceparent)
        if len(body) > MESSAGE_LIMIT:
            raise moment  # no room for its id: the host delivers this message again by itself
        left = (deadline_of(job, delivery.submitted_at) - now()).total_seconds()
        # Not all at once, and not long after the deadline, with which it ends.
        delay = min(moment.delay_s * random.uniform(1, 1.1), max(left, 1.0))  # noqa: S311
        await self.queues.send(queue, body, delay_s=delay)
        self.tools.telemetry.put_back(job, moment, delay)
        if not isinstance(moment, LaneFull):  # the lane says so itself, once for many
            log.warning("job_put_back %s delay_s=%.1f %s: %s", _named(job), delay, type(moment).__name__, moment)


def _given_up(claim: Claim) -> Answer:
    said = f"The job was given up after {claim.attempt} runs that came to nothing."
    message = f"{said} The last known reason: {claim.reason}" if claim.reason else said
    code = claim.reason_code
    error = known_error({"code": code, "message": message}) if code else InternalError(message)
    return Answer(None, (), "failed", error)


def _first(delivery: Delivery, put_back: PutBack) -> datetime:
    # Ours alone, but anybody can write a message: never later than this one, nor earlier than any deadline reaches.
    earliest = delivery.submitted_at - _LONGEST_DEADLINE
    return max(min(delivery.submitted_at, put_back.submitted_at), earliest)


def _log_crash(exc: Exception, named: str) -> None:
    # Without the exception's text: a library's may quote what it was given, a header included.
    where = "".join(traceback.format_tb(exc.__traceback__))
    log.error("job_crashed %s %s\n%s", named, type(exc).__name__, where)


def _named(job: Job | None, delivery: Delivery | None = None) -> str:
    if job is None:
        return f"job_id={delivery.message_id if delivery else '-'}"
    return f"customer={job.customer} job_id={job.id}"
