"""The run of a job that closes a month: it needs no connection (see `actions.statement`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from shared.actions.base import Outcome
from shared.jobs.attempt import Attempt
from shared.jobs.base import JobServices
from shared.jobs.message import DecodedJob
from shared.jobs.outcomes import outcome_of

if TYPE_CHECKING:
    from shared.billing.closing import Closing


class _ClosingContext(NamedTuple):
    """See `actions.statement`."""

    customer: str
    closing: Closing


async def close_month(services: JobServices, attempt: Attempt, work: DecodedJob) -> Outcome:
    """Return the outcome of the attempt. Raises LeaseLost."""
    context: Any = _ClosingContext(attempt.job.customer, services.closing)
    try:
        async with services.drain.call():  # a stop ends it at once: it continues like one whose worker died
            return await work.action.run(work.request, context)
    except Exception as exc:  # noqa: BLE001  # the job ends with a result, whatever it is
        return outcome_of(exc, attempt)
