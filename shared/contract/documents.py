"""What HTTP gives and takes besides jobs and results. The OpenAPI document is made from these types."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from shared.contract.names import ModelName
from shared.contract.result import ErrorBody

API_PREFIX = "/api"
"""host.json's `routePrefix`."""
JobState = Literal["queued", "running", "waiting", "succeeded", "partial", "failed", "cancelled"]
STATES: tuple[JobState, ...] = ("queued", "running", "waiting", "succeeded", "partial", "failed", "cancelled")
ENDED: frozenset[JobState] = frozenset({"succeeded", "partial", "failed", "cancelled"})
"""Those after which nothing more comes of the job."""


class CallbackState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the job's callback goes."""

    status: Literal["waiting", "delivered", "failed"]
    attempts: int = 0
    last_status: int | None = None
    """The receiver's last HTTP status; missing where it gave none."""
    error: str | None = None


class JobDocument(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has become of a job."""

    job_id: str
    customer: str
    status: JobState
    attempts: int
    submitted_at: str
    action: str | None = None
    model: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    error: ErrorBody | None = None
    """Of a failed job, as in its result; of one that waits, why."""
    callback: CallbackState | None = None
    links: dict[str, str] = {}
    """`self`, and `result` once there is one."""


class JobPage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some of a customer's jobs, newest first."""

    jobs: list[JobDocument]
    continuation: str | None = None
    """For the next page; missing on the last one. A page can be short, or empty, and not be the last."""


class ConnectionSettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A connection's settings as they are understood, in the words in which they can be given; never the key."""

    endpoint: str
    provider: str
    auth: Literal["api_key", "entra"]
    scope: str | None = None
    tenant_id: str | None = None
    api_version: str | None = None
    organization: str | None = None
    project: str | None = None
    default_model: str | None = None
    max_concurrency: int | None = None
    monthly_budget: float | None = None


class ConnectionDocument(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A connection, without its key. In a list it has neither version, settings nor error: they are not read there."""

    customer: str
    name: str
    enabled: bool
    version: str | None = None
    not_before: str | None = None
    expires_on: str | None = None
    created_at: str | None = None
    """When this version was made."""
    updated_at: str | None = None
    settings: ConnectionSettings | None = None
    """Missing where they can't be read, or do not make a connection."""
    error: ErrorBody | None = None
    """What a job would end with now, for what is wrong with the connection itself."""


class ConnectionList(Struct, frozen=True, kw_only=True):
    """All of a customer's connections in Key Vault, by name."""

    connections: list[ConnectionDocument]


class TrialRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a connection is to be tried."""

    model: ModelName | None = None
    """What is asked for one token; left out: the endpoint's deployment, or the connection's `default_model`."""


Verdict = Literal[
    "fine",
    "key_refused",
    "deployment_missing",
    "address_not_allowed",
    "not_valid",
    "disabled",
    "expired",
    "quota_gone",
    "rate_limited",
    "blocked",
    "not_reachable",
    "failing",
    "not_understood",
]


class TrialDocument(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of trying a connection."""

    ok: bool
    """Whether the verdict is `fine`."""
    verdict: Verdict
    message: str
    code: str | None = None
    """What a job would end with."""
    status: int | None = None
    request_id: str | None = None
    provider: str | None = None
    model: str | None = None
    """Missing where none was tried, and the endpoint's list of models was asked for instead."""
    latency_ms: int | None = None
    """Missing where nothing was sent."""


class Sums(Struct, frozen=True, kw_only=True):
    """Usage records, added up."""

    records: int = 0
    calls: int = 0
    """Answers that the endpoint gave: none in records of unanswered calls."""
    unreported: int = 0
    """Calls among them whose provider told no usage."""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    images: int = 0


class StatementLine(Struct, frozen=True, kw_only=True):
    """Usage records that have the labels in common, added up as in Sums. Of the first five, what was asked for."""

    month: str | UnsetType = UNSET
    day: str | UnsetType = UNSET
    """UTC."""
    model: str | UnsetType = UNSET
    action: str | UnsetType = UNSET
    connection: str | UnsetType = UNSET
    source: str
    provider: str
    billed_to: str
    outcome: str
    records: int
    calls: int
    unreported: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    images: int


class StatementTotals(Struct, frozen=True, kw_only=True):
    """The sums of a month, by outcome: only `answered` is beyond doubt."""

    answered: Sums
    lost: Sums
    unanswered: Sums


class Statement(Struct, frozen=True, kw_only=True):
    """A customer's usage of one month."""

    customer: str
    month: str
    by: list[str]
    totals: StatementTotals
    lines: list[StatementLine]


class ProblemDocument(Struct, frozen=True, kw_only=True):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    code: Annotated[str, Meta(description="The contract's error code, or HTTP's own: not_found, unauthorized, …")]
    detail: str
