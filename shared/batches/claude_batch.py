"""A batch at Anthropic: how it is written, and how the API describes it. Pure. See `provider_batch`."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

from shared.batches.custom_ids import full_id
from shared.batches.provider_batch import Counts, ProviderBatch, check_id, read_count, read_status, read_time

BEFORE, AFTER = b'{"requests":[', b"]}"
_BETWEEN = b","
_NOT_SUCCEEDED = ("errored", "canceled", "expired")


def request_size(batch_id: str, lines: int, body_bytes: int) -> int:
    """Return the bytes of a request that creates a batch of so many lines."""
    beside = len(_line(batch_id, 0, b"")) + len(_BETWEEN)
    return len(BEFORE) + lines * beside - len(_BETWEEN) + body_bytes + len(AFTER)


async def write_lines(batch_id: str, bodies: AsyncIterable[tuple[int, bytes]]) -> AsyncIterator[bytes]:
    """Yield what stands between BEFORE and AFTER. Bodies are JSON, and stay as they are."""
    between = b""
    async for number, body in bodies:
        yield between + _line(batch_id, number, body)
        between = _BETWEEN


def _line(batch_id: str, number: int, body: bytes) -> bytes:
    return b'{"custom_id":"%s","params":%s}' % (full_id(batch_id, number).encode(), body)


def read_claude_batch(value: Any) -> ProviderBatch:
    """Return a batch from a response's JSON, with the statuses that others have. Raises NoId."""
    batch = value if isinstance(value, dict) else {}
    batch_id, status, counts = check_id(batch.get("id")), read_status(batch.get("processing_status")), _counts(batch)
    has_ended = status == "ended"
    if has_ended:
        status = "expired" if _count(batch, "expired") else "completed"
        status = "cancelled" if batch.get("cancel_initiated_at") else status
    return ProviderBatch(
        batch_id,
        status,
        # Its results are at the batch's own address. One that is archived has none any more.
        output_file_id=batch_id if has_ended and not batch.get("archived_at") else None,
        created_at=read_time(batch.get("created_at")),
        counts=counts,
    )


def _counts(batch: dict[str, Any]) -> Counts:
    succeeded, failed = _count(batch, "succeeded"), sum(_count(batch, name) for name in _NOT_SUCCEEDED)
    return Counts(succeeded + failed + _count(batch, "processing"), succeeded, failed)


def _count(batch: dict[str, Any], name: str) -> int:
    counts = batch.get("request_counts")
    return read_count(counts.get(name)) if isinstance(counts, dict) else 0
