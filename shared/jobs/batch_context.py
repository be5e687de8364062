"""
The context of a job whose calls wait for a batch of its provider. See `actions.base.Context`.

A call that has a line with an answer gets it. Others ask for a line and raise BatchWait; the attempt ends when all
parts of the action have got so far. When the batch has ended, the next attempt runs the action again: it makes the same
calls in the same steps, so a line is known by the step and by the number of its call there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from shared.actions.operation import JsonOperation, not_final
from shared.billing.reserved_amounts import read_reserved_for
from shared.billing.usage import Call, as_lost
from shared.connections.connection import Connection
from shared.errors import (
    CustomerSuspended,
    InvalidJob,
    RequestRejected,
    UpstreamError,
    UpstreamTimeout,
)
from shared.jobs.attempt import OUTCOME_STEP, Attempt
from shared.jobs.base import BatchWait, JobServices
from shared.jobs.context import ActionContext
from shared.jobs.line_calls import call_of_line, check_operation, response_of, unanswered
from shared.jobs.lines import ABSENT, BUY_BEFORE_S, UNDONE, Answer, Line, LineRecord, digest, is_line, served_by
from shared.jobs.list_price import buy_now
from shared.jobs.steps import Steps, current_step
from shared.upstream.messages import Operation, Response
from shared.upstream.retry import RetryState

BATCHED = frozenset({"chat/completions", "completions", "embeddings", "messages", "responses"})
"""The operations that providers run in batches, whether or not the app has them run there (see `eligibility`)."""
MIN_LEFT_S = 1800.0
"""Before its deadline, a job asks for no further lines: a batch would hardly end in time."""
MIN_BATCH_S = 900.0
"""What a batch is expected to take as long as the connection has not shown it."""


@dataclass(slots=True)
class BatchContext(ActionContext):
    """See above. `lines`: those that the job has, by their keys."""

    lines: Mapping[str, LineRecord] = field(default_factory=dict)
    is_suspended: bool = False
    wanted: list[Line] = field(default_factory=list)
    """What calls of this attempt have asked for."""
    _calls: Counter[str] = field(default_factory=Counter)
    _bought: set[str] = field(default_factory=set)
    """Steps of which a call was too late for a batch: so are its next ones, lest a line follows one that is missing."""

    def operation(
        self,
        name: str,
        body: dict[str, Any],
        *,
        droppable: frozenset[str] = frozenset(),
        is_final: Callable[[RequestRejected], bool] = not_final,
    ) -> JsonOperation:
        """See Context. A batch may have a deployment of its own."""
        batch_model = self.connection.batch_model
        if batch_model:
            body = {**body, "model": batch_model}
        return ActionContext.operation(self, name, body, droppable=droppable, is_final=is_final)

    async def step_keys(self) -> Collection[str]:
        """See Context. What has a line was begun, too; the only call of a job without steps is named `whole`."""
        return {key.partition("~")[0] or "whole" for key in self.lines}.union(await ActionContext.step_keys(self))

    async def call(self, operation: Operation) -> Response:
        """Return the answer of the call's line. Raises BatchWait if there is none yet; else as Context."""
        operation = batched(operation)
        response = await self.answer(operation)
        return await buy_now(self, operation) if response is None else response

    async def answer(self, operation: JsonOperation) -> Response | None:
        """As `call`; None if no batch would be in time, and the job is to be done all the same."""
        retries = RetryState(self.attempt.job.options)
        while True:
            key = self._next_key()
            line = self.lines.get(key)
            if line is None:
                step = current_step.get()
                if self._is_cheapest and (step in self._bought or not self._batch_is_in_time(operation)):
                    self._bought.add(step)
                    return None
                self._want(key, operation)
            if line is None or line.answer is None:
                raise BatchWait("The job waits for a batch of its provider.", self._wait_for_batch)
            try:
                response = response_of(line)
            except UpstreamError as error:
                self._record_unanswered_line(line, error)
                if operation.adapt(error):
                    continue
                if operation.is_final(error):
                    raise
                if isinstance(error, RequestRejected) and line.digest != digest(operation.request.content):
                    continue  # an earlier attempt asked for something else
                if not self._may_repeat(line.answer, error, retries):
                    raise
                continue
            self._check_operation(line, operation, response)
            return response

    def _check_operation(self, line: LineRecord, operation: JsonOperation, response: Response) -> None:
        """Raise RequestRejected if another operation was answered. That one then takes the line."""
        if line.digest == digest(operation.request.content):
            return
        try:
            check_operation(operation.name, response, has_tools="tools" in operation.body)
        except RequestRejected:
            self._calls[current_step.get()] -= 1
            raise

    async def _wait_for_batch(self) -> None:
        pending = {line.batch for line in self.lines.values() if line.answer is None}
        await self.services.batches.wait(self.attempt, self.wanted, pending, stepless=_is_stepless(self.attempt))

    @property
    def _has_next_line(self) -> bool:
        step = current_step.get()
        return f"{step}~{self._calls[step] + 1}" in self.lines

    def _next_key(self) -> str:
        step = current_step.get()
        self._calls[step] += 1
        return f"{step}~{self._calls[step]}"

    @property
    def _is_cheapest(self) -> bool:
        return self.attempt.job.options.processing == "cheapest"

    def _batch_is_in_time(self, operation: JsonOperation) -> bool:
        """Return whether a batch can be expected to end before the job has to be bought otherwise."""
        if self.is_suspended or self.services.batches.refusal(self.connection, operation.name):
            return self.is_suspended  # then nothing is bought at all
        took_s = self.services.capabilities.batch_seconds(*self.connection.identity, operation.name)
        return self.attempt.time.seconds_left() - (took_s or MIN_BATCH_S) > BUY_BEFORE_S

    def _want(self, key: str, operation: JsonOperation) -> None:
        """Ask for a line. Raises JobError if it can't be bought."""
        if self.attempt.lease_lost is not None:
            raise self.attempt.lease_lost
        if self.is_suspended:
            raise CustomerSuspended(f"Customer {self.connection.customer} is suspended, so its jobs are not run.")
        if reason := self.services.batches.refusal(self.connection, operation.name):
            raise InvalidJob(f"`options.processing` can't be batch: {reason}")
        if self.attempt.time.seconds_left() < MIN_LEFT_S:
            raise UpstreamTimeout("The job's deadline is too near for a batch of its provider.")
        self.wanted.append(Line(key, operation.name, operation.request.content))

    def _may_repeat(self, answer: Answer, error: UpstreamError, retries: RetryState) -> bool:
        """Return whether another line may be asked for after this one failed, or was when there was more time."""
        if answer.error_code in UNDONE | ABSENT and self._is_cheapest:
            return True  # it is decided anew how
        if answer.error_code in UNDONE:
            return self._has_next_line or self.attempt.time.seconds_left() >= MIN_LEFT_S
        return answer.error_code not in ABSENT and retries.decide(error) is not None

    def _record_unanswered_line(self, line: LineRecord, error: UpstreamError) -> None:
        if error.facts.unanswered:
            call = unanswered(line, error)
            self.attempt.usage.add_unsettled_calls([call])


def batched(operation: Operation) -> JsonOperation:
    """Return an operation that batches can have. Raises InvalidJob for others."""
    if not isinstance(operation, JsonOperation) or operation.name not in BATCHED:
        raise InvalidJob("`options.processing` must be standard: this action's calls can't wait for a batch.")
    return operation


async def unread_calls(services: JobServices, attempt: Attempt, calls: Sequence[Call]) -> list[Call]:
    """
    Return the calls of the job's answered lines that are not among those that it ends with: they are billed, too.

    Raises BatchWait if others may still be answered, since the job then ends later; StorageUnavailable.
    """
    if attempt.budgets is None:  # else its end also changes budgets' rows, by a ledger of its own
        attempt.ledger = services.batches.ledger
    usage, bought_for = attempt.usage, read_reserved_for(attempt.lease.reserved_for)
    if usage.label is None and bought_for is not None:  # it ends without its connection
        usage.label, usage.model = bought_for.connection, bought_for.model
        usage.deployment_scope = bought_for.deployment_scope
    steps = {step.key for step in await attempt.stored_steps()} | attempt.saved
    if OUTCOME_STEP in steps:
        return []  # they are on record with it
    lines = await _read_lines(services, attempt)
    usage.served = served_by(lines.values())
    pending = {line.batch for line in lines.values() if line.answer is None}
    if pending:
        # What no line stands for is not received again.
        usage.add_unsettled_calls(as_lost([call for call in calls if not is_line(call)]))
        wait = partial(services.batches.wait, attempt, (), pending, stepless=_is_stepless(attempt))
        raise BatchWait("The job ends with its batch, which is at the provider.", wait)
    recorded = {call.metered_as for call in calls} | usage.metered
    unread = (
        line for key, line in lines.items() if line.metered_as not in recorded and key.partition("~")[0] not in steps
    )
    return [call for line in unread if (call := call_of_line(line)) is not None]


async def _read_lines(services: JobServices, attempt: Attempt) -> Mapping[str, LineRecord]:
    column, lines = attempt.usage.answered_lines
    if column != attempt.lease.lines:
        lines = await services.batches.lines(attempt)
        if all(line.answer is not None for line in lines.values()):
            attempt.usage.answered_lines = attempt.lease.lines, lines
    return lines


def _is_stepless(attempt: Attempt) -> bool:
    lease = attempt.lease
    return (lease.attempt == 1 or lease.is_stepless) and not attempt.saved


async def open_batch_context(
    services: JobServices, attempt: Attempt, steps: Steps, connection: Connection, limit: int | None, is_suspended: bool
) -> BatchContext:
    """Return the context of an attempt, with the lines that its job has. Raises StorageUnavailable."""
    lines = await _read_lines(services, attempt)
    attempt.usage.served = served_by(lines.values())
    return BatchContext(services, attempt, steps, connection, limit, lines=lines, is_suspended=is_suspended)
