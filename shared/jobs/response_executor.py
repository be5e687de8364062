"""
The execution of an attempt of `respond`, or of a chat that may be a response: it creates a response, or goes on with
one of an earlier attempt.

However the job ends, what it may have bought is on record: with its answer's usage, or as a call without an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import cast

from shared.actions import chat_in_background, cheapest_chat
from shared.actions.base import Action, Completed, Deferred, Outcome
from shared.billing.usage import UNANSWERED, Call
from shared.connections.connection import Connection
from shared.contract.job import Job
from shared.contract.processing import PATIENT
from shared.contract.result import Result
from shared.errors import RetryLater
from shared.jobs.attempt import Attempt
from shared.jobs.context import ActionContext
from shared.jobs.executor import Executor
from shared.jobs.lease import Lease
from shared.jobs.message import DecodedJob, Work
from shared.jobs.outcomes import outcome_of
from shared.jobs.pending_response import PendingResponse, lost_too_often
from shared.jobs.response_context import ResponseContext
from shared.jobs.response_rows import ResponseRows
from shared.jobs.response_steps import ResponseSteps
from shared.jobs.steps import Steps


@dataclass(frozen=True)
class ResponseExecutor(Executor):
    """Executes attempts of `respond`, and of chats that may be responses."""

    async def execute(self, job: Job, lease: Lease, work: Work, attempt: Attempt | None = None) -> bytes:
        """See Executor. A chat is run as a response, or may be."""
        if isinstance(work, DecodedJob) and job.action == "chat":
            action = cheapest_chat if job.options.processing == "cheapest" else chat_in_background
            work = replace(work, action=cast(Action, action))
        return await super().execute(job, lease, work, attempt)

    async def _outcome_without_run(self, attempt: Attempt, steps: Steps, work: Work) -> Outcome | None:
        own = ResponseSteps(attempt, steps)
        own.keep_reservation(is_bought=True)  # until it is known
        outcome = await super()._outcome_without_run(attempt, steps, work)
        try:
            creations = await own.read()
            own.keep_reservation(is_bought=creations.last is not None)
            if creations.last is None:
                return outcome or lost_too_often(attempt, creations.lost)
            attempt.usage.leave_out_crashed_attempts()  # since it was begun, they have only looked at it
            # What is at the provider is read, whatever has become of the job's input meanwhile.
            is_readable = bool(creations.last.response_id) and isinstance(work, Exception)
            is_kept = is_readable and not attempt.lease.cancelled
            ends = None if isinstance(outcome, Deferred) or is_kept else outcome
            pending = PendingResponse(self.services, attempt, own, creations, creations.last, ends)
            return await pending.resume() or outcome
        except Exception as exc:  # noqa: BLE001  # see `Executor.execute`
            return outcome_of(exc, attempt)

    async def _open_context(
        self, attempt: Attempt, steps: Steps, work: DecodedJob, connection: Connection | None
    ) -> ActionContext:
        context = await super()._open_context(attempt, steps, work, connection)
        if attempt.job.options.processing in PATIENT:
            from shared.jobs.cheapest_chat import CheapestChatContext  # noqa: PLC0415  # few jobs can wait
            from shared.jobs.patient_response import PatientResponseContext, patient_context  # noqa: PLC0415

            is_chat = work.action is cast(Action, cheapest_chat)
            return patient_context(context, CheapestChatContext if is_chat else PatientResponseContext)
        return ResponseContext(self.services, attempt, steps, context.connection, context.output_limit)

    async def _close(self, attempt: Attempt, steps: Steps, outcome: Completed) -> bytes:
        own = ResponseSteps(attempt, steps)
        last = (await attempt.with_retries(own.read)).last
        if last is not None and last.in_background:
            # In the transaction that ends the job: before, another attempt would create another response.
            calls = outcome.calls or [replace(UNANSWERED, metered_as=f"creation-{last.name}")]
            attempt.usage.fetched.update(call.metered_as for call in calls)
            outcome = replace(outcome, calls=calls)
        return await super()._close(attempt, steps, outcome)

    async def _end(self, attempt: Attempt, result: Result, result_body: bytes, calls: Sequence[Call]) -> bytes:
        body = await super()._end(attempt, result, result_body, calls)
        own = ResponseSteps(attempt, Steps(attempt, self.services.outputs, self.services.inputs.reserve))
        with suppress(RetryLater):  # then the sweep does it
            job, created, rows = attempt.job, await own.names(), ResponseRows(self.services.schedule.table)
            for connection in [job.connection] if isinstance(job.connection, str) else job.connection:
                await rows.forget(job.customer, connection, created)
        return body
