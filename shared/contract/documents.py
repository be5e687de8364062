"""
The JSON documents of the HTTP API beside jobs and results.

The OpenAPI document is made from these types: a docstring below a member is its description there.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import Meta, Struct

from shared.contract.names import ModelName
from shared.contract.result import ErrorBody

API_PREFIX = "/api"
"""`routePrefix` in host.json."""
JobState = Literal["queued", "running", "waiting", "succeeded", "partial", "failed", "cancelled"]
STATES: tuple[JobState, ...] = get_args(JobState)
ENDED: frozenset[JobState] = frozenset({"succeeded", "partial", "failed", "cancelled"})
"""The states that no job leaves."""


class CallbackState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The delivery of a job's callback."""

    status: Literal["waiting", "delivered", "failed"]
    attempts: int = 0
    """How often the callback was sent."""
    last_status: int | None = None
    """The receiver's last HTTP status. Missing if it sent none."""
    error: str | None = None
    """Why the last delivery failed."""


class JobDocument(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The status of a job."""

    job_id: str
    customer: str
    status: JobState
    attempts: int
    """How often a worker has started the job."""
    submitted_at: str
    action: str | None = None
    model: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    due_at: str | None = None
    """When a job continues that waits for more than two minutes, or that is to run later."""
    batch: str | None = None
    """The batch that a waiting job with `processing` `batch` or `cheapest` waits for: hours, on purpose."""
    error: ErrorBody | None = None
    """Of a failed job, the error in its result. Of a waiting job, why it waits."""
    callback: CallbackState | None = None
    links: dict[str, str] = {}
    """`self`, and `result` once there is one."""


class JobPage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some of a customer's jobs, newest first."""

    jobs: list[JobDocument]
    continuation: str | None = None
    """For the next page. Missing on the last page; a page can be short or empty without being the last."""


class CustomerDocument(Struct, frozen=True, kw_only=True):
    """A customer."""

    customer: str


class CustomerPage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Some of the customers, in the order of their ids."""

    customers: list[CustomerDocument]
    continuation: str | None = None
    """For the next page. Missing on the last page."""


class ConnectionSettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A connection's settings as the app reads them, in a form that can be sent back; never the key."""

    endpoint: str
    provider: str
    auth: Literal["api_key", "entra"]
    scope: str | None = None
    tenant_id: str | None = None
    api_version: str | None = None
    organization: str | None = None
    project: str | None = None
    default_model: str | None = None
    batch_model: str | None = None
    deployment_scope: str | None = None
    max_concurrency: int | None = None
    monthly_budget: float | None = None


class ConnectionDocument(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A connection without its key. In a list it has no version, settings and error: a list does not read them."""

    customer: str
    name: str
    enabled: bool
    version: str | None = None
    not_before: str | None = None
    expires_on: str | None = None
    created_at: str | None = None
    """When this version was created."""
    updated_at: str | None = None
    settings: ConnectionSettings | None = None
    """Missing if they can't be read, or are not valid."""
    error: ErrorBody | None = None
    """What a job would now end with because of the connection itself."""


class ConnectionList(Struct, frozen=True, kw_only=True):
    """All of a customer's connections in Key Vault, sorted by name."""

    connections: list[ConnectionDocument]


class ConnectionTestRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to test a connection."""

    model: ModelName | None = None
    """The model that is called. The default is the endpoint's deployment, or the connection's `default_model`."""


class ConnectionTest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The outcome of testing a connection."""

    ok: bool
    """Whether the endpoint accepts the connection."""
    code: str | None = None
    """The error code that a job would end with. Missing if the endpoint accepts the connection."""
    message: str
    """The outcome as a sentence."""
    status: int | None = None
    """The HTTP status of the provider."""
    request_id: str | None = None
    provider: str | None = None
    model: str | None = None
    """Missing if no model was called, and the endpoint's list of models was requested instead."""
    latency_ms: int | None = None
    """Missing if no request was sent."""


class ProblemDocument(Struct, frozen=True, kw_only=True):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    code: Annotated[str, Meta(description="The contract's error code, or HTTP's own: not_found, unauthorized, …")]
    detail: str
    """A sentence that says what is wrong and what would be right."""
