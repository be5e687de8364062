"""
What becomes of a job that names several connections: the next one is used if the one before can't serve it.

A connection that was skipped stays so for the job: its row says so before the next one is called. What the skipped one
was asked for is recorded as its own: an attempt that has such records to write, or has reserved of budgets, ends, and
the next one goes on with the next connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from shared.actions.base import Completed, Deferred, Outcome
from shared.billing.reserved_amounts import read_reserved_for
from shared.connections.connection import OtherModel
from shared.contract.job import Job
from shared.contract.result import ConnectionLabel, SkippedConnection
from shared.errors import (
    AccountBlocked,
    ConnectionFault,
    CredentialRejected,
    JobError,
    ModelNotFound,
    ProviderUnavailable,
    QuotaExhausted,
    RateLimited,
    RetryLater,
    StorageUnavailable,
    UpstreamError,
    UpstreamRetryLater,
    UpstreamTimeout,
)

if TYPE_CHECKING:
    from shared.jobs.attempt import Attempt
    from shared.jobs.base import JobServices
    from shared.jobs.context import ActionContext

OF_CONNECTION = (CredentialRejected, AccountBlocked, ModelNotFound, QuotaExhausted)
"""What one call meets that all others on its connection would meet as well."""
OF_CALL = (ProviderUnavailable, RateLimited)
"""What others need not meet, and which another connection may not have."""
_NEXT_S = 1.0


class NextConnection(RetryLater):
    """The job goes on with another connection, which has all of its retries."""

    retries = 0


def current(attempt: Attempt) -> str:
    """Return the name of the connection that the job is to use now: that of its batch, if it has one."""
    lease = attempt.lease
    bought_for = read_reserved_for(lease.reserved_for) if lease.lines else None
    return bought_for.connection.name if bought_for is not None else _left(attempt.job, attempt.usage.skipped)[0]


def unresolved(job: Job, skipped: str) -> ConnectionLabel:
    """Return what is said of a job's connection as long as it is not resolved. `skipped`: see Lease."""
    name = _left(job, skipped)[0]
    return ConnectionLabel(name=name, source="key_vault", provider="unknown", billed_to="customer")


def read_skipped(skipped: str) -> list[SkippedConnection]:
    """Return the connections that could not serve a job. `skipped`: see Lease."""
    return msgspec.json.decode(skipped, type=list[SkippedConnection]) if skipped else []


async def skip(
    services: JobServices, attempt: Attempt, outcome: Outcome, context: ActionContext | None
) -> Outcome | None:
    """
    Return None if the attempt goes on with the next connection; else its outcome, which may be to let another do.

    `context`: that in which the action ran, if it did. Raises LeaseLost.
    """
    usage = attempt.usage
    left, error = _left(attempt.job, usage.skipped), _reason(services, attempt, outcome, context)
    if error is None or len(left) == 1 or attempt.lease.lines or not attempt.time.allows(_NEXT_S):
        return outcome
    usage.label = usage.label or unresolved(attempt.job, usage.skipped)
    usage.skipped = msgspec.json.encode([*read_skipped(usage.skipped), SkippedConnection(left[0], error.code)]).decode()
    reason: RetryLater = NextConnection(str(error), _NEXT_S)
    if isinstance(error, UpstreamError):
        reason = UpstreamRetryLater(error, _NEXT_S, retries=0)
    if attempt.budgets is None and not len(usage) and not attempt.lease.retries:
        try:
            await attempt.renew(skipped=usage.skipped)  # if this worker dies, its calls are the next one's
        except StorageUnavailable as exc:
            reason = exc
        else:
            attempt.connection = usage.label = usage.model = usage.deployment_scope = None
            return None
    return Deferred(reason, outcome.fallback if isinstance(outcome, Deferred) else outcome)


def _reason(
    services: JobServices, attempt: Attempt, outcome: Outcome, context: ActionContext | None
) -> JobError | None:
    """Return why the connection can't serve the job, or the rest of it; None if it can, or no other one could."""
    if isinstance(outcome, Completed):
        if isinstance(outcome.error, ConnectionFault | OtherModel):
            return ModelNotFound(str(outcome.error)) if isinstance(outcome.error, OtherModel) else outcome.error
        if context is None or outcome.status == "succeeded" or outcome.calls:
            return None
        # Not the outcome's own error: it may be one of several, or of a call that was answered, and bought.
        error = context.stopped if isinstance(context.stopped, OF_CONNECTION) else context.failed
        return outcome.error if error is None and _was_never_sent(outcome.error) else error
    wait, connection = outcome.reason, attempt.connection
    if connection is None or not isinstance(wait, UpstreamRetryLater):
        return None
    if not (isinstance(wait.reason, OF_CONNECTION + OF_CALL) or _was_never_sent(wait.reason)):
        return None
    breaker = services.breakers.of(connection.customer, connection.name, connection.version)
    return wait.reason if breaker.state == "open" or not attempt.time.allows(wait.delay_s) else None


def _was_never_sent(error: JobError | None) -> bool:
    """Return whether a connection could not be reached within the time of a call, which so can't have been bought."""
    return isinstance(error, UpstreamTimeout) and error.facts.unsent


def _left(job: Job, skipped: str) -> list[str]:
    """Return the connections that a job has left, the current one first."""
    names, gone = job.connection, {each.name for each in read_skipped(skipped)}
    return [name for name in ([names] if isinstance(names, str) else names) if name not in gone]
