"""
The files of a provider's batch: lines of JSON, written around bodies that are encoded already, and read as they come.

OpenAI's and Azure's lines have a `response` or an `error`, Anthropic's a `result`.

A provider's file is read whatever is wrong with it, since its lines are paid for: in any order, with a byte order mark,
blank or broken lines, or cut off at its end. Which lines were sent, and which answer of two counts, is the reader's to
say. Pure.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from shared.batches.claude_result import Result, read_result
from shared.batches.provider_batch import read_code, read_message
from shared.contract.decoding import UNREADABLE

MAX_LINE_BYTES = 64 * 1024 * 1024
"""Of a line that is read: as much as the response to a call may have."""
MAX_ID = 100
"""Characters of a line's id, or of a request's."""
_BLANK = b" \t\r\x00"
_BOM = b"\xef\xbb\xbf"
_LINE_BREAKS = bytes.maketrans(b"\r\n", b"  ")
"""In JSON, they only stand between values, where a space does as well."""
_CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"([A-Za-z0-9_.-]{1,%d})"' % MAX_ID)
_OK, _FAILED = 200, 500
_STATUSES = range(100, 600)
"""A row of a table holds no number of any size."""
_START_BYTES = 512
"""Of a line that can't be read, in which its id is looked for."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a line of an output or error file says: a response, or why there is none."""

    custom_id: str
    status: int | None = None
    """Of the response, which is a refusal if it is not 2xx. None: there was no response."""
    request_id: str | None = None
    body: bytes = b""
    """Of the response, as it came."""
    code: str | None = None
    """
    Why there is no answer, such as `batch_expired`; a provider may have new ones. With a response, it is a refusal that
    the provider does not bill; else None if there is one.
    """
    message: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A line that says nothing; what it answers may have been billed."""

    number: int
    """It counts from 1; blank lines count."""
    reason: str
    custom_id: str | None = None
    """If it can be read."""


class _Response(msgspec.Struct):
    status_code: Any = None
    request_id: Any = None
    body: msgspec.Raw = msgspec.Raw()


class _Line(msgspec.Struct):
    custom_id: str | int
    response: _Response | str | None = None
    error: Any = None
    result: Result | str | None = None


_decoder = msgspec.json.Decoder(_Line)


def line(custom_id: str, url: str, body: bytes) -> bytes:
    """Return the line that asks for one call, with `body`, which is JSON, as it is."""
    head = msgspec.json.encode({"custom_id": custom_id, "method": "POST", "url": url})
    return head[:-1] + b',"body":' + body.translate(_LINE_BREAKS) + b"}\n"


async def read_lines(
    chunks: AsyncIterable[bytes],
    *,
    redact: Callable[[str], str] = str,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> AsyncGenerator[Answer | Unreadable, None]:
    """
    Yield what each line of a file says, one after the other, blank ones apart. One line is in memory at a time.

    `redact` takes a key out of a provider's message. Raises what `chunks` raise, after the lines that were complete.
    """
    number = 0
    async for text, is_whole in _split(chunks, max_line_bytes):
        number += 1
        text = text.strip(_BLANK).removeprefix(_BOM).strip(_BLANK)  # noqa: PLW2901  # one copy less to keep
        if is_whole is None:
            yield Unreadable(number, f"has more than {max_line_bytes} bytes", _find_id(text))
        elif text:
            yield _read(number, text, redact, is_whole=is_whole)


async def _split(chunks: AsyncIterable[bytes], limit: int) -> AsyncIterator[tuple[bytes, bool | None]]:
    """Yield each line, and whether its end is there; or the start of one that is too long, and None."""
    pieces: list[bytes] = []
    size = 0
    async for chunk in chunks:
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            text = _joined(pieces, end, size + len(end), limit, is_whole=True)
            pieces, size = [], 0
            yield text
        size += len(rest)
        if rest:
            pieces.append(rest)
        if size > limit:
            pieces = [b"".join(pieces)[:_START_BYTES]]
    if size:
        yield _joined(pieces, b"", size, limit, is_whole=False)


def _joined(pieces: list[bytes], end: bytes, size: int, limit: int, *, is_whole: bool) -> tuple[bytes, bool | None]:
    text = b"".join([*pieces, end]) if pieces else end
    return (text[:_START_BYTES], None) if size > limit else (text, is_whole)


def _read(number: int, text: bytes, redact: Callable[[str], str], *, is_whole: bool) -> Answer | Unreadable:
    try:
        read = _decoder.decode(text)
    except UNREADABLE:
        reason = "is not a JSON object with a `custom_id`" if is_whole else "is cut off"
        return Unreadable(number, reason, _find_id(text))
    custom_id, response = str(read.custom_id), read.response if isinstance(read.response, _Response) else None
    if not 0 < len(custom_id) <= MAX_ID:
        return Unreadable(number, "has a `custom_id` that was not sent")
    if isinstance(read.result, Result):
        return _answer(number, custom_id, read.result)
    body = bytes(response.body) if response is not None else b""
    if response is not None and body not in (b"", b"null"):
        return Answer(custom_id, _status(response, read.error), _request_id(response), body)
    if not read.error:
        return Unreadable(number, "has neither a response nor an error", custom_id)
    error = read.error if isinstance(read.error, dict) else {"message": read.error}
    code, message = read_code(error.get("code")), read_message(error.get("message"), redact)
    return Answer(custom_id, None, _request_id(response) if response else None, b"", code, message)


def _answer(number: int, custom_id: str, result: Result) -> Answer | Unreadable:
    outcome = read_result(result)
    if outcome is None:
        return Unreadable(number, "has neither a message nor an error", custom_id)
    request_id = outcome.request_id and outcome.request_id[:MAX_ID]
    return Answer(custom_id, outcome.status, request_id, outcome.body, outcome.code, outcome.message)


def _status(response: _Response, error: Any) -> int:
    try:
        status = int(response.status_code or 0) or (_FAILED if error else _OK)
    except (TypeError, ValueError, OverflowError):
        return _FAILED
    return status if status in _STATUSES else _FAILED


def _request_id(response: _Response) -> str | None:
    text = response.request_id
    return text[:MAX_ID] if isinstance(text, str) and text else None


def _find_id(text: bytes) -> str | None:
    match = _CUSTOM_ID.search(text[:_START_BYTES])
    return match[1].decode() if match else None
