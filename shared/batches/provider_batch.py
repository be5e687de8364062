"""A batch as its provider describes it: read leniently, and safe to keep in a row or put into a path. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.upstream.error_body import quotable

MAX_ERRORS = 10
"""Of a batch's errors that are kept; a file of broken lines has one for each."""
ENDED = frozenset({"completed", "expired", "cancelled", "failed"})
"""The statuses of a batch that has ended."""
UNKNOWN = "unknown"
"""A status or code that can't be kept as it is."""
_MAX_COUNT = 10_000_000
"""More lines than any batch has."""
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._~:=+-]{0,499}")
_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,99}")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SPELLINGS = {"canceled": "cancelled", "canceling": "cancelling"}
# A validation's message may quote the line that it is about, and with it the prompt.
_QUOTED = re.compile(r"""\{.*\}?|\[.*\]?|"[^"]{40,}"?|'[^']{40,}'?|`[^`]{40,}`?""", re.DOTALL)


class NoId(ValueError):
    """What a provider names is no id."""


def check_id(value: Any) -> str:
    """Return a provider's id if it can be a segment of a path and the value of a row. Raises NoId."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise NoId
    return value


@dataclass(frozen=True, slots=True)
class BatchError:
    """Why a provider refused a batch, or a line of its file."""

    code: str
    """Such as `token_limit_exceeded`, in lower case."""
    message: str
    """Shortened, without what it quotes of a line."""
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a batch is, in lines."""

    total: int = 0
    completed: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class ProviderBatch:
    """A batch at its provider."""

    id: str
    status: str
    """In lower case: `validating`, `in_progress`, `finalizing`, `completed`, `failed`, `expired`, `cancelling` or
    `cancelled`; one that the app does not know is kept."""
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: datetime | None = None
    counts: Counts = Counts()
    errors: tuple[BatchError, ...] = ()
    is_certain: bool = True
    """Whether it is known which lines it has. If not, it may be somebody else's, and is left alone."""

    @property
    def is_void(self) -> bool:
        """Whether it has failed before any line was run."""
        return self.status == "failed" and not (self.output_file_id or self.error_file_id or self.counts.completed)

    def has_error(self, code: str) -> bool:
        """Return whether one of its errors has this code."""
        return any(error.code == code for error in self.errors)


def read_batch(value: Any, redact: Callable[[str], str]) -> ProviderBatch:
    """Return a batch from a response's JSON. `redact` takes the key out of a text. Raises NoId."""
    batch = value if isinstance(value, dict) else {}
    return ProviderBatch(
        id=check_id(batch.get("id")),
        status=read_status(batch.get("status")),
        input_file_id=_optional_id(batch.get("input_file_id")),
        output_file_id=_optional_id(batch.get("output_file_id")),
        error_file_id=_optional_id(batch.get("error_file_id")),
        created_at=read_time(batch.get("created_at")),
        counts=_counts(batch.get("request_counts")),
        errors=_errors(batch.get("errors"), redact),
    )


def read_status(value: Any) -> str:
    """Return a status in lower case, whatever way of writing it a provider has."""
    text = _HUMP.sub("_", value.strip()).lower().replace(" ", "_") if isinstance(value, str) else ""
    return _SPELLINGS.get(text, text) if _NAME.fullmatch(text) else UNKNOWN


def read_time(value: Any) -> datetime | None:
    """Return a time that is written as seconds since 1970, or as ISO 8601."""
    try:
        if isinstance(value, str) and not value.strip().isdecimal():
            at = datetime.fromisoformat(value.strip())
            return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        return datetime.fromtimestamp(float(value), UTC) if value else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def read_code(value: Any) -> str:
    """Return an error's code in lower case."""
    text = value.strip().lower() if isinstance(value, str) else ""
    return text if _NAME.fullmatch(text) else UNKNOWN


def read_message(value: Any, redact: Callable[[str], str]) -> str:
    """Return an error's message on one line, shortened, without the key or what it quotes of a line."""
    return quotable(_QUOTED.sub("…", redact(value))) if isinstance(value, str) else ""


def _optional_id(value: Any) -> str | None:
    return check_id(value) if value else None


def _counts(value: Any) -> Counts:
    counts = value if isinstance(value, dict) else {}
    return Counts(*(read_count(counts.get(name)) for name in ("total", "completed", "failed")))


def read_count(value: Any) -> int:
    """Return how many lines there are, as far as that can be."""
    return value if type(value) is int and 0 < value <= _MAX_COUNT else 0


def _errors(value: Any, redact: Callable[[str], str]) -> tuple[BatchError, ...]:
    listed = value.get("data", value) if isinstance(value, dict) else value
    items = listed if isinstance(listed, list) else [listed]
    return tuple(
        BatchError(
            read_code(item.get("code")), read_message(item.get("message"), redact), read_count(item.get("line")) or None
        )
        for item in [item for item in items if isinstance(item, dict) and item][:MAX_ERRORS]
    )
