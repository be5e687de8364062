"""
What becomes of a job that names several connections: the next one is used if the one before can't serve it.

A connection that was skipped stays so for the job. What it was asked for is recorded as its own: an attempt that has
such records to write, or has reserved of budgets, ends, and the next one goes on with the next connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from shared.actions.base import Completed, Deferred, Outcome
from shared.billing.reserved_amounts import read_reserved_for
from shared.contract.result import SkippedConnection
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
    UpstreamError,
    UpstreamRetryLater,
)

if TYPE_CHECKING:
    from shared.jobs.attempt import Attempt
    from shared.jobs.base import JobServices
    from shared.jobs.context import ActionContext

_CAN_NOT_SERVE = (
    *(ConnectionFault, CredentialRejected, AccountBlocked, ModelNotFound),
    *(ProviderUnavailable, QuotaExhausted, RateLimited),
)
_NEXT_S = 1.0


def current(attempt: Attempt) -> str:
    """Return the name of the connection that the job is to use now: that of its batch, if it has one."""
    lease = attempt.lease
    bought_for = read_reserved_for(lease.reserved_for) if lease.lines else None
    return bought_for.connection.name if bought_for is not None else _left(attempt)[0]


def skip(services: JobServices, attempt: Attempt, outcome: Outcome, context: ActionContext | None) -> Outcome | None:
    """
    Return None if the attempt goes on with the next connection; else its outcome, which may be to let another do.

    `context`: that in which the action ran, if it did.
    """
    left, error = _left(attempt), _reason(services, attempt, outcome, context.stopped if context else None)
    if error is None or len(left) == 1 or attempt.lease.lines:
        return outcome
    skipped = [*_skipped(attempt), SkippedConnection(left[0], error.code)]
    usage = attempt.usage
    usage.skipped = msgspec.json.encode(skipped).decode()
    if attempt.budgets is None and not len(usage) and not attempt.lease.retries:
        attempt.connection = usage.label = usage.model = usage.deployment_scope = None
        return None
    reason = RetryLater(str(error), _NEXT_S)
    if isinstance(error, UpstreamError):
        reason = UpstreamRetryLater(error, _NEXT_S, retries=0)
    return Deferred(reason, outcome.fallback if isinstance(outcome, Deferred) else outcome)


def _reason(services: JobServices, attempt: Attempt, outcome: Outcome, stopped: Exception | None) -> JobError | None:
    """Return why the connection can't serve the job, or the rest of it; None if it can, or no other one could."""
    if isinstance(outcome, Completed):
        error = outcome.error or (stopped if outcome.status == "partial" else None)
        return error if isinstance(error, _CAN_NOT_SERVE) and not outcome.calls else None
    wait, connection = outcome.reason, attempt.connection
    if not isinstance(wait, UpstreamRetryLater) or not isinstance(wait.reason, _CAN_NOT_SERVE) or connection is None:
        return None
    breaker = services.breakers.of(connection.customer, connection.name, connection.version)
    return wait.reason if breaker.state == "open" or not attempt.time.allows(wait.delay_s) else None


def _left(attempt: Attempt) -> list[str]:
    """Return the connections that the job has left, the current one first."""
    names = attempt.job.connection
    skipped = {each.name for each in _skipped(attempt)}
    return [name for name in ([names] if isinstance(names, str) else names) if name not in skipped]


def _skipped(attempt: Attempt) -> list[SkippedConnection]:
    return msgspec.json.decode(attempt.usage.skipped, type=list[SkippedConnection]) if attempt.usage.skipped else []
