"""
A batch's way: validating, in_progress, finalizing, completed; or failed, expired, cancelled.

Each phase is a timer. Lines are executed in slices, so that some are done when a batch is cancelled or expires.
"""

import codecs
import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from local.provider.account import Account
from local.provider.batch import Batch
from local.provider.calls import Call, execute
from local.provider.clock import Timers
from local.provider.errors import ApiError, not_found
from local.provider.faults import BatchFault, CallFault
from local.provider.files import File, check_expiry, get_file, is_processed, store
from local.provider.lines import LineError, operation_of, read_lines

ENDPOINTS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"})
MAX_SLICE, SLICES = 250, 10
MAX_METADATA = 16
EXPIRED = "This request could not be executed before the completion window expired."
_UNFINISHED = {"expired": ("batch_expired", EXPIRED), "cancelled": ("batch_cancelled", "The batch was cancelled.")}
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class BatchRuns:
    """Creates and runs batches by timers. `notify` is called with an account, an event's type, an id and the time."""

    timers: Timers
    notify: Callable[[Account, str, str, float], None]

    def create(self, account: Account, body: Mapping[str, Any], at: float) -> Batch:
        """Create a batch. Raises ApiError."""
        file = _check(account, body, at)
        expiry = body.get("output_expires_after") or {}
        fault = account.faults.batches.take() or BatchFault()
        window = account.durations.window_s
        batch = Batch(
            file.id,
            body["endpoint"],
            body["completion_window"],
            body.get("metadata"),
            read_lines(account, file.content, body["endpoint"]),
            fault,
            check_expiry(account, expiry.get("anchor"), expiry.get("seconds")) if expiry else None,
            {"created_at": at, "expires_at": at + window},
        )
        self.start(account, batch, at)
        return batch

    def start(self, account: Account, batch: Batch, at: float) -> None:
        """Run a new batch."""
        account.batches[batch.id] = batch
        validated_at = at + batch.duration("validating_s", account.durations.validating_s)
        self.timers.at(validated_at, lambda due: self._validate(account, batch, due))
        self.timers.at(batch.times["expires_at"], lambda due: self._expire(account, batch, due))

    def cancel(self, account: Account, batch: Batch, at: float) -> None:
        """Begin to cancel a batch; again does nothing. Raises ApiError if it has ended, or is about to."""
        if batch.status in ("cancelling", "cancelled"):
            return
        if batch.has_ended or batch.status == "finalizing":
            raise ApiError(409, "invalid_request_error", f"Cannot cancel a batch with status '{batch.status}'.")
        _enter(batch, "cancelling", at)
        cancelled_at = at + batch.duration("cancelling_s", account.durations.cancelling_s)
        self.timers.at(cancelled_at, lambda due: self._end(account, batch, "cancelled", due))

    def _validate(self, account: Account, batch: Batch, at: float) -> None:
        if batch.status != "validating" or batch.lines is None:
            return
        batch.errors = _errors(account, batch)
        if batch.errors:
            self._end(account, batch, "failed", at)
            return
        lines = batch.lines
        batch.model, batch.total, batch.enqueued_tokens = lines.model, len(lines.spans), lines.input_tokens
        _enter(batch, "in_progress", at)
        seconds = batch.duration("in_progress_s", account.durations.in_progress_s)
        size = max(1, min(MAX_SLICE, batch.total // SLICES))
        for end in range(size, batch.total + size, size):
            due = at + seconds * min(end, batch.total) / batch.total
            self.timers.at(due, functools.partial(self._progress, account, batch, end))

    def _progress(self, account: Account, batch: Batch, end: int, at: float) -> None:
        """Execute the lines before `end`."""
        if batch.status != "in_progress" or batch.lines is None:
            return
        share = batch.fault.expire_share
        limit = batch.total if share is None else int(batch.total * share)
        for index in range(batch.executed, min(end, limit)):
            if index < batch.total - batch.fault.missing:
                _execute(account, batch, index, at)
        batch.executed = min(end, limit)
        if share is not None and end >= limit:
            self._end(account, batch, "expired", at)
        elif end >= batch.total:
            _enter(batch, "finalizing", at)
            done_at = at + batch.duration("finalizing_s", account.durations.finalizing_s)
            self.timers.at(done_at, lambda due: self._end(account, batch, "completed", due))

    def _expire(self, account: Account, batch: Batch, at: float) -> None:
        if batch.status in ("validating", "in_progress"):
            self._end(account, batch, "expired", at)

    def _end(self, account: Account, batch: Batch, status: str, at: float) -> None:
        """Write the files of what is done, and end the batch."""
        lists_cancelled = account.lists_cancelled_lines or batch.is_claude
        if batch.lines is not None and (status == "expired" or lists_cancelled):
            _list_unfinished(batch, status)
        output, errors = _output(batch), b"".join(batch.error_output)
        if batch.is_claude:
            batch.results = output + errors
        else:
            batch.output_file_id = _write(account, batch, "output", output, at)
            batch.error_file_id = _write(account, batch, "error", errors, at)
        batch.lines, batch.output, batch.error_output = None, [], []
        batch.enqueued_tokens = 0
        _enter(batch, status, at)
        self.notify(account, f"batch.{status}", batch.id, at)


def get_batch(account: Account, name: str) -> Batch:
    """Return a batch. Raises ApiError if the account doesn't have it."""
    batch = account.batches.get(name)
    if batch is None:
        raise not_found("batch", name)
    return batch


def list_batches(account: Account, at: float) -> list[Batch]:
    """Return the batches that the list shows, newest first."""
    batches = reversed(account.batches.values())
    return [each for each in batches if each.times["created_at"] + each.fault.list_late_s <= at]


def _check(account: Account, body: Mapping[str, Any], at: float) -> File:
    """Return the input file of a new batch. Raises ApiError."""
    endpoint = str(body.get("endpoint") or "")
    if f"/v1/{operation_of(endpoint)}" not in ENDPOINTS or (account.style == "openai" and endpoint not in ENDPOINTS):
        raise ApiError(400, "invalid_value", "'endpoint' can't be used in a batch.", "endpoint")
    if account.style == "azure" and operation_of(endpoint) == "embeddings":
        raise ApiError(400, "invalid_request", "Embeddings can't be used in a batch.", "endpoint")
    if body.get("completion_window") != "24h":
        raise ApiError(400, "invalid_value", "'completion_window' must be '24h'.", "completion_window")
    if len(body.get("metadata") or {}) > MAX_METADATA:
        raise ApiError(400, "invalid_value", "'metadata' has too many members.", "metadata")
    file = get_file(account, str(body.get("input_file_id") or ""), at)
    if file.purpose != "batch":
        raise ApiError(400, "invalid_value", "The file's purpose is not 'batch'.", "input_file_id")
    if not is_processed(account, file, at):
        raise ApiError(400, "invalid_request", "The file is still being processed.", "input_file_id")
    return file


def _errors(account: Account, batch: Batch) -> list[LineError]:
    """Return why a batch fails in validation."""
    if batch.is_claude:
        return []  # each line has its own
    if batch.fault.fail_code:
        return [LineError(batch.fault.fail_code, "A test injected this error.")]
    if batch.lines is None or batch.lines.errors:
        return batch.lines.errors if batch.lines else []
    limit = account.limits.enqueued_tokens
    enqueued = sum(each.enqueued_tokens for each in account.batches.values())
    if limit is None or enqueued + batch.lines.input_tokens <= limit:
        return []
    message = f"Enqueued token limit reached for {batch.lines.model}. Limit: {limit:,} enqueued tokens."
    return [LineError("token_limit_exceeded", message)]


def _execute(account: Account, batch: Batch, index: int, at: float) -> None:
    assert batch.lines is not None  # noqa: S101 -- for the type checker: it has not ended
    custom_id = batch.lines.spans[index][0]
    fault = CallFault() if batch.fault.errors_only else None
    call = Call(operation_of(batch.endpoint), batch.lines.body(index), at, "batch", custom_id, batch.id, fault)
    executed = execute(account, call)
    batch.input_tokens += executed.input_tokens
    batch.output_tokens += executed.output_tokens
    is_answer = executed.status == 200  # noqa: PLR2004 -- HTTP's own number
    batch.completed, batch.failed = batch.completed + is_answer, batch.failed + (not is_answer)
    response = {"status_code": executed.status, "request_id": executed.request_id, "body": executed.body}
    (batch.output if is_answer else batch.error_output).append(_line(batch, index, response, None))


def _line(batch: Batch, index: int, response: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> bytes:
    assert batch.lines is not None  # noqa: S101 -- as above
    custom_id = batch.lines.spans[index][0]
    if batch.is_claude:
        return _encode({"custom_id": custom_id, "result": _result(response, error)}) + b"\n"
    name = f"batch_req_{batch.id[6:]}_{index}"
    return _encode({"id": name, "custom_id": custom_id, "response": response, "error": error}) + b"\n"


def _result(response: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what Anthropic says of a line."""
    if response is None:
        return {"type": "expired" if error and error["code"] == "batch_expired" else "canceled"}
    if response["status_code"] == 200:  # noqa: PLR2004 -- HTTP's own number
        return {"type": "succeeded", "message": response["body"]}
    return {"type": "errored", "error": response["body"]}


def _list_unfinished(batch: Batch, status: str) -> None:
    """Name the lines that were not executed in the error file."""
    if batch.lines is None or status not in _UNFINISHED or batch.lines.errors:
        return
    code, message = _UNFINISHED[status]
    batch.total = len(batch.lines.spans)
    batch.unfinished = batch.total - batch.executed
    for index in range(batch.executed, batch.total):
        batch.failed += 1
        batch.error_output.append(_line(batch, index, None, {"code": code, "message": message}))


def _output(batch: Batch) -> bytes:
    lines = [*batch.output, *batch.output[: batch.fault.duplicates]]
    if batch.fault.shuffle:
        random.Random(batch.id).shuffle(lines)  # noqa: S311 -- the same for the same batch
    return (codecs.BOM_UTF8 if batch.fault.bom and lines else b"") + b"".join(lines)


def _write(account: Account, batch: Batch, kind: str, content: bytes, at: float) -> str | None:
    """Write a file of a batch, unless it is empty. Returns its id."""
    expires_at = None if batch.output_expires_s is None else at + batch.output_expires_s
    if not content:
        return None
    return store(account, content, f"{batch.id}_{kind}.jsonl", "batch_output", at, expires_at).id


def _enter(batch: Batch, status: str, at: float) -> None:
    batch.status = status
    batch.times[f"{status}_at"] = at
