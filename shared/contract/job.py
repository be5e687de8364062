"""The job, as it stands in a queue message, an HTTP body or a webhook's body."""

from __future__ import annotations

import contextlib
import hashlib
import re
from datetime import datetime
from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from shared.clock import rfc3339
from shared.contract.decoding import NAME_RULE, UNREADABLE, decode, is_job_id, is_name, shown
from shared.errors import InvalidJob

ACTIONS = ("chat", "multi_chat", "image", "summarize", "embed", "raw")
METADATA_LIMIT = 4096
"""Bytes of JSON that `metadata` may take."""
LONGEST_DEADLINE_S = 604_800
"""Seconds: seven days."""

_MODEL_LIMIT = 200
_CALLBACK_LIMIT = 2000
_QUEUE_NAME = re.compile(r"[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9]")
_BLOB_NAME = re.compile(r"(?P<container>[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9])/(?P<name>[^\x00-\x1f\\]{1,900})")


# Where it may lead is for `outputs`, and for the moment when it is called; http only ever on one's own machine.
_CALLBACK = re.compile(rf"(?=.{{0,{_CALLBACK_LIMIT}}}$)https?://[\x21-\x7e]+")


OWN_INPUT = re.compile(r"[^/]+/(?P<customer>[^/]+)/(?P<job_id>[^/]+)/input-(?P<digest>[0-9a-f]{32})\.json")
"""Where an input that came over HTTP is put that fits no message: `container/customer/job/…`."""


class BlobName(Struct, frozen=True):
    """A blob somebody else wrote, to be read."""

    container: str
    name: str


class Output(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the result goes."""

    queue: bool | str = True
    blob: bool = False
    callback: str | None = None


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How patiently the upstream is called."""

    timeout_s: Annotated[float, Meta(gt=0, le=480)] = 120.0
    """Seconds that one call may take, from the connection to the answer's last byte."""
    max_retries: Annotated[int, Meta(ge=0, le=20)] = 4
    """How often a failed call is tried again; a wait that the server itself asks for at length is not counted."""
    retry_delay_ms: Annotated[int, Meta(ge=0, le=300_000)] = 1000
    """Milliseconds before the first retry, where the server names no time of its own."""
    exponential_backoff: bool = True
    """Doubles that delay at each retry, with jitter, up to a minute, or up to itself where it is longer."""
    retry_on_all_errors: bool = False
    """Retries every refusal, not only those that are worth it."""
    strict: bool = False
    """Sends parameters just as given: one that the model does not take fails the job, and is not adapted."""
    deadline_s: Annotated[float, Meta(gt=0, le=LONGEST_DEADLINE_S)] = 86_400.0
    """Seconds from submission after which the job ends as failed."""


class PutBack(Struct, frozen=True, kw_only=True):
    """What we write on a job that goes back into its queue, where a message forgets when it first came."""

    submitted_at: Annotated[datetime, Meta(tz=True)]
    traceparent: Annotated[str, Meta(max_length=55)] | None = None
    """The trace that the job belongs to (w3.org/TR/trace-context), where telemetry is on. What is none is ignored."""


class Job(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request to run one action for one customer."""

    customer: str
    action: str
    job_id: str | None = None
    connection: str = "default"
    model: str | None = None
    input: Raw | msgspec.UnsetType = msgspec.UNSET
    input_blob: str | msgspec.UnsetType = msgspec.UNSET
    output: Output = Output()
    options: Options = Options()
    metadata: dict[str, Any] = {}
    put_back: PutBack | None = msgspec.field(default=None, name="_put_back")
    """Ours alone: no part of what is asked."""

    @property
    def id(self) -> str:
        """The job's id; `decode_job` has seen to it that there is one."""
        return self.job_id or ""


def decode_job(body: bytes, *, default_id: str) -> Job:
    """
    `body` as a job whose id is its own `job_id`, or `default_id`.

    Raises InvalidJob with the path of the member at fault.
    """
    try:
        body.decode()
    except UnicodeDecodeError as exc:
        raise InvalidJob(f"The job is not valid UTF-8 (byte {exc.start}).") from exc
    job = decode(body, Job)
    _check_names(job)
    _check_input(job)
    _check_output(job.output)
    _check_metadata(job.metadata)
    if job.job_id is None:
        job = msgspec.structs.replace(job, job_id=default_id)
    return job


def encode_job(job: Job, *, submitted_at: datetime, traceparent: str | None = None) -> bytes:
    """The job as bytes, for putting it back into the queue under its own id and first time, and in its trace."""
    put_back = {"submitted_at": rfc3339(submitted_at), **({"traceparent": traceparent} if traceparent else {})}
    return msgspec.json.encode({**_members(job), "_put_back": put_back})


def request_hash(job: Job) -> str:
    """
    SHA-256 (hex) over what the job asks for, whatever its id: two jobs with one id must agree in it.

    It stands in the rows of jobs for as long as these are kept, so it must be the same in the next version.
    """
    asked = _members(job)
    asked.pop("job_id", None)
    own = OWN_INPUT.fullmatch(asked.get("input_blob", ""))
    if isinstance(job.input, Raw):
        asked["input"] = input_digest(job.input)
    elif own:  # the same, whether it stands in the message or in a blob of the job's own
        asked["input"] = own["digest"]
        del asked["input_blob"]
    return hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()


def input_digest(data: Raw) -> str:
    """32 hex digits over what an input says: white space, escapes and the order of members are no difference."""
    return hashlib.sha256(msgspec.json.encode(msgspec.json.decode(data), order="sorted")).hexdigest()[:32]


def with_own_blob(job: Job, container: str) -> tuple[Job, str, bytes]:
    """
    The job with its `input`, which it carries, in a blob of its own instead; that blob's name below the job's other
    blobs, and its bytes. It asks for the same: its hash is the same.
    """
    assert isinstance(job.input, Raw)  # noqa: S101  # one that names a blob fits any message
    # As it was written; named after what it says, so that another input makes another name, and another request.
    name = f"input-{input_digest(job.input)}.json"
    place = f"{container}/{job.customer}/{job.id}/{name}"
    return msgspec.structs.replace(job, input=msgspec.UNSET, input_blob=place), name, bytes(job.input)


def named_blob(job: Job) -> BlobName | None:
    """The blob that holds the job's input, or None where the job carries it itself."""
    if isinstance(job.input_blob, str):
        return parse_blob_name(job.input_blob, at="input_blob")
    if isinstance(job.input, Raw) and b'"input_blob"' in bytes(job.input):
        members = decode(job.input, dict[str, Any], at="input")
        if set(members) == {"input_blob"}:
            return parse_blob_name(members["input_blob"], at="input.input_blob")
    return None


def parse_blob_name(text: Any, *, at: str) -> BlobName:
    """`container/name` taken apart. Raises InvalidJob naming `at`."""
    match = _BLOB_NAME.fullmatch(text) if isinstance(text, str) else None
    if match is None or any(part in {"", ".", ".."} for part in match["name"].split("/")):
        raise InvalidJob(f"`{at}` must be `container/name` of a blob.")
    return BlobName(match["container"], match["name"])


def salvage(body: bytes) -> dict[str, Any]:
    """What of a refused job can be echoed in its result: the valid ones of its echoed members."""
    try:
        members = msgspec.json.decode(body, type=dict[str, Raw])
    except UNREADABLE:
        return {}
    valid = {
        "job_id": is_job_id,
        "customer": is_name,
        "action": lambda value: value in ACTIONS,
        "model": _is_model,
        "metadata": _is_metadata,
    }
    found = {}
    for name, is_valid in valid.items():
        with contextlib.suppress(*UNREADABLE):
            if name in members and is_valid(value := msgspec.json.decode(members[name])):
                found[name] = value
    return found


def _members(part: Struct) -> dict[str, Any]:
    """What is not as it would be if it were left out: so a member that a later version adds changes no older job."""
    members = {}
    for name, default in _defaults(type(part)).items():
        value = getattr(part, name)
        if value != default and name != "put_back":
            members[name] = _members(value) if isinstance(value, Struct) else value
    return members


@cache
def _defaults(kind: type[Struct]) -> dict[str, Any]:
    return {
        field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for field in msgspec.structs.fields(kind)
    }


def _check_names(job: Job) -> None:
    if not is_name(job.customer):
        raise InvalidJob(f"`customer` must be {NAME_RULE}.")
    if not is_name(job.connection):
        raise InvalidJob(f"`connection` must be {NAME_RULE}.")
    if job.action not in ACTIONS:
        raise InvalidJob(f"`action` must be one of {', '.join(ACTIONS)}.")
    if job.job_id is not None and not is_job_id(job.job_id):
        raise InvalidJob("`job_id` must be 1 to 100 letters, digits, `.`, `_` or `-`, and not `.` or `..`.")
    if job.model is not None:
        check_model(job.model)


def check_model(model: str) -> None:
    """Raises InvalidJob for what can't name a model."""
    if not _is_model(model):
        raise InvalidJob(f"`model` must be the name of a model or deployment, 1 to {_MODEL_LIMIT} characters.")


def _check_input(job: Job) -> None:
    given = [name for name in ("input", "input_blob") if getattr(job, name) is not msgspec.UNSET]
    if not given:
        raise InvalidJob("`input` is missing.")
    if len(given) > 1:
        raise InvalidJob("`input_blob` stands in place of `input`: give one of the two.")
    if isinstance(job.input, Raw):
        decode(job.input, dict[str, Any], at="input")
    named_blob(job)


def _check_output(output: Output) -> None:
    if isinstance(output.queue, str) and not _QUEUE_NAME.fullmatch(output.queue):
        raise InvalidJob("`output.queue` must be true, false or the name of a queue.")
    if output.callback is not None and not _CALLBACK.fullmatch(output.callback):
        raise InvalidJob(f"`output.callback` must be an https URL of at most {_CALLBACK_LIMIT} ASCII characters.")


def _is_model(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= len(value) <= _MODEL_LIMIT


def _is_metadata(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and all(isinstance(text, str) for text in value.values())
        and len(msgspec.json.encode(value)) <= METADATA_LIMIT
    )


def _check_metadata(metadata: dict[str, Any]) -> None:
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise InvalidJob(f"`metadata.{shown(name)}` must be a string.")
    if not _is_metadata(metadata):
        raise InvalidJob(f"`metadata` takes more than {METADATA_LIMIT} bytes.")
