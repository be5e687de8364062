"""The execution of one attempt: connection ► action ► outcome ► result ► done and billed, while the lease holds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import NoReturn

import msgspec

from shared.actions.base import WITHOUT_CONNECTION, Completed, Deferred, Outcome, failed
from shared.billing.usage import Call, as_lost
from shared.clock import now
from shared.connections.connection import Connection
from shared.contract.job import Job
from shared.contract.processing import PATIENT
from shared.contract.result import Result, encode_result
from shared.errors import (
    AlreadyRunning,
    CustomerSuspended,
    DeadlinePassed,
    InternalError,
    JobCancelled,
    LeaseLost,
    RetryLater,
    StorageUnavailable,
)
from shared.event_names import JOB_FINISHED, NAMESPACE, USAGE_NOT_RECORDED
from shared.jobs.attempt import Attempt
from shared.jobs.base import BatchWait, JobServices
from shared.jobs.context import ActionContext
from shared.jobs.crash_log import CRASHED, log_crash, log_text
from shared.jobs.fallback import current, skip
from shared.jobs.lease import Lease
from shared.jobs.message import DecodedJob, Work
from shared.jobs.outcomes import deferred, given_up, is_key_rejected, outcome_of, result_of
from shared.jobs.steps import Steps

MAX_FAILED_ATTEMPTS = 5
"""Failed attempts after which a job is given up."""

log = logging.getLogger(NAMESPACE)


@dataclass(frozen=True, slots=True)
class Executor:
    """Executes attempts. `requeue` sends the job's next message, and raises StorageUnavailable."""

    services: JobServices
    requeue: Callable[[RetryLater], Awaitable[None]]

    async def execute(self, job: Job, lease: Lease, work: Work, attempt: Attempt | None = None) -> bytes:
        """
        Run one attempt of the job, and return the result, encoded, once it is stored and its calls are billed.

        The job ends without `work` if it was cancelled, an earlier attempt has stored its outcome, or too many attempts
        have failed. `attempt` is the one whose claim has reserved of budgets, if it has. Raises RetryLater if the job
        has to wait and was released, LeaseLost if another worker has taken it over.
        """
        age_s = (lease.started_at - lease.submitted_at).total_seconds()
        self.services.telemetry.attempt_started(job, lease.attempt, age_s)
        attempt = attempt or Attempt(job, lease, self.services.ledger)
        if lease.reservation:  # of an earlier attempt
            from shared.jobs.reservation import restore  # noqa: PLC0415

            restore(self.services, attempt)
        steps = Steps(attempt, self.services.outputs, self.services.inputs.reserve)
        try:
            async with attempt:
                attempt.usage.pricing = await self.services.job_prices.read(job.customer)
                outcome, connection = await self._outcome_without_run(attempt, steps, work), None
                while outcome is None and isinstance(work, DecodedJob):
                    context = None
                    try:
                        context = await self._open_context(attempt, steps, work, connection)
                        outcome = await work.action.run(work.request, context)
                    except Exception as exc:  # noqa: BLE001  # the job ends with a result, whatever it is
                        outcome = outcome_of(exc, attempt)
                    if context is not None and connection is None and is_key_rejected(outcome):
                        connection, outcome = await self._with_new_key(context, outcome)
                    if outcome is not None and not isinstance(job.connection, str):
                        connection, outcome = None, await skip(self.services, attempt, outcome, context)
                assert outcome is not None  # noqa: S101  # without work there is one
                return await self._finish(attempt, steps, outcome)
        except LeaseLost:
            await self._record_usage(attempt)
            raise

    async def _outcome_without_run(self, attempt: Attempt, steps: Steps, work: Work) -> Outcome | None:  # noqa: PLR0911
        lease = attempt.lease
        if lease.cancelled:
            return failed(JobCancelled("The job was cancelled before it finished."))
        try:
            stored = await steps.get_outcome()
        except StorageUnavailable as exc:
            return deferred(exc)
        if stored is not None:
            return stored
        is_given_up, in_time = work is None or lease.failed_attempts >= MAX_FAILED_ATTEMPTS, attempt.time.allows()
        if is_given_up and (in_time or lease.failed_attempts or lease.reason):
            return given_up(lease)
        if not in_time and not lease.lines:  # else its batch may have ended in time
            message = f"The job's deadline of {attempt.job.options.lasts_s:g} s passed before an attempt could start."
            return failed(DeadlinePassed(message))
        if isinstance(work, DecodedJob) and attempt.job.action in WITHOUT_CONNECTION:
            from shared.jobs.month_closing import close_month  # noqa: PLC0415  # once a month

            return await close_month(self.services, attempt, work)
        return outcome_of(work, attempt) if isinstance(work, Exception) else None

    async def _open_context(
        self, attempt: Attempt, steps: Steps, work: DecodedJob, connection: Connection | None
    ) -> ActionContext:
        job, record = attempt.job, None
        if connection is None:
            record = await self.services.customer_records.recent(job.customer)
            if record.state == "suspended" and not attempt.lease.lines:  # what is at the provider is still read
                raise CustomerSuspended(f"Customer {job.customer} is suspended, so its jobs are not run.")
            name = job.connection if isinstance(job.connection, str) else current(attempt)
            connection = attempt.connection or await self.services.connections.resolve(job.customer, name)
        connection.check_job(job.action, job.options)
        if attempt.connection is not connection:
            attempt.use(connection, needs_model=work.action.NEEDS_MODEL)
        if job.output.blob or work.action.keeps_blobs(work.request):
            await self.services.outputs.check_writable()
        has_reserved = attempt.budgets is not None and attempt.budgets.held and not attempt.budgets.is_restored
        if record is not None and not has_reserved and (record.budgets_json or connection.monthly_budget is not None):
            from shared.jobs.reservation import reserve  # noqa: PLC0415  # most customers have no budget

            await reserve(self.services, attempt, connection, work.request, record.budgets)
        limit = attempt.budgets.output_limit if attempt.budgets else None
        if job.options.processing in PATIENT:
            from shared.jobs.batch_context import open_batch_context  # noqa: PLC0415  # few jobs can wait

            is_suspended = record is not None and record.state == "suspended"
            return await open_batch_context(self.services, attempt, steps, connection, limit, is_suspended)
        return ActionContext(self.services, attempt, steps, connection, limit)

    async def _with_new_key(self, context: ActionContext, outcome: Outcome) -> tuple[Connection | None, Outcome | None]:
        """Return the connection with its new key if the refused one was rotated, else the outcome."""
        try:
            connection = await self.services.connections.find_rotated(context.connection)
        except Exception as exc:  # noqa: BLE001  # see `execute`
            return None, outcome_of(exc, context.attempt)
        if connection is None:
            return None, outcome
        context.attempt.usage.discard_responses()
        return connection, None

    async def _finish(self, attempt: Attempt, steps: Steps, outcome: Outcome) -> bytes:
        """Release the job or end it with its outcome. Raises as `execute`."""
        if isinstance(outcome, Deferred):
            if isinstance(outcome.reason, BatchWait):
                await self._wait_for_batch(attempt, outcome.reason)
            if attempt.time.allows(outcome.reason.delay_s - outcome.reason.stops_clock_s):
                reason = await self.services.drain.hand_over(outcome.reason, self.requeue)
                await attempt.release(reason)
                raise reason
            outcome = outcome.fallback
        try:
            return await self._close(attempt, steps, outcome)
        except BatchWait as wait:
            await self._wait_for_batch(attempt, wait)
        except (RetryLater, LeaseLost):
            raise
        except Exception as exc:  # noqa: BLE001  # see `execute`
            log_crash(exc, str(attempt))
            attempt.usage.discard_responses()
            result = result_of(attempt, failed(InternalError(CRASHED)), now())
            return await self._end(attempt, result, encode_result(result), ())

    async def _wait_for_batch(self, attempt: Attempt, wait: BatchWait) -> NoReturn:
        try:
            await wait.wait()
        except StorageUnavailable as exc:
            await attempt.release(exc)
            raise
        raise wait

    async def _close(self, attempt: Attempt, steps: Steps, outcome: Completed) -> bytes:
        """Save the result, and end the job with it."""
        if attempt.lease.lines:
            from shared.jobs.batch_context import unread_calls  # noqa: PLC0415

            unread = await attempt.with_retries(partial(unread_calls, self.services, attempt, outcome.calls))
            attempt.usage.add_unsettled_calls(unread)
        calls = outcome.calls
        await attempt.stored_steps()  # an earlier attempt may have been billed, even if this one made no call
        self._note_breaker(attempt)
        result = result_of(attempt, outcome, now())
        result_body = encode_result(result)
        try:
            if not self.services.outputs.is_inline(attempt.job, result_body):
                await asyncio.sleep(0)  # encoding a large result has taken a moment, and the next one follows
                if calls:
                    calls = ()
                    await steps.save_outcome(outcome)
                    attempt.usage.responses.clear()
                save = partial(self.services.outputs.save, attempt.job, result, result_body)
                result_body = await attempt.with_retries(save)
        except StorageUnavailable as exc:
            if attempt.time.allows_saving() and attempt.lease.failed_attempts < MAX_FAILED_ATTEMPTS:
                await attempt.release(exc)
                raise
            result = result_of(attempt, failed(InternalError(f"The job's result could not be saved: {exc}")), now())
            result_body, calls = encode_result(result), ()
        return await self._end(attempt, result, result_body, calls)

    async def _end(self, attempt: Attempt, result: Result, result_body: bytes, calls: Sequence[Call]) -> bytes:
        """End the job with its result and its usage records, and report that."""
        ended_at = now()
        try:
            await attempt.complete(result_body, result.status, calls, ended_at)
        except LeaseLost:
            attempt.usage.add_unsettled_calls(as_lost(calls))
            raise
        code = result.error.code if result.error else None
        self.services.telemetry.job_finished(attempt.job.customer, attempt.job.action, result.status, code)
        log.info(
            "%s %s action=%s status=%s code=%s attempt=%d calls=%d input_tokens=%d output_tokens=%d run_ms=%d",
            *(JOB_FINISHED, attempt, attempt.job.action, result.status, code or "-", attempt.lease.attempt),
            result.usage.calls,
            result.usage.input_tokens or 0,  # unknown ones add nothing to the sums of the log's queries
            result.usage.output_tokens or 0,
            (ended_at - attempt.lease.started_at) / timedelta(milliseconds=1),
        )
        return result_body

    def _note_breaker(self, attempt: Attempt) -> None:
        label, connection = attempt.usage.label, attempt.connection
        if label is None or connection is None:
            return
        state = self.services.breakers.of(attempt.job.customer, label.name, connection.version).state
        if state != "closed":
            attempt.usage.label = msgspec.structs.replace(label, breaker=state)

    async def _record_usage(self, attempt: Attempt) -> None:
        if attempt.lease.unwritten is not None:  # its calls are those of lines, which the other worker records
            raise AlreadyRunning(f"Another worker has just claimed job {attempt.job.id}.", 1) from None
        try:
            await attempt.with_retries(attempt.settle)
        except StorageUnavailable as exc:
            log.error("%s %s: %s", USAGE_NOT_RECORDED, attempt, log_text(exc))  # noqa: TRY400  # the sentence says it all
