"""The job: the JSON of a queue message, an HTTP body or a webhook's body."""

from __future__ import annotations

import contextlib
import hashlib
import re
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta, Raw, Struct

from shared.clock import rfc3339
from shared.contract.decoding import UNREADABLE, decode
from shared.contract.names import BlobName, BlobPath, JobId, ModelName, Name, QueueName, parse_blob_name
from shared.errors import InvalidJob

Action = Literal["chat", "multi_chat", "image", "summarize", "embed", "raw"]
ACTIONS: tuple[Action, ...] = get_args(Action)
METADATA_LIMIT = 4096
"""Bytes of JSON that `metadata` may take."""
LONGEST_DEADLINE_S = 604_800
"""Seconds: seven days."""

# The egress policy decides which hosts may be called; plain http is for one's own machine alone.
CallbackUrl = Annotated[
    str,
    Meta(
        max_length=2000,
        pattern=r"^https?://[\x21-\x7e]+\Z",
        description="an https URL of at most 2000 ASCII characters",
        extra_json_schema={"format": "uri"},
    ),
]

OWN_INPUT = re.compile(r"[^/]+/(?P<customer>[^/]+)/(?P<job_id>[^/]+)/input-(?P<digest>[0-9a-f]{32})\.json")
"""Where an input that came over HTTP is put that fits no message: `container/customer/job/…`."""


class Output(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the result goes, besides HTTP."""

    queue: bool | QueueName = True
    """Whether the result goes into the results queue, or the name of another queue that the app allows."""
    blob: bool = False
    """Whether the result is written to a blob even if it fits a message."""
    callback: CallbackUrl | None = None
    """An https URL that the result is posted to, signed."""


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the endpoint is called: timeout, retries and deadline."""

    timeout_s: Annotated[float, Meta(gt=0, le=480)] = 120.0
    """Seconds that one call may take, from the connection to the last byte of the response."""
    max_retries: Annotated[int, Meta(ge=0, le=20)] = 4
    """How often a failed call is tried again. A long wait that the server itself asks for is not counted."""
    retry_delay_ms: Annotated[int, Meta(ge=0, le=300_000)] = 1000
    """Milliseconds before the first retry, if the server does not say how long to wait."""
    exponential_backoff: bool = True
    """Doubles the delay at each retry, with jitter, up to a minute, or up to the delay itself if it is longer."""
    retry_on_all_errors: bool = False
    """Retries after every error response, not only after those that are usually temporary."""
    strict: bool = False
    """Sends parameters exactly as they are: if the model refuses one, the job fails instead of being adapted."""
    deadline_s: Annotated[float, Meta(gt=0, le=LONGEST_DEADLINE_S)] = 86_400.0
    """Seconds after submission at which the job ends as failed."""


class Envelope(Struct, frozen=True, kw_only=True):
    """What we write on a job that goes back into its queue, where a message forgets when it first came."""

    submitted_at: Annotated[datetime, Meta(tz=True)]
    traceparent: Annotated[str, Meta(max_length=55)] | None = None
    """The trace that the job belongs to (w3.org/TR/trace-context), where telemetry is on. What is none is ignored."""


class Job(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request to run one action for one customer."""

    customer: Name
    """The customer whose subscription the job runs on and who is billed for it."""
    action: Action
    """What the job does; it decides what `input` holds."""
    job_id: JobId | None = None
    """The idempotency key within the customer. If left out, a new one is made."""
    connection: Name = "default"
    """The name of one of the customer's connections."""
    model: ModelName | None = None
    """The deployment or model. Needed unless the connection names one."""
    input: Raw | msgspec.UnsetType = msgspec.UNSET
    """What the action works on, or the name of a blob that holds it."""
    input_blob: BlobPath | msgspec.UnsetType = msgspec.UNSET
    """A blob that holds the input, in place of `input`. The blob's name begins with `{customer}/`."""
    output: Output = Output()
    """Where the result goes, besides HTTP."""
    options: Options = Options()
    """How the endpoint is called: timeout, retries and deadline."""
    metadata: dict[str, str] = {}
    """Strings that are repeated in the result; at most 4096 bytes of JSON."""
    envelope: Envelope | None = msgspec.field(default=None, name="_envelope")
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
    _check_input(job)
    if _size(job.metadata) > METADATA_LIMIT:
        raise InvalidJob(f"`metadata` takes more than {METADATA_LIMIT} bytes.")
    if job.job_id is None:
        job = msgspec.structs.replace(job, job_id=default_id)
    return job


def encode_job(job: Job, *, submitted_at: datetime, traceparent: str | None = None) -> bytes:
    """The job as bytes, for putting it back into the queue under its own id and first time, and in its trace."""
    envelope = {"submitted_at": rfc3339(submitted_at), **({"traceparent": traceparent} if traceparent else {})}
    return msgspec.json.encode({**_members(job), "_envelope": envelope})


def fingerprint(job: Job) -> str:
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


_ECHOED = {"job_id": JobId, "customer": Name, "action": Action, "model": ModelName, "metadata": dict[str, str]}


def salvage(body: bytes) -> dict[str, Any]:
    """The members of a refused job that its result can repeat: those that are valid by themselves."""
    try:
        members = msgspec.json.decode(body, type=dict[str, Raw])
    except UNREADABLE:
        return {}
    valid = {}
    for name in _ECHOED.keys() & members.keys():
        with contextlib.suppress(*UNREADABLE):
            valid[name] = msgspec.json.decode(members[name], type=_ECHOED[name])
    if _size(valid.get("metadata")) > METADATA_LIMIT:
        del valid["metadata"]
    return valid


def _members(part: Struct) -> dict[str, Any]:
    """What is not as it would be if it were left out: so a member that a later version adds changes no older job."""
    members = {}
    for name, default in _defaults(type(part)).items():
        value = getattr(part, name)
        if value != default and name != "envelope":
            members[name] = _members(value) if isinstance(value, Struct) else value
    return members


@cache
def _defaults(kind: type[Struct]) -> dict[str, Any]:
    return {
        field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for field in msgspec.structs.fields(kind)
    }


def _check_input(job: Job) -> None:
    given = [name for name in ("input", "input_blob") if getattr(job, name) is not msgspec.UNSET]
    if not given:
        raise InvalidJob("`input` is missing.")
    if len(given) > 1:
        raise InvalidJob("`input_blob` stands in place of `input`: give one of the two.")
    if isinstance(job.input, Raw):
        decode(job.input, dict[str, Any], at="input")
    named_blob(job)


def _size(value: Any) -> int:
    """Bytes that `value` takes as JSON."""
    return len(msgspec.json.encode(value))
