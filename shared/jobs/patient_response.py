"""
The context of a job at a patient price whose response is the answer to a line of a batch, or made in a window of hours.

What nothing cheaper does in time is bought at the list price, as `respond` does it: with a step before its creation,
and made in the background.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.actions.operation import JsonOperation, not_final
from shared.errors import InvalidJob, RequestRejected, UpstreamError
from shared.jobs.batch_context import BatchContext
from shared.jobs.context import ActionContext
from shared.jobs.response_context import BACKGROUND, ResponseContext, ResponseOperation
from shared.jobs.response_steps import ResponseSteps
from shared.jobs.windows import LENGTH, OPTIONS, Window, refuse, window_for
from shared.upstream.messages import Response


@dataclass(slots=True)
class PatientResponseContext(ResponseContext, BatchContext):
    """See above."""

    buys_now: bool = False
    """Whether it is in no batch."""
    is_last_try: bool = False
    """Whether no other response may be created after the next one, which then is in no window if it need not be."""

    def operation(
        self,
        name: str,
        body: dict[str, Any],
        *,
        droppable: frozenset[str] = frozenset(),
        is_final: Callable[[RequestRejected], bool] = not_final,
    ) -> JsonOperation:
        """See Context. A batch is in the background already."""
        if self.buys_now:
            return ActionContext.operation(self, name, body, droppable=droppable, is_final=is_final)
        line = {member: value for member, value in body.items() if member != BACKGROUND}
        return BatchContext.operation(self, name, line, droppable=droppable, is_final=is_final)

    async def create(self, make: Callable[[], Awaitable[JsonOperation]]) -> tuple[Response, Sequence[str]]:
        """See `actions.respond.ResponseCreator`."""
        if self._may_be_line:
            operation = await make()
            response = await self.answer(operation)
            if response is not None:
                return response, operation.adapted
        await self.leave_batches()
        return await ResponseContext.create(self, make)

    async def leave_batches(self) -> None:
        """Take no line of a batch from now on. Raises StorageUnavailable."""
        lost = (await ResponseSteps(self.attempt, self.steps).read()).lost
        self.buys_now, self.is_last_try = True, lost >= max(self.attempt.job.options.max_retries, 1)

    def members(self, operation: ResponseOperation) -> Mapping[str, Any]:
        """See ResponseContext. Which window it is."""
        window = self.window() if operation.in_background else None
        if window is None and not self._may_be_line:
            raise InvalidJob(f"`options.processing` can't be background: {self._reason(operation)}")
        return {OPTIONS: {LENGTH: window.length} if window else None}

    def window(self) -> Window | None:
        """Return the window that the job may have now, if there is one."""
        if self.is_last_try and self._may_be_line:
            return None
        return window_for(self.attempt.job.options, self.attempt.time.seconds_left(), self.capabilities)

    def goes_on(self, operation: ResponseOperation, error: UpstreamError) -> bool:
        """See ResponseContext. The next window is tried, or none."""
        if not operation.is_window_refused(error):
            return ResponseContext.goes_on(self, operation, error)
        refuse(operation.processing, self.capabilities)
        return True

    @property
    def _may_be_line(self) -> bool:
        return self.attempt.job.options.processing != "background"

    def _reason(self, operation: ResponseOperation) -> str:
        if False in (operation.body.get(BACKGROUND), operation.body.get("store")):
            return "`input.parameters` has `background` or `store` false, and what waits is stored."
        return (
            f"the model {self.model} of the connection {self.connection.name} makes nothing in the background for less."
        )


def patient_context(
    context: ActionContext, kind: type[PatientResponseContext] = PatientResponseContext
) -> PatientResponseContext:
    """Return the context of a job that creates a response and has this one as any other job would."""
    assert isinstance(context, BatchContext)  # noqa: S101  # see `Executor`
    return kind(
        context.services,
        context.attempt,
        context.steps,
        context.connection,
        context.output_limit,
        lines=context.lines,
        is_suspended=context.is_suspended,
    )
