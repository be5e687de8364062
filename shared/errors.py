"""
Every error that ends or delays a job, with the contract's code.

JobError                      ends a job with a failed result
├── InvalidJob                invalid_job
├── JobConflict               conflict
├── DeadlinePassed            timeout
├── JobCancelled              cancelled
├── CustomerSuspended         customer_suspended
├── BudgetExceeded            budget_exceeded
├── InternalError             internal
├── ConnectionFault
│   ├── ConnectionNotFound    connection_not_found
│   ├── ConnectionDisabled    connection_disabled
│   ├── ConnectionExpired     connection_expired
│   └── ConnectionInvalid     connection_invalid
└── UpstreamError             what the customer's AI endpoint did; knows status and request id
    ├── CredentialRejected    credential_rejected
    ├── AccountBlocked        account_blocked
    ├── ModelNotFound         model_not_found
    ├── RequestRejected       request_rejected
    ├── ContentFiltered       content_filtered
    ├── RateLimited           rate_limited
    ├── QuotaExhausted        quota_exhausted
    ├── ProviderUnavailable   provider_unavailable
    └── UpstreamTimeout       timeout
RetryLater                    the job is valid, but not now: it is requeued with a delay
├── StorageUnavailable        Storage did not do what was requested
├── SettingInvalid            an app setting is wrong; the operator has to correct it
├── VaultUnavailable          Key Vault did not answer, and nothing in memory is fresh enough
├── AlreadyRunning            another worker runs this job
├── Throttled                 the customer has enough jobs on this worker for now
└── UpstreamRetryLater        the endpoint needs more time than a call can wait; keeps the endpoint's error
LeaseLost                     another worker has taken over this job: publish nothing, that worker will

An exception that only one module handles is defined where it is raised, such as RowExists in `storage.base`.
A message is a full sentence that names the thing, and never a secret, a URL's query or a body.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


class JobError(Exception):
    """Ends a job with a failed result of this code."""

    code: ClassVar[str] = "internal"


class InvalidJob(JobError):
    """The message or request is not a valid job. The error's message names the member and what would be right."""

    code = "invalid_job"


class JobConflict(JobError):
    """This id belongs to another job of the same customer."""

    code = "conflict"


class DeadlinePassed(JobError):
    """The job's own deadline passed before it finished."""

    code = "timeout"


class JobCancelled(JobError):
    """The job was cancelled before it finished."""

    code = "cancelled"


class CustomerSuspended(JobError):
    """The operator has suspended the customer, so its jobs are not run."""

    code = "customer_suspended"


class BudgetExceeded(JobError):
    """A budget has less left than the job may use, or can't count it."""

    code = "budget_exceeded"


class InternalError(JobError):
    """A fault of ours."""


class ConnectionFault(JobError):
    """The customer's connection can't be used."""


class ConnectionNotFound(ConnectionFault):
    """The customer has no connection of that name, and may not use the static one."""

    code = "connection_not_found"


class ConnectionDisabled(ConnectionFault):
    """The connection's secret is disabled."""

    code = "connection_disabled"


class ConnectionExpired(ConnectionFault):
    """The connection's secret has expired, or is not valid yet."""

    code = "connection_expired"


class ConnectionInvalid(ConnectionFault):
    """The connection's secret does not describe a connection, or one that is not allowed."""

    code = "connection_invalid"


@dataclass(frozen=True, slots=True)
class UpstreamFacts:
    """What is known about one refusal, or about a missing response."""

    status: int | None = None
    request_id: str | None = None
    retry_after_s: float | None = None  # the server's own waiting time
    transient: bool = False  # the same request may succeed a little later
    unanswered: bool = False
    """The call may have been billed: it was sent and cut short, or refused in a way that providers charge."""
    unsent: bool = False
    """The app had no free connection or token for it in time, which says nothing about the endpoint."""
    detail: dict[str, Any] = field(default_factory=dict)
    """What the response has besides its message, such as a content filter's verdicts."""


class UpstreamError(JobError):
    """The AI endpoint refused, failed, or did not answer."""

    def __init__(self, message: str, facts: UpstreamFacts | None = None) -> None:
        super().__init__(message)
        self.facts = facts or UpstreamFacts()


class CredentialRejected(UpstreamError):
    """The endpoint refused the key or token."""

    code = "credential_rejected"


class NetworkRefused(CredentialRejected):
    """The endpoint does not accept calls from the app's network, whatever the key."""


class PermissionRefused(CredentialRejected):
    """The key or token is accepted, but lacks the permission for this operation or model; others may work."""


class AccountBlocked(UpstreamError):
    """The customer's account or resource is blocked, not this request."""

    code = "account_blocked"


class ModelNotFound(UpstreamError):
    """The endpoint has no such model or deployment."""

    code = "model_not_found"


class RequestRejected(UpstreamError):
    """The endpoint refused this request permanently."""

    code = "request_rejected"


class ContentFiltered(UpstreamError):
    """The provider's content policy stopped the prompt or the answer."""

    code = "content_filtered"


class RateLimited(UpstreamError):
    """The customer sent too many requests or tokens a minute."""

    code = "rate_limited"


class QuotaExhausted(UpstreamError):
    """The account has no quota or credit left; waiting does not help."""

    code = "quota_exhausted"


class ProviderUnavailable(UpstreamError):
    """The endpoint could not be reached, failed, or sent a response that can't be used."""

    code = "provider_unavailable"


class UpstreamTimeout(UpstreamError):
    """The endpoint did not answer in time."""

    code = "timeout"


class RetryLater(Exception):
    """The job is valid, but can't run now. `delay_s`: the seconds to wait before the next attempt."""

    usual_delay_s: ClassVar[float] = 60
    stops_clock_s: float = 0  # of the wait, for which the job's deadline does not run
    is_requeued: bool = False  # whether what continues the job is on its way already

    def __init__(self, message: str, delay_s: float | None = None) -> None:
        super().__init__(message)
        self.delay_s = self.usual_delay_s if delay_s is None else delay_s


class StorageUnavailable(RetryLater):
    """Storage did not do what was requested."""


class SettingInvalid(RetryLater):
    """An app setting is missing or malformed. The message names it, and what is valid."""


class VaultUnavailable(RetryLater):
    """Key Vault did not answer."""

    usual_delay_s = 30


class AlreadyRunning(RetryLater):
    """Another worker has this job's lease, for about `delay_s` more seconds."""


class Throttled(RetryLater):
    """The customer has as many jobs on this worker as it may have; in about `delay_s` seconds there is room."""


class UpstreamRetryLater(RetryLater):
    """The endpoint must not be called for `delay_s` seconds; `reason` is its error."""

    def __init__(self, reason: UpstreamError, delay_s: float, retries: int = 0) -> None:
        super().__init__(str(reason), delay_s)
        self.reason = reason
        self.retries = retries  # with which the next attempt starts: a wait that the server names uses none up


class LeaseLost(Exception):
    """Another worker has taken the job over; this one may write nothing more for it."""
