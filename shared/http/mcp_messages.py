"""
Messages of the Model Context Protocol: JSON-RPC 2.0 over HTTP, one message a request.

Two ways to begin are in use. Until 2025-11-25, a client sends `initialize` and then its version in a header. From
2026-07-28, each request says by itself what it needs (modelcontextprotocol.io/specification).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from shared.contract.decoding import decode
from shared.errors import InvalidJob
from shared.http.messages import Request, Response, json_response

STATELESS = "2026-07-28"
"""The version without `initialize`."""
WITH_INITIALIZE = ("2025-11-25", "2025-06-18", "2025-03-26")
"""Earlier versions, newest first. The one before them has another transport."""
VERSIONS = (STATELESS, *WITH_INITIALIZE)
UNNAMED = "2025-03-26"
"""The version of a client that names none, as the specification says."""

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
HEADER_MISMATCH = -32020
UNSUPPORTED_VERSION = -32022
_STATUSES = {INVALID_PARAMS: 400, METHOD_NOT_FOUND: 404}
"""Of errors in a valid message, from STATELESS on. Before, such an error is a 200."""
_META_KEY = "io.modelcontextprotocol/"
_ENCODED = ("=?base64?", "?=")
"""What stands around a header's value that is not plain ASCII."""

T = TypeVar("T")
MessageId = int | str


class McpError(Exception):
    """A message that can't be answered: an error of JSON-RPC, with the status of the response."""

    def __init__(self, code: int, message: str, *, status: int = 400, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.data = data


class Message(Struct, frozen=True, kw_only=True):
    """A request of a client, or a notification, which has no id."""

    jsonrpc: Literal["2.0"]
    method: str
    id: MessageId | UnsetType = UNSET
    params: dict[str, Raw] = {}


def read_message(body: bytes) -> Message:
    """Raises McpError for what is not one message: not JSON, a batch, a response."""
    if body.lstrip()[:1] == b"[":
        raise McpError(INVALID_REQUEST, "The body must be one message: batches are not accepted.")
    try:
        body.decode()
    except UnicodeDecodeError as exc:
        raise McpError(PARSE_ERROR, f"The message is not valid UTF-8 (byte {exc.start}).") from exc
    try:
        return decode(body, Message, root="The message")
    except InvalidJob as exc:
        is_json = exc.__cause__ is None or isinstance(exc.__cause__, msgspec.ValidationError)
        raise McpError(INVALID_REQUEST if is_json else PARSE_ERROR, str(exc)) from exc


def read_params(message: Message, kind: type[T]) -> T:
    """The message's `params` as a `kind`. Raises McpError."""
    try:
        return decode(msgspec.json.encode(message.params), kind, at="params")
    except InvalidJob as exc:
        raise McpError(INVALID_PARAMS, str(exc), status=200) from exc


def read_version(request: Request) -> str:
    """The version of the protocol that a message is in. Raises McpError if it is unknown."""
    version = request.headers.get("mcp-protocol-version", UNNAMED)
    if version not in VERSIONS:
        data = {"supported": list(VERSIONS), "requested": version}
        raise McpError(UNSUPPORTED_VERSION, f"The version must be one of {', '.join(VERSIONS)}.", data=data)
    return version


def respond(message: Message, version: str, result: Mapping[str, Any]) -> Response:
    """The response with the result of a request."""
    if version == STATELESS:
        result = {"resultType": "complete", **result}
    return json_response({"jsonrpc": "2.0", "id": message.id, "result": result})


def respond_error(error: McpError, message: Message | None, version: str) -> Response:
    """The response to what can't be answered."""
    message_id = None if message is None or message.id is UNSET else message.id
    body = {"code": error.code, "message": str(error)} | ({} if error.data is None else {"data": error.data})
    status = _STATUSES.get(error.code, error.status) if version == STATELESS else error.status
    return json_response({"jsonrpc": "2.0", "id": message_id, "error": body}, status=status)


def check_envelope(headers: Mapping[str, str], message: Message) -> None:
    """Raises McpError unless a request has what STATELESS asks for, and its headers say the same as its body."""
    meta = read_params(message, _Params).meta
    missing = [name for name in ("protocolVersion", "clientCapabilities") if f"{_META_KEY}{name}" not in meta]
    if missing:
        raise McpError(INVALID_PARAMS, f"`params._meta` has no `{_META_KEY}{missing[0]}`.")
    expected: dict[str, Any] = {"mcp-method": message.method}
    if message.method == "tools/call":
        expected["mcp-name"] = _value(message.params.get("name"))
    for name, value in expected.items():
        if _header_text(headers.get(name)) != value:
            raise McpError(HEADER_MISMATCH, f"The header `{name}` is missing, or differs from the body.")
    if _value(meta[f"{_META_KEY}protocolVersion"]) != STATELESS:
        raise McpError(HEADER_MISMATCH, "The header `mcp-protocol-version` differs from the body.")


class _Params(Struct, frozen=True):
    meta: dict[str, Raw] = msgspec.field(name="_meta", default_factory=dict)


def _value(raw: Raw | None) -> Any:
    try:
        return None if raw is None else msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return None


def _header_text(text: str | None) -> str | None:
    before, after = _ENCODED
    if text is None or not (text.startswith(before) and text.endswith(after)):
        return text
    try:
        return base64.b64decode(text[len(before) : -len(after)], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
