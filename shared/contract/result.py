"""The result that every accepted job ends with: the JSON in the results queue and in the result's blob."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from shared.contract.usage import Usage

MESSAGE_LIMIT = 49_152
"""Bytes that fit a queue message, which holds 64 KiB of base64 (docs/architecture.md)."""

USUAL_COUNTS = {
    "calls": 0,
    "input_tokens": None,
    "output_tokens": None,
    "cached_tokens": None,
    "reasoning_tokens": None,
}
"""Counts that are always present, so that whoever reads results needs no default: null if no provider reported them."""

Status = Literal["succeeded", "partial", "failed"]


class OutputBlob(Struct, frozen=True, kw_only=True):
    """A blob that was written."""

    container: str
    name: str
    size: int
    sha256: str
    content_type: str


class ErrorBody(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a job failed."""

    code: str
    message: str
    status: int | None = None
    request_id: str | None = None
    detail: dict[str, Any] | None = None


class SkippedConnection(Struct, frozen=True):
    """A connection of a job's list that could not serve it."""

    name: str
    code: str
    """The error code that says why."""


class ConnectionLabel(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The connection that a job used, without its settings."""

    name: str
    source: Literal["key_vault", "static"]
    provider: str
    billed_to: Literal["customer", "operator"]
    breaker: Literal["open", "half_open"] | None = None
    """Set if the endpoint kept failing on this worker, so that calls to it pause for a while."""
    skipped: list[SkippedConnection] = []
    """In a result: the connections of the job's list that come before this one."""


class Timings(Struct, frozen=True, kw_only=True):
    """Where a job's time went, in milliseconds."""

    queued_ms: int
    """From its submission to the start of its first attempt."""
    upstream_ms: int
    """In the attempt that ended it: the time in which at least one call was under way, waits between tries included."""
    overhead_ms: int
    """In the same attempt: all other time, from its claim until the result was made."""


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The result of a job."""

    job_id: str
    status: Status
    customer: str | None = None
    action: str | None = None
    model: str | None = None
    metadata: dict[str, str] = {}
    output: dict[str, Any] | None = None
    output_blob: OutputBlob | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    timings: Timings | None = None
    """Missing if no attempt could start."""
    error: ErrorBody | None = None
    connection: ConnectionLabel | None = None
    attempts: int = 0
    submitted_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None


def encode_result(result: Result) -> bytes:
    """The result as UTF-8 JSON. It always has a whole `usage`, `metadata` and `attempts`; others only if known."""
    # The output is encoded where it stands: parts of it may be JSON text already.
    output = result.output
    members = msgspec.to_builtins(result if output is None else msgspec.structs.replace(result, output={}))
    if output is not None:
        members["output"] = output
    members.setdefault("metadata", {})
    members.setdefault("attempts", 0)
    members["usage"] = USUAL_COUNTS | msgspec.to_builtins(result.usage)
    return msgspec.json.encode(members)
