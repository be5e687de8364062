"""A batch and how the API shows it: in OpenAI's form, with Azure's peculiarities, or as Anthropic does."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from local.provider.account import Account
from local.provider.faults import BatchFault
from local.provider.lines import LineError, Lines

MESSAGES = "/v1/messages"
"""The endpoint of Anthropic's batches."""
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_TIMES = (
    *("created_at", "in_progress_at", "expires_at", "finalizing_at", "completed_at", "failed_at", "expired_at"),
    *("cancelling_at", "cancelled_at"),
)


@dataclass(slots=True)
class Batch:
    """A batch. `times` has the time of each change of its status, under the API's names (`completed_at`)."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None
    lines: Lines | None = field(repr=False)
    """None once it has ended."""
    fault: BatchFault
    output_expires_s: int | None
    """After how long the files that it writes expire."""
    times: dict[str, float]
    id: str = field(default_factory=lambda: f"batch_{uuid4().hex[:24]}")
    status: str = "validating"
    model: str = ""
    total: int = 0
    executed: int = 0
    """The lines that are done, from the first on."""
    completed: int = 0
    failed: int = 0
    enqueued_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    output: list[bytes] = field(default_factory=list, repr=False)
    error_output: list[bytes] = field(default_factory=list, repr=False)
    errors: list[LineError] = field(default_factory=list)
    output_file_id: str | None = None
    error_file_id: str | None = None
    unfinished: int = 0
    """The lines that were not executed when it ended."""
    results: bytes = field(default=b"", repr=False)
    """Of one of Anthropic's, which has no files."""

    @property
    def is_claude(self) -> bool:
        """Whether it is one of Anthropic's."""
        return self.endpoint == MESSAGES

    @property
    def has_ended(self) -> bool:
        """Whether its status changes no more."""
        return self.status in ENDED

    def duration(self, name: str, usual: float) -> float:
        """Return how long one of its phases takes."""
        seconds: float | None = getattr(self.fault, name)
        return usual if seconds is None else seconds


def batch_json(account: Account, batch: Batch) -> dict[str, Any]:
    """Return a batch as the API shows it."""
    empty = "" if account.azure_objects else None
    errors = [
        {"code": each.code, "message": each.message, "line": each.line, "param": each.param} for each in batch.errors
    ]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.model or None,
        "errors": {"object": "list", "data": errors} if errors else None,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.completion_window,
        "status": _status(account, batch.status),
        "output_file_id": batch.output_file_id or empty,
        "error_file_id": batch.error_file_id or empty,
        **{name: _time(account, batch.times.get(name)) for name in _TIMES},
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "metadata": batch.metadata,
        "usage": {
            "input_tokens": batch.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": batch.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": batch.input_tokens + batch.output_tokens,
        },
    }


def _status(account: Account, status: str) -> str:
    if account.status_case == "upper":
        return status.upper()
    return status.capitalize() if account.azure_objects or account.status_case == "title" else status


def _time(account: Account, seconds: float | None) -> int | str | None:
    if seconds is None:
        return None
    return _iso(seconds) if account.azure_objects else int(seconds)


def message_batch_json(account: Account, batch: Batch) -> dict[str, Any]:
    """Return a batch as Anthropic shows it. Its lines count as `processing` until all of it has ended."""
    url = f"{account.url}/messages/batches/{batch.id}/results"
    ended = {
        "processing": 0,
        "succeeded": batch.completed,
        "errored": batch.total - batch.completed - batch.unfinished,
        "canceled": batch.unfinished if batch.status == "cancelled" else 0,
        "expired": batch.unfinished if batch.status == "expired" else 0,
    }
    status = "canceling" if batch.status == "cancelling" else "in_progress"
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended" if batch.has_ended else status,
        "request_counts": ended if batch.has_ended else dict.fromkeys(ended, 0) | {"processing": batch.total},
        "created_at": _iso(batch.times.get("created_at")),
        "expires_at": _iso(batch.times.get("expires_at")),
        "ended_at": _iso(batch.times.get(f"{batch.status}_at") if batch.has_ended else None),
        "cancel_initiated_at": _iso(batch.times.get("cancelling_at")),
        "archived_at": None,
        "results_url": url if batch.has_ended else None,
    }


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
