"""The input of `raw`: one request to the customer's endpoint, with one body or none."""

from __future__ import annotations

import base64
import re
from typing import Any

from msgspec import UNSET, Raw, Struct, UnsetType

from shared.contract.decoding import decode, shown
from shared.contract.headers import caller_headers
from shared.contract.paths import relative_path
from shared.errors import InvalidJob

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
RESPONSE_TYPES = ("json", "text", "binary")

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}(?:; ?[\x21-\x7e ]{1,200})?")


class FileInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of a form, where there is more to say than its bytes."""

    content: str
    filename: str | None = None
    content_type: str | None = None


class RawInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The members as they are given."""

    path: str
    method: str | None = None
    query: dict[str, Any] = {}
    headers: dict[str, Any] = {}
    json: Raw | UnsetType = UNSET
    data: str | UnsetType = UNSET
    form: dict[str, Any] | UnsetType = UNSET
    files: dict[str, Raw] | UnsetType = UNSET
    response_type: str | None = None


class RawFile(Struct, frozen=True):
    """A file of a form, decoded."""

    filename: str
    content: bytes
    content_type: str | None


class RawRequest(Struct, frozen=True, kw_only=True):
    """The request that is asked for. The body is `content`, or the form of `form` and `files`."""

    path: str
    method: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    """Names in lower case, `content-type` among them where there is `content`."""
    content: bytes
    form: dict[str, str]
    files: dict[str, RawFile]
    response_type: str | None


def decode_raw(data: Raw | bytes) -> RawRequest:
    """
    The request that an input asks for: a POST where it has a body and names no method, else a GET.

    Raises InvalidJob with the path of the member at fault.
    """
    given = decode(data, RawInput, at="input")
    for name, known in (("method", METHODS), ("response_type", RESPONSE_TYPES)):
        if getattr(given, name) not in (None, *known):
            raise InvalidJob(f"`input.{name}` must be one of {', '.join(known)}.")
    bodies = [name for name in ("json", "data", "form", "files") if getattr(given, name) is not UNSET]
    if len(bodies) > 1 and bodies != ["form", "files"]:
        raise InvalidJob(f"`input.{bodies[1]}` can't stand beside `input.{bodies[0]}`: a request has one body.")
    method = given.method or ("POST" if bodies else "GET")
    if bodies and method == "GET":
        raise InvalidJob(f"`input.{bodies[0]}` can't go with the method GET, which has no body.")
    headers = caller_headers(given.headers, at="input.headers")
    form, files = _form(given)
    content = b""
    if "json" in bodies:
        content = _json(given.json)
        headers.setdefault("content-type", "application/json")
    elif "data" in bodies:
        content = str(given.data).encode()
        headers.setdefault("content-type", "text/plain; charset=utf-8")
    elif bodies and "content-type" in headers:
        raise InvalidJob("`input.headers.content-type` can't be set for a form, which has its own.")
    elif bodies and not form and not files:
        raise InvalidJob(f"`input.{bodies[0]}` is empty.")
    return RawRequest(
        path=relative_path(given.path, at="input.path"),
        method=method,
        query=[pair for name, value in given.query.items() for pair in _pairs(name, value)],
        headers=headers,
        content=content,
        form=form,
        files=files,
        response_type=given.response_type,
    )


def _json(given: Raw | UnsetType) -> bytes:
    # Sent as it is written, numbers and order included; decoded only to be sure that it is JSON.
    text = bytes(given) if isinstance(given, Raw) else b""
    decode(text, Any, at="input.json")
    return text


def _pairs(name: str, value: Any) -> list[tuple[str, str]]:
    return [(name, _text(one, name)) for one in (value if isinstance(value, list) else [value])]


def _text(value: Any, name: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, int | float):
        raise InvalidJob(f"`input.query.{shown(name)}` must be a string, a number, true, false, or a list of those.")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _form(given: RawInput) -> tuple[dict[str, str], dict[str, RawFile]]:
    fields = given.form if isinstance(given.form, dict) else {}
    for name, value in fields.items():
        if not isinstance(value, str):
            raise InvalidJob(f"`input.form.{shown(name)}` must be a string.")
    files = given.files if isinstance(given.files, dict) else {}
    return fields, {name: _file(name, value) for name, value in files.items()}


def _file(name: str, value: Raw) -> RawFile:
    at = f"input.files.{shown(name)}"
    told = decode(value, str | FileInput, at=at)  # type: ignore[arg-type]  # msgspec takes a union
    given = FileInput(content=told) if isinstance(told, str) else told
    if given.content_type is not None and not _MEDIA_TYPE.fullmatch(given.content_type):
        raise InvalidJob(f"`{at}.content_type` must be a media type such as audio/wav.")
    if given.filename is not None and (not given.filename.strip() or not given.filename.isprintable()):
        raise InvalidJob(f"`{at}.filename` must be a file's name, on one line.")
    try:
        content = base64.b64decode(given.content, validate=True)
    except ValueError as exc:  # with it binascii's own, and that of a character beyond ASCII
        where = at if isinstance(told, str) else f"{at}.content"
        raise InvalidJob(f"`{where}` must be base64.") from exc
    return RawFile(given.filename or name, content, given.content_type)
