"""Files of an account: uploaded, listed, read, deleted; they expire if that was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from local.provider.account import Account
from local.provider.errors import ApiError, not_found

MIN_EXPIRY_S = {"openai": 3600, "azure": 1_209_600}
MAX_EXPIRY_S = 2_592_000
MAX_FILES = {"openai": None, "azure": 500}
MAX_EXPIRING_FILES = 10_000


@dataclass(frozen=True, slots=True)
class File:
    """A file."""

    id: str
    content: bytes = field(repr=False)
    filename: str
    purpose: str
    created_at: float
    expires_at: float | None = None


def upload(account: Account, parts: Mapping[str, str], filename: str, content: bytes, at: float) -> File:
    """Store an uploaded file. Raises ApiError."""
    if parts.get("purpose") not in ("batch", "user_data", "assistants", "fine-tune", "vision"):
        raise ApiError(400, "invalid_value", "'purpose' must be one of 'batch', 'user_data' …", "purpose")
    if not content:
        raise ApiError(400, "empty_file", "The file is empty.", "file")
    if len(content) > account.limits.file_bytes:
        raise ApiError(400, "file_too_large", "The file is too large.", "file")
    anchor, seconds = parts.get("expires_after[anchor]"), parts.get("expires_after[seconds]")
    expires_at = None if seconds is None else at + check_expiry(account, anchor, seconds)
    limit = MAX_FILES[account.style]
    if limit is not None and len(_live(account, at)) >= (limit if expires_at is None else MAX_EXPIRING_FILES):
        raise ApiError(400, "file_limit_exceeded", "The resource has as many files as it may have.")
    return store(account, content, filename, parts["purpose"], at, expires_at)


def check_expiry(account: Account, anchor: Any, seconds: Any) -> int:
    """Return after how many seconds a file is to expire. Raises ApiError."""
    if anchor != "created_at" or not str(seconds).isdecimal():
        raise ApiError(400, "invalid_value", "'expires_after' is invalid.", "expires_after")
    if not MIN_EXPIRY_S[account.style] <= int(seconds) <= MAX_EXPIRY_S:
        raise ApiError(400, "invalid_value", "'expires_after' is out of range.", "expires_after.seconds")
    return int(seconds)


def store(
    account: Account, content: bytes, filename: str, purpose: str, at: float, expires_at: float | None = None
) -> File:
    """Store a file that the endpoint wrote."""
    file = File(f"file-{uuid4().hex[:24]}", content, filename, purpose, at, expires_at)
    account.files[file.id] = file
    return file


def get_file(account: Account, name: str, at: float) -> File:
    """Return a file. Raises ApiError if the account doesn't have it, or it has expired."""
    file = account.files.get(name)
    if file is None or not _is_live(file, at):
        raise not_found("file", name)
    return file


def list_files(account: Account, at: float, purpose: str | None = None) -> list[File]:
    """Return the files, newest first."""
    return [each for each in reversed(_live(account, at)) if purpose in (None, each.purpose)]


def _live(account: Account, at: float) -> list[File]:
    return [each for each in account.files.values() if _is_live(each, at)]


def _is_live(file: File, at: float) -> bool:
    return file.expires_at is None or file.expires_at > at


def is_processed(account: Account, file: File, at: float) -> bool:
    """Return whether a batch can have the file as its input."""
    return at >= file.created_at + account.durations.file_processing_s


def file_json(account: Account, file: File, at: float) -> dict[str, Any]:
    """Return a file as the API shows it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": len(file.content),
        "created_at": int(file.created_at),
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed" if is_processed(account, file, at) else "pending",
        **({} if file.expires_at is None and account.style == "azure" else {"expires_at": _whole(file.expires_at)}),
    }


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
