"""The lines of a batch's input file, checked as the provider checks them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from local.provider.account import Account
from local.provider.answers import count_tokens, inputs_of, prompt_of
from local.provider.calls import check_model
from local.provider.errors import ApiError

MAX_ERRORS = 100
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class LineError:
    """Why a file is refused. `line` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(slots=True)
class Lines:
    """
    A file's lines: their custom_ids, and where each is in the file.

    They are decoded again when they are executed, because ten thousand of them as objects are some ten times as large.
    """

    content: bytes = field(repr=False)
    spans: list[tuple[str, int, int]] = field(default_factory=list, repr=False)
    model: str = ""
    input_tokens: int = 0
    errors: list[LineError] = field(default_factory=list)

    def body(self, index: int) -> Mapping[str, Any]:
        """Return the body of a line."""
        _, start, end = self.spans[index]
        body: Mapping[str, Any] = _decode(self.content[start:end])["body"]
        return body


def read_lines(account: Account, content: bytes, endpoint: str) -> Lines:
    """Read a file for a batch. What is wrong with it is in `errors`."""
    lines = Lines(content)
    custom_ids: set[str] = set()
    operation = operation_of(endpoint)
    inputs = number = start = 0
    while start < len(content):
        end = content.find(b"\n", start)
        end = len(content) if end < 0 else end
        number += 1
        if content[start:end].strip():
            try:
                custom_id, body = _read(content[start:end], endpoint)
                if custom_id in custom_ids:
                    raise ApiError(400, "duplicate_custom_id", "The custom_id is that of another line.", "custom_id")
                custom_ids.add(custom_id)
                _check_model(account, lines, str(body.get("model") or ""))
                lines.input_tokens += _tokens(operation, body)
                inputs += len(inputs_of(body)) if operation == "embeddings" else 0
                lines.spans.append((custom_id, start, end))
            except ApiError as exc:
                lines.errors.append(LineError(exc.code, str(exc), number, exc.param))
                if len(lines.errors) >= MAX_ERRORS:
                    return lines
        start = end + 1
    if not lines.spans and not lines.errors:
        lines.errors.append(LineError("empty_file", "The input file has no lines."))
    if len(lines.spans) > account.limits.lines or inputs > account.limits.embedding_inputs:
        lines.errors.append(LineError("too_many_tasks", "The input file has too many lines or inputs."))
    return lines


def operation_of(endpoint: str) -> str:
    """Return the operation of a batch's `endpoint`, such as `/v1/chat/completions`."""
    return endpoint.removeprefix("/v1").strip("/")


def _read(line: bytes, endpoint: str) -> tuple[str, Mapping[str, Any]]:
    try:
        value = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ApiError(400, "invalid_json_line", "The line is not a valid JSON object.") from None
    match value:
        case {"custom_id": str(custom_id), "method": "POST", "url": str(url), "body": dict(body)} if custom_id:
            if operation_of(url) != operation_of(endpoint):
                raise ApiError(400, "url_mismatch", f"The URL of the line is not the batch's: {endpoint}.", "url")
            if {"background", "background_options", "stream"} & body.keys():
                raise ApiError(400, "invalid_request", "A line is neither streamed nor made in the background.", "body")
            return custom_id, body
        case dict():
            raise ApiError(400, "invalid_request", "The line needs custom_id, method, url and body.")
        case _:
            raise ApiError(400, "invalid_json_line", "The line is not a valid JSON object.")


def _check_model(account: Account, lines: Lines, model: str) -> None:
    if lines.model and model != lines.model:
        raise ApiError(400, "model_mismatch", f"All lines must have the model {lines.model}.", "body.model")
    lines.model = model
    try:
        check_model(account, model, batch=True)
    except ApiError as exc:
        raise ApiError(400, "model_not_found", str(exc), "body.model") from None


def _tokens(operation: str, body: Mapping[str, Any]) -> int:
    try:
        return count_tokens(prompt_of(operation, body))
    except ApiError:  # the line errors when it is executed; the file is well-formed
        return 0
