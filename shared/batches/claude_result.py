"""What a line of a batch at Anthropic came to. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import msgspec

from shared.batches.provider_batch import read_code
from shared.contract.decoding import UNREADABLE
from shared.jobs.lines import CANCELLED, EXPIRED

T = TypeVar("T")
_OK = 200
_FAILED = 500
_STATUSES = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": _FAILED,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Which HTTP status stands for an error's type: a result has none. Any other one may pass."""
_UNDONE = {
    "expired": (EXPIRED, "The batch expired before this call was made."),
    "canceled": (CANCELLED, "The batch was cancelled before this call was made."),
    "cancelled": (CANCELLED, "The batch was cancelled before this call was made."),
}


class Result(msgspec.Struct):
    """The member `result` of a line."""

    type: Any = None
    message: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


class Outcome(NamedTuple):
    """The same in the words of `files.Answer`."""

    status: int | None
    body: bytes
    request_id: str | None
    code: str | None
    message: str = ""


class _Error(msgspec.Struct):
    type: Any = None
    error: Any = None
    request_id: Any = None


class _Message(msgspec.Struct):
    id: Any = None


def read_result(result: Result) -> Outcome | None:
    """Return what came of a line; None if it says nothing. What errored, was cancelled or expired is not billed."""
    kind = read_code(result.type)
    if kind in _UNDONE:
        code, message = _UNDONE[kind]
        return Outcome(None, b"", None, code, message)
    if kind == "succeeded" and (body := _body(result.message)):
        return Outcome(_OK, body, _text(_read(body, _Message(), _Message).id), None)
    if kind == "errored":
        body = _body(result.error)
        error = _read(body, _Error(), _Error)
        code = read_code(error.error.get("type") if isinstance(error.error, dict) else error.type)
        return Outcome(_STATUSES.get(code, _FAILED), body, _text(error.request_id), code)
    return None


def _body(raw: msgspec.Raw) -> bytes:
    body = bytes(raw)
    return b"" if body == b"null" else body


def _read(body: bytes, empty: T, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except UNREADABLE:
        return empty


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
