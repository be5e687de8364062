"""The input of `raw`: one request to the customer's endpoint, with one body or none."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from shared.contract.decoding import decode, json_object
from shared.contract.headers import caller_headers
from shared.contract.paths import relative_path
from shared.contract.refusals import printable
from shared.errors import InvalidJob

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
ResponseType = Literal["json", "text", "binary"]
QueryValue = str | int | float | bool
MediaType = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}(; ?[\x21-\x7e ]{1,200})?\Z",
        description="a media type such as audio/wav",
    ),
]


class FileInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of a form: its bytes, its name and its media type."""

    content: bytes
    """The file's bytes as base64."""
    filename: str | None = None
    """The name that the file is sent under. If left out, the name of the member."""
    content_type: MediaType | None = None
    """If left out, it follows from the file's name."""


class RawInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request to the connection's endpoint, with one body or none."""

    path: str
    """Relative to the connection's endpoint: not a full URL, without `?` and `..`."""
    method: Method | None = None
    """If left out, POST for a request with a body, else GET."""
    query: dict[str, QueryValue | list[QueryValue]] = {}
    """Parameters of the URL. A list repeats a name."""
    headers: dict[str, str] = {}
    """Headers, except those that the connection and the HTTP client set."""
    json: Raw | UnsetType = UNSET
    """A JSON body, sent as it is written. A request has one body."""
    data: str | UnsetType = UNSET
    """A text body."""
    form: dict[str, str] | UnsetType = UNSET
    """Fields of a form."""
    files: dict[str, bytes | FileInput] | UnsetType = UNSET
    """Files of a form: each base64, or an object with its name and media type."""
    response_type: ResponseType | None = None
    """How the response is read. If left out, its media type decides."""


class RawFile(Struct, frozen=True):
    """A file of a form, decoded."""

    filename: str
    content: bytes
    content_type: str | None


class RawRequest(Struct, frozen=True, kw_only=True):
    """The request to send. Its body is `content`, or the form made of `form` and `files`."""

    path: str
    method: str
    query: list[tuple[str, str]]
    headers: dict[str, str]
    """Names in lower case; `content-type` is among them if there is `content`."""
    content: bytes
    form: dict[str, str]
    files: dict[str, RawFile]
    response_type: str | None

    @property
    def model(self) -> str:
        """The model that the body or form names; empty if it names none."""
        named = self.form.get("model") or (json_object(self.content).get("model") if self.content else None)
        return named.strip() if isinstance(named, str) else ""


def decode_raw(data: Raw | bytes) -> RawRequest:
    """
    The request in `data`, a job's input: by default a POST if it has a body, else a GET.

    Raises InvalidJob with the path of the member at fault.
    """
    raw = decode(data, RawInput, at="input")
    bodies = [name for name in ("json", "data", "form", "files") if getattr(raw, name) is not UNSET]
    if len(bodies) > 1 and bodies != ["form", "files"]:
        raise InvalidJob(f"`input.{bodies[1]}` can't be combined with `input.{bodies[0]}`: a request has one body.")
    method = raw.method or ("POST" if bodies else "GET")
    if bodies and method == "GET":
        raise InvalidJob(f"`input.{bodies[0]}` can't be combined with the method GET, which has no body.")
    headers = caller_headers(raw.headers, at="input.headers")
    form = {} if isinstance(raw.form, UnsetType) else raw.form
    files = {} if isinstance(raw.files, UnsetType) else {name: _file(name, file) for name, file in raw.files.items()}
    content = b""
    if isinstance(raw.json, Raw):
        content = _json(raw.json)
        headers.setdefault("content-type", "application/json")
    elif isinstance(raw.data, str):
        content = raw.data.encode()
        headers.setdefault("content-type", "text/plain; charset=utf-8")
    elif bodies and "content-type" in headers:
        raise InvalidJob("`input.headers.content-type` can't be set for a form; the form sets its own.")
    elif bodies and not form and not files:
        raise InvalidJob(f"`input.{bodies[0]}` is empty.")
    return RawRequest(
        path=relative_path(raw.path, at="input.path"),
        method=method,
        query=[(name, text) for name, value in raw.query.items() for text in _texts(value)],
        headers=headers,
        content=content,
        form=form,
        files=files,
        response_type=raw.response_type,
    )


def _json(value: Raw) -> bytes:
    # Sent as it is written, numbers and order included; decoded only to be sure that it is JSON.
    text = bytes(value)
    decode(text, Any, at="input.json")
    return text


def _texts(value: QueryValue | list[QueryValue]) -> list[str]:
    values = value if isinstance(value, list) else [value]
    return [str(value).lower() if isinstance(value, bool) else str(value) for value in values]


def _file(name: str, file: bytes | FileInput) -> RawFile:
    if isinstance(file, bytes):
        return RawFile(name, file, None)
    if file.filename is not None and (not file.filename.strip() or not file.filename.isprintable()):
        raise InvalidJob(f"`input.files.{printable(name)}.filename` must be a file name on one line.")
    return RawFile(file.filename or name, file.content, file.content_type)
