"""The job: the JSON of a queue message, an HTTP body or a webhook's body."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import Meta, Raw, Struct

from shared.clock import now, rfc3339
from shared.contract.decoding import UNREADABLE, decode
from shared.contract.names import BlobName, BlobPath, JobId, ModelName, Name, QueueName, is_reserved_id, parse_blob_name
from shared.contract.processing import DEFAULT_DEADLINES_S, Processing, check_processing
from shared.errors import InvalidJob

Action = Literal[
    "chat", "multi_chat", "image", "summarize", "embed", "raw", "edit_image", "transcribe", "speak", "respond"
]
"""What callers can have done."""
AnyAction = Literal[Action, "statement"]
"""`statement` closes a month. The app sends itself these jobs (`jobs.statement_jobs`)."""
J = TypeVar("J", bound="Job")
ACTIONS: tuple[Action, ...] = get_args(Action)
METADATA_LIMIT = 4096
"""Bytes of JSON that `metadata` may take."""
MAX_DEADLINE_S = 604_800
"""Seven days."""
MAX_RUN_AHEAD = timedelta(days=30)
"""How far ahead a job's `run_at` may be when it is submitted."""

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


class Output(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the result goes, besides HTTP."""

    queue: bool | QueueName = True
    """Whether the result goes into the results queue, or the name of another queue that the app allows."""
    blob: bool = False
    """Whether the result is written to a blob even if it fits a message."""
    callback: CallbackUrl | None = None
    """Where the result is posted, signed."""


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
    deadline_s: Annotated[float, Meta(gt=0, le=MAX_DEADLINE_S)] | msgspec.UnsetType = msgspec.UNSET
    """
    Seconds after submission, or after `run_at`, at which the job ends as failed. If left out, `86400`; with a
    `processing` of `batch`, `background` or `cheapest`, which need `3600` or more, `90000`.
    """
    on_budget: Literal["fail", "wait"] = "fail"
    """
    What happens if a budget has too little left for the job: it fails, or waits for the budget's next period. While it
    waits, its deadline does not run, unless `deadline_s` is set, or `processing` is `batch`, `background` or
    `cheapest`.
    """
    processing: Processing = "standard"
    """
    How the calls are bought. `batch`: in the provider's batches, for about half the price and within a day; for chat,
    multi_chat, summarize, embed and respond. `background`: in a window of 8 hours, or of 2 if the deadline is nearer,
    for less; for respond and chat. `flex`: at OpenAI's flex tier, for half the price when it has room; for chat,
    multi_chat and summarize. `cheapest`: whichever of them can be done before the deadline.
    """
    run_at: Annotated[datetime, Meta(tz=True)] | None = None
    """When the job may start: RFC 3339 with an offset, at most 30 days ahead. If left out, or past, it is at once."""

    @property
    def lasts_s(self) -> float:
        """The `deadline_s` that holds."""
        if isinstance(self.deadline_s, msgspec.UnsetType):
            return DEFAULT_DEADLINES_S[self.processing]
        return self.deadline_s


class Job(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One request to run one action for one customer."""

    customer: Name
    """The customer whose subscription the job runs on and who is billed for it."""
    action: Action
    """What the job does; it decides what `input` holds."""
    job_id: JobId | None = None
    """
    The idempotency key within the customer; not `statements`, nor one that begins with `statement-`. If left out, a new
    one is made.
    """
    connection: Name | Annotated[list[Name], Meta(min_length=1, max_length=4)] = "default"
    """
    The name of one of the customer's connections, or a list of at most 4: the next one is used if the one before can't
    serve the job.
    """
    model: ModelName | None = None
    """Needed unless the connection names one."""
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

    @property
    def id(self) -> str:
        """The job's id; `decode_job` makes sure that there is one."""
        return self.job_id or ""

    @property
    def first_connection(self) -> str:
        """The name of its connection, or of the first of several."""
        return self.connection if isinstance(self.connection, str) else self.connection[0]


def decode_job(body: bytes, *, default_id: str) -> Job:
    """
    A caller's `body` as a job whose id is its own `job_id`, or `default_id`.

    Raises InvalidJob with the path of the member at fault.
    """
    job = decode_job_as(Job, body, default_id=default_id)
    if is_reserved_id(job.id):
        raise InvalidJob("`job_id` must not be `statements`, or begin with `statement-`: these ids are the app's own.")
    check_run_at(job)
    return job


def decode_job_as(kind: type[J], body: bytes, *, default_id: str) -> J:
    """As `decode_job`, for a type of jobs with more members."""
    try:
        body.decode()
    except UnicodeDecodeError as exc:
        raise InvalidJob(f"The job is not valid UTF-8 (byte {exc.start}).") from exc
    job = decode(body, kind)
    _check_input(job)
    if isinstance(job.connection, list) and len(set(job.connection)) < len(job.connection):
        raise InvalidJob("`connection` must not name a connection twice.")
    if _size(job.metadata) > METADATA_LIMIT:
        raise InvalidJob(f"`metadata` is larger than {METADATA_LIMIT} bytes.")
    if job.options.processing != "standard":
        check_processing(job.action, job.options.processing, job.options.lasts_s)
    return job if job.job_id is not None else msgspec.structs.replace(job, job_id=default_id)


def check_run_at(job: Job, *, skew: timedelta = timedelta()) -> None:
    """Raise InvalidJob if the job's `run_at` is too far ahead, by more than `skew`."""
    latest = now() + MAX_RUN_AHEAD
    if job.options.run_at is not None and job.options.run_at > latest + skew:
        raise InvalidJob(f"`options.run_at` is more than 30 days ahead: it may be {rfc3339(latest)} at the latest.")


def named_blob(job: Job) -> BlobName | None:
    """The blob that holds the job's input, or None if the job itself does."""
    if isinstance(job.input_blob, str):
        return parse_blob_name(job.input_blob, at="input_blob")
    if isinstance(job.input, Raw) and b'"input_blob"' in bytes(job.input):
        members = decode(job.input, dict[str, Any], at="input")
        if set(members) == {"input_blob"}:
            return parse_blob_name(members["input_blob"], at="input.input_blob")
    return None


_ECHOED = {"job_id": JobId, "customer": Name, "action": AnyAction, "model": ModelName, "metadata": dict[str, str]}


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


def explicit_members(job: Job) -> dict[str, Any]:
    """The members that differ from their defaults: a member that a later version adds changes no earlier job."""
    return _differences(Job, job)


def _differences(kind: type[Struct], part: Struct) -> dict[str, Any]:
    members, values = {}, msgspec.structs.asdict(part)
    for name, default in _defaults(kind).items():
        value = values[name]
        if value != default:
            members[name] = _differences(type(value), value) if isinstance(value, Struct) else value
    return members


@cache
def _defaults(kind: type[Struct]) -> dict[str, Any]:
    return {
        field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for field in msgspec.structs.fields(kind)
    }


def _check_input(job: Job) -> None:
    present = [name for name in ("input", "input_blob") if getattr(job, name) is not msgspec.UNSET]
    if not present:
        raise InvalidJob("`input` is missing.")
    if len(present) > 1:
        raise InvalidJob("`input` and `input_blob` can't be combined: leave one of them out.")
    if isinstance(job.input, Raw):
        decode(job.input, dict[str, Any], at="input")
    named_blob(job)


def _size(value: Any) -> int:
    """Bytes that `value` takes as JSON."""
    return len(msgspec.json.encode(value))
