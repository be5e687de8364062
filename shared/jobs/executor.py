"""
One run of a claimed job, from its connection to its result: saved, billed and closed while its lease is kept.

connection ► call ► result ► saved ► done and billed
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from shared.actions.base import Action, Completed
from shared.billing.usage import Call
from shared.clock import now
from shared.contract.error_codec import known_error
from shared.contract.job import Job
from shared.contract.result import Result, encode_result
from shared.errors import (
    CredentialRejected,
    DeadlinePassed,
    InternalError,
    JobCancelled,
    JobError,
    LeaseLost,
    NetworkRefused,
    RetryLater,
    StorageUnavailable,
    UpstreamRetryLater,
)
from shared.event_names import JOB_FINISHED, USAGE_NOT_RECORDED
from shared.jobs.attempt import Run, finished
from shared.jobs.base import JobServices
from shared.jobs.context import RUN_S, Bench
from shared.jobs.crash_log import CRASHED, log_crash
from shared.jobs.lease import Hold, as_lost
from shared.jobs.records import Lease

MOST_FAILURES = 5
"""Runs of a job that may come to nothing, before it is given up: as many as the host tries a message."""

Work = Callable[[Bench], Awaitable[Completed]]
"""What is done for a claimed job. It may raise any JobError, which is then the job's answer, or RetryLater."""

log = logging.getLogger("customer_ai_jobs")


@dataclass(frozen=True, slots=True)
class Executor:
    """
    Runs of claimed jobs. Each gives the result, encoded, once it is stored and its calls are billed.

    Raises RetryLater where the job has to wait and was released, LeaseLost where another worker has taken it over.
    """

    services: JobServices

    async def run(self, job: Job, claim: Lease, work: Work) -> bytes:
        """Does the job's `work`, unless it is cancelled, answered already, or was tried too often."""

        async def answer(bench: Bench) -> Completed:
            if claim.failures >= MOST_FAILURES:
                return _given_up(claim)
            return await self._answer(bench, work)

        return await self._execute(job, claim, answer)

    async def give_up(self, job: Job, claim: Lease) -> bytes:
        """Ends a job whose every run ended in the death of its worker, for the last known reason."""

        async def answer(_: Bench) -> Completed:
            return _given_up(claim)

        return await self._execute(job, claim, answer)

    async def call(self, bench: Bench, *, action: Action, asked: Any) -> Completed:
        """The action's answer on the customer's connection; once more with the new key where the old was refused."""
        run, job = bench.run, bench.run.job
        connection = await self.services.connections.resolve(job.customer, job.connection)
        run.use(connection, model_needed=action.NEEDS_MODEL)
        if job.output.blob or action.keeps_blobs(asked):
            await self.services.outputs.prove()
        try:
            try:
                return await action.run(asked, bench)
            except NetworkRefused:
                raise  # of no key
            except CredentialRejected:
                renewed = await self.services.connections.find_rotated(connection)
                if renewed is None:
                    raise
            # The key was rotated: once more, with the new one. Steps that were answered are not asked again.
            run.use(renewed, model_needed=action.NEEDS_MODEL)
            bench.stopped = None
            return await action.run(asked, bench)
        except BaseException:
            bench.lose(bench.replies)
            raise

    async def _execute(self, job: Job, claim: Lease, work: Work) -> bytes:
        age = (claim.started_at - claim.submitted_at).total_seconds()
        self.services.telemetry.attempt_started(job, claim.attempt, age)
        run = Run(job, claim)
        hold = Hold(run, self.services.ledger)
        bench = Bench(hold, self.services, time.monotonic() + min(RUN_S, run.seconds_left()))
        try:
            async with hold.kept():
                if claim.cancelled:
                    answer = _failed(JobCancelled("The job was cancelled before it was done."))
                else:
                    answer = await self._stored_answer(bench) or await work(bench)
                try:
                    return await self._close(bench, answer)
                except (RetryLater, LeaseLost):
                    raise
                except Exception as exc:  # noqa: BLE001  # a fault of ours: the job still ends with a result
                    log_crash(exc, run.named())
                    bench.lose(bench.replies)
                    at = now()
                    result = finished(run, _failed(InternalError(CRASHED)), at)
                    return await self._end(hold, result, encode_result(result), (), at)
        except LeaseLost:
            await self._record(hold)
            raise

    async def _answer(self, bench: Bench, work: Work) -> Completed:
        """The work's answer; a failure is one too. Raises RetryLater where the job has time to wait."""
        run = bench.run
        try:
            if not run.in_time():
                deadline_s = run.job.options.deadline_s
                raise DeadlinePassed(f"The job's deadline of {deadline_s:g} s had passed before it ran.")
            return await work(bench)
        except JobError as error:
            answer: Completed | None = getattr(error, "answer", None)
            return answer or _failed(error)
        except RetryLater as delay:
            return await self._wait(bench, delay)
        except LeaseLost:
            raise
        except Exception as exc:  # noqa: BLE001  # a fault of ours: the job still ends with a result
            log_crash(exc, run.named())
            return _failed(InternalError(CRASHED))

    async def _wait(self, bench: Bench, delay: RetryLater) -> Completed:
        if bench.run.in_time(delay.delay_s):
            await bench.hold.release(delay)
            raise delay
        if isinstance(delay, UpstreamRetryLater):
            return delay.answer or _failed(delay.reason)
        return _failed(DeadlinePassed(str(delay)))

    async def _stored_answer(self, bench: Bench) -> Completed | None:
        try:
            return await bench.kept()
        except StorageUnavailable as exc:
            if not bench.run.in_time(exc.delay_s):
                return None  # it ends, with or without what it had
            await bench.hold.release(exc)
            raise

    async def _close(self, bench: Bench, answer: Completed) -> bytes:
        """Saves the result, and ends the job with it."""
        hold, run, at = bench.hold, bench.run, now()
        job, claim, calls = run.job, run.claim, answer.calls
        await hold.steps()  # an earlier run may have been billed, though this one came to nothing
        if run.label is not None and run.connection is not None and (state := bench.breaker.state) != "closed":
            run.label = msgspec.structs.replace(run.label, breaker=state)
        result = finished(run, answer, at)
        told = self.services.outputs.whole(job, result)
        try:
            if told is None:
                if calls:
                    calls = ()
                    await bench.keep(answer)
                told = await hold.patiently(lambda: self.services.outputs.save(job, result))
        except StorageUnavailable as exc:
            if claim.failures < MOST_FAILURES:
                await hold.release(exc)
                raise
            result = finished(run, _failed(InternalError(f"The job's answer could not be kept: {exc}")), at)
            told, calls = encode_result(result), ()
        return await self._end(hold, result, told, calls, at)

    async def _end(self, hold: Hold, result: Result, told: bytes, calls: Sequence[Call], at: datetime) -> bytes:
        """Closes the job with its result and its usage records, and says so once."""
        try:
            await hold.complete(told, result.status, calls, at)
        except LeaseLost:
            hold.owe(as_lost(calls))
            raise
        run = hold.run
        code = result.error.code if result.error else None
        self.services.telemetry.job_finished(run.job.customer, run.job.action, result.status, code)
        log.info(
            "%s %s action=%s status=%s code=%s attempt=%d calls=%d input_tokens=%d output_tokens=%d run_ms=%d",
            JOB_FINISHED,
            run.named(),
            run.job.action,
            result.status,
            code or "-",
            run.claim.attempt,
            result.usage.calls,
            result.usage.input_tokens,
            result.usage.output_tokens,
            (at - run.claim.started_at) / timedelta(milliseconds=1),
        )
        return told

    async def _record(self, hold: Hold) -> None:
        try:
            await hold.patiently(hold.record)
        except StorageUnavailable as exc:
            log.error("%s %s: %s", USAGE_NOT_RECORDED, hold.run.named(), exc)  # noqa: TRY400  # the sentence says it all


def _failed(error: JobError) -> Completed:
    return Completed(None, (), "failed", error)


def _given_up(claim: Lease) -> Completed:
    said = f"The job was given up after {claim.attempt} runs that came to nothing."
    message = f"{said} The last known reason: {claim.reason}" if claim.reason else said
    code = claim.reason_code
    return _failed(known_error({"code": code, "message": message}) if code else InternalError(message))
