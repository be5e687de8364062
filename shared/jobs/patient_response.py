"""
The context of a job of `respond` at a patient price: its response is the answer to a line of a batch.

What no batch does in time is bought at the list price, as `respond` does it: with a step before its creation, and made
in the background.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.actions.operation import JsonOperation, not_final
from shared.errors import RequestRejected
from shared.jobs.batch_context import BatchContext
from shared.jobs.context import ActionContext
from shared.jobs.response_context import BACKGROUND, ResponseContext
from shared.upstream.messages import Response


@dataclass(slots=True)
class PatientResponseContext(ResponseContext, BatchContext):
    """See above."""

    buys_now: bool = False
    """Whether no batch is in time."""

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
        operation = await make()
        response = await self.answer(operation)
        if response is not None:
            return response, operation.adapted
        self.buys_now = True
        return await ResponseContext.create(self, make)


def patient_context(context: ActionContext) -> PatientResponseContext:
    """Return the context of a job of `respond` that has this one as any other action would."""
    assert isinstance(context, BatchContext)  # noqa: S101  # see `Executor`
    return PatientResponseContext(
        context.services,
        context.attempt,
        context.steps,
        context.connection,
        context.output_limit,
        lines=context.lines,
        is_suspended=context.is_suspended,
    )
