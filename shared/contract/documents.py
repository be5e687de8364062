"""What HTTP gives and takes besides jobs and results. The OpenAPI document is made from these types."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from shared.contract.result import ErrorBody

JobState = Literal["queued", "running", "waiting", "succeeded", "partial", "failed", "cancelled"]
STATES: tuple[JobState, ...] = ("queued", "running", "waiting", "succeeded", "partial", "failed", "cancelled")


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


class ProblemDocument(Struct, frozen=True, kw_only=True):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    code: Annotated[str, Meta(description="The contract's error code, or HTTP's own: not_found, unauthorized, …")]
    detail: str
