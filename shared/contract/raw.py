"""The input of `raw`: one request to the customer's endpoint, with one body or none."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from shared.contract.decoding import UNREADABLE, decode, json_object
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


T = TypeVar("T")
Repeated = Annotated[list[T], Meta(min_length=1, description="one value, or a list of at least one")]
"""The values of a name that repeats, in their order."""
MAX_PARTS = 1000
"""Fields and files of a form. Each takes much more memory than its text."""


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
    form: dict[str, str | Repeated[str]] | UnsetType = UNSET
    """Fields of a form. A list repeats a name."""
    files: dict[str, bytes | FileInput | Repeated[bytes | FileInput]] | UnsetType = UNSET
    """Files of a form: each base64, or an object with its name and media type. A list repeats a name."""
    response_type: ResponseType | None = None
    """How the response is read. If left out, its media type decides."""


class _Body(Struct):
    model: Any = None


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
    form: dict[str, list[str]]
    files: dict[str, list[RawFile]]
    response_type: str | None

    @property
    def model(self) -> str:
        """The model that the body or form names; empty if it names none."""
        in_form = self.form.get("model")
        named = in_form[0] if in_form else (_model_in(self.content) if self.content else None)
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
    form = {} if isinstance(raw.form, UnsetType) else {name: _listed(value) for name, value in raw.form.items()}
    files = {} if isinstance(raw.files, UnsetType) else {name: _files(name, value) for name, value in raw.files.items()}
    if sum(map(len, form.values())) + sum(map(len, files.values())) > MAX_PARTS:
        raise InvalidJob(f"`input.{bodies[0]}` has more than {MAX_PARTS:,} fields and files.")
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


def _model_in(content: bytes) -> Any:
    try:
        return msgspec.json.decode(content, type=_Body).model  # the rest of the body may be long
    except UNREADABLE:
        return json_object(content).get("model")


def _json(value: Raw) -> bytes:
    # Sent as it is written, numbers and order included; decoded only to be sure that it is JSON.
    text = bytes(value)
    decode(text, Any, at="input.json")
    return text


def _texts(value: QueryValue | list[QueryValue]) -> list[str]:
    return [str(each).lower() if isinstance(each, bool) else str(each) for each in _listed(value)]


def _listed(value: T | list[T]) -> list[T]:
    return value if isinstance(value, list) else [value]


def _files(name: str, value: bytes | FileInput | list[bytes | FileInput]) -> list[RawFile]:
    if not isinstance(value, list):
        return [_file(name, value, printable(name))]
    return [_file(name, file, f"{printable(name)}[{index}]") for index, file in enumerate(value)]


def _file(name: str, file: bytes | FileInput, at: str) -> RawFile:
    if isinstance(file, bytes):
        return RawFile(name, file, None)
    if file.filename is not None and (not file.filename.strip() or not file.filename.isprintable()):
        raise InvalidJob(f"`input.files.{at}.filename` must be a file name on one line.")
    return RawFile(file.filename or name, file.content, file.content_type)
