"""Anthropic's batches: the lines come with the creation, there are no files, and a list names nothing of the lines."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from local.provider.account import Account
from local.provider.batch import MESSAGES, Batch, message_batch_json
from local.provider.batch_run import BatchRuns, get_batch, list_batches
from local.provider.errors import ApiError, not_found
from local.provider.faults import BatchFault
from local.provider.lines import Lines

MAX_REQUESTS = 100_000
MAX_BYTES = 256_000_000
MAX_PAGE = 1000
_is_custom_id = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_encode = msgspec.json.Encoder().encode


def create_batch(runs: BatchRuns, account: Account, content: bytes, at: float) -> Batch:
    """Create a batch of the lines in a request's body. Raises ApiError."""
    if len(content) > MAX_BYTES:
        raise ApiError(413, "request_too_large", "Request exceeds the maximum size")
    lines = _read_lines(content)
    batch = Batch(
        "",
        MESSAGES,
        "24h",
        None,
        lines,
        account.faults.batches.take() or BatchFault(),
        None,
        {"created_at": at, "expires_at": at + account.durations.window_s},
        total=len(lines.spans),
    )
    batch.id = f"msgbatch_{batch.id.removeprefix('batch_')}"
    runs.start(account, batch, at)
    return batch


def page_of_batches(account: Account, query: Mapping[str, str], at: float) -> dict[str, Any]:
    """Return a page of the list. Raises ApiError."""
    batches = list_batches(account, at)
    names, limit = [each.id for each in batches], query.get("limit", "20")
    if not limit.isdecimal() or not 1 <= int(limit) <= MAX_PAGE:
        raise ApiError(400, "invalid_request_error", f"limit: Input should be between 1 and {MAX_PAGE}")
    start, end = 0, int(limit)
    if after := query.get("after_id"):
        start = _position(names, after) + 1
        end = start + int(limit)
    elif before := query.get("before_id"):
        end = _position(names, before)
        start = max(0, end - int(limit))
    data = [message_batch_json(account, each) for each in batches[start:end]]
    has_more = start > 0 if query.get("before_id") else end < len(batches)
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"data": data, "has_more": has_more, **ends}


def results_of(account: Account, name: str) -> bytes:
    """Return the results of a batch. Raises ApiError if it has not ended."""
    batch = get_batch(account, name)
    if not batch.has_ended:
        raise ApiError(404, "not_found_error", f"Batch {name} has no available results.")
    return batch.results


def delete_batch(account: Account, name: str) -> dict[str, Any]:
    """Delete a batch. Raises ApiError if it has not ended."""
    if not get_batch(account, name).has_ended:
        raise ApiError(400, "invalid_request_error", f"Batch {name} cannot be deleted before it has ended.")
    del account.batches[name]
    return {"id": name, "type": "message_batch_deleted"}


def _position(names: Sequence[str], name: str) -> int:
    if name not in names:
        raise not_found("batch", name)
    return names.index(name)


def _read_lines(content: bytes) -> Lines:
    """Return the lines of a request's body, as those of a file. A line's `params` are checked when it is executed."""
    try:
        body = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ApiError(400, "invalid_request_error", "The request body is not valid JSON.") from None
    requests = body.get("requests") if isinstance(body, dict) else None
    if not isinstance(requests, list) or not 1 <= len(requests) <= MAX_REQUESTS:
        raise ApiError(400, "invalid_request_error", f"requests: List should have 1 to {MAX_REQUESTS} items")
    parts, spans, position, names = list[bytes](), list[tuple[str, int, int]](), 0, set[str]()
    for index, each in enumerate(requests):
        match each:
            case {"custom_id": str(custom_id), "params": dict(params)} if _is_custom_id(custom_id):
                if custom_id in names:
                    raise ApiError(400, "invalid_request_error", f"requests.{index}.custom_id: must be unique")
                names.add(custom_id)
                part = _encode({"body": params})
                spans.append((custom_id, position, position + len(part)))
                parts.append(part)
                position += len(part)
            case _:
                raise ApiError(400, "invalid_request_error", f"requests.{index}: Input should be a valid request")
    first: dict[str, Any] = requests[0]["params"]
    return Lines(b"".join(parts), spans, str(first.get("model") or ""))
