"""
The actions: what a job can ask a model to do.

An action is a module (see Action), imported when the first job asks for it. Only an action knows a provider's JSON.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from msgspec import Raw

from shared.actions.operation import JsonOperation
from shared.billing.usage import Call
from shared.connections.connection import Connection
from shared.contract.names import BlobName, NamedBlob
from shared.contract.result import OutputBlob, Status
from shared.errors import CredentialRejected, InvalidJob, JobError, RequestRejected, RetryLater
from shared.upstream.capabilities import ModelCapabilities
from shared.upstream.messages import Operation, Response

T = TypeVar("T")

_ACTIONS = ("chat", "multi_chat", "image", "summarize", "embed", "raw", "edit_image", "transcribe", "speak", "respond")
WITHOUT_CONNECTION = frozenset({"statement"})
"""Actions that call no endpoint, and so are no callers': their jobs need no connection."""


@dataclass(frozen=True, slots=True)
class Completed:
    """The job can end with this: the action's output, and an error if it failed."""

    output: dict[str, Any] | None
    calls: Sequence[Call] = ()
    """Billed calls that no step has recorded."""
    status: Status = "succeeded"
    error: JobError | None = None
    rejected: CredentialRejected | None = None
    """The endpoint refused the key for all or a part: if there is a new key, the action is run again with it."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """The job can do better later: it is released, or ends with `fallback` if its deadline comes first."""

    reason: RetryLater
    fallback: Completed


Outcome = Completed | Deferred


@dataclass(frozen=True, slots=True)
class Step:
    """The result of a part of a job: a value that JSON can hold, and the calls that it was billed for."""

    value: Any
    calls: Sequence[Call] = ()


class InputBlob(NamedTuple):
    """A blob that the input names."""

    data: bytes
    memory: object = None
    """What it takes of the worker's memory, if that is much: keep it as long as what was made of the data."""


class InputBlobs(NamedTuple):
    """Blobs that the input names; `memory` as in InputBlob."""

    data: list[bytes]
    memory: object = None


class InputFile(Protocol):
    """A blob that the input names, which is read in pieces. All of them are of one version."""

    @property
    def size(self) -> int:
        """Its bytes."""

    @property
    def version(self) -> str:
        """Another one as soon as somebody writes the blob anew."""

    async def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes, fewer at the end. Raises InvalidJob if the blob has changed, StorageUnavailable."""

    def chunks(self, start: int, size: int) -> AsyncIterator[bytes]:
        """Iterate over these bytes. Raises as `read`."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document that the input names, as text."""

    text: str
    content_type: str
    pages: int | None = None
    """Or slides; None: the format has none."""
    pages_without_text: str | None = None
    """Those that have pictures only, such as "3-5, 8"."""
    is_extracted: bool = False
    """The text was made from another format: a later version of the app may make another one."""
    pictures: Sequence[str] = ()
    """Of the pages without text, as PNG in base64, if they were asked for; see `documents.pictures`."""
    memory: object = None
    """As in InputBlob."""


def failed(error: JobError) -> Completed:
    """Return the outcome of an action that failed with `error` and has no output."""
    return Completed(None, (), "failed", error, error if isinstance(error, CredentialRejected) else None)


class Context(Protocol):
    """What an action can use while it runs. `shared.jobs.context.ActionContext` implements it."""

    @property
    def connection(self) -> Connection:
        """The job's connection."""

    @property
    def capabilities(self) -> ModelCapabilities:
        """What the connection's model takes, as far as refusals have shown it."""

    @property
    def model(self) -> str:
        """The model that the job runs on. Raises InvalidJob if there is none; see `Action.NEEDS_MODEL`."""

    def name_model(self, model: str) -> None:
        """Name the model that the job runs on, if only its input names it: records and result then show it."""

    @property
    def output_limit(self) -> int | None:
        """The limit of an answer's tokens to be sent with calls that have none; None: a call may go without."""

    @property
    def strict(self) -> bool:
        """Whether parameters must be sent exactly as given."""

    def operation(
        self,
        name: str,
        body: dict[str, Any],
        *,
        droppable: frozenset[str] = frozenset(),
        is_final: Callable[[RequestRejected], bool] = ...,
    ) -> JsonOperation:
        """
        Return a JSON operation such as `chat/completions`, ready to be called. The model is added to `body`.

        A parameter that the provider refuses by name is renamed, or dropped if it is in `droppable`, unless the job
        is strict. `is_final`: refusals that the action handles itself; they are not retried.
        """

    async def call(self, operation: Operation) -> Response:
        """
        Call the operation on the job's connection, with the job's retries, within its concurrency limit.

        Raises UpstreamError, UpstreamRetryLater, ConnectionInvalid if the address is not allowed, LeaseLost.
        """

    async def fetch(self, url: str) -> Response:
        """Get the body at a URL from a response, without any credential. Raises UpstreamError, UpstreamRetryLater."""

    async def is_metered(self, metered_as: str) -> bool:
        """Return whether a stored response or batch has a usage record (see Call). Raises StorageUnavailable."""

    async def compute(self, function: Callable[..., T], *args: Any, large: bool) -> T:
        """
        Return what `function` returns, which is called in another process if its arguments are `large`.

        It is pure, and a function of a module; both ways, everything can be pickled. Raises what the function raises,
        and ProviderUnavailable if it needs too much memory.
        """

    async def step(self, key: str, work: Callable[[], Awaitable[Step]]) -> Step:
        """
        Return what `work` returns. It runs once for the job, however many attempts the job needs.

        The step is stored together with its usage records before this returns; a later attempt gets the stored value
        (without the calls). `key`: letters and digits, unique within the job. Raises what `work` raises, which is not
        stored; LeaseLost, StorageUnavailable.
        """

    async def step_part(self, number: int, work: Callable[[], Awaitable[Step]]) -> Step:
        """As `step`, for one of several calls of the step that is being done; returns those that it must record."""

    async def step_keys(self) -> Collection[str]:
        """Return the keys of the steps that are done, or bought, on whichever connection. Raises StorageUnavailable."""

    async def get_step(self, key: str) -> Step | None:
        """Return the step if this or an earlier attempt has done it. Raises StorageUnavailable."""

    async def save_blob(self, name: str, data: bytes, content_type: str) -> OutputBlob:
        """Write a blob of the job: `{customer}/{job_id}/{name}`. Raises StorageUnavailable."""

    async def read_blobs(self, blobs: Sequence[NamedBlob], *, max_bytes: int) -> InputBlobs:
        """
        Read blobs that the input names, of at most `max_bytes` together, to be sent in one request.

        Raises InvalidJob, StorageUnavailable, and RetryLater if there is no memory for them.
        """

    async def open_blob(self, blob: BlobName, *, at: str, max_bytes: int) -> InputFile:
        """As `read_blobs`, for one that is too large to be whole in memory, of at most `max_bytes`."""

    async def read_document(self, named: NamedBlob, *, draws: bool) -> Document:
        """
        Return the text of a document that the input names: text, Markdown, HTML, PDF, DOCX or PPTX.

        `draws`: pages of a PDF that have no text become pictures. Raises InvalidJob, which names the blob;
        StorageUnavailable; RetryLater if its turn does not come, or if the attempt's time is up.
        """


class Action(Protocol):
    """The functions of an action's module."""

    NEEDS_MODEL: bool
    """Whether every job needs a model. If not, a job without one fails only when `Context.model` is used."""

    def keeps_blobs(self, request: Any) -> bool:
        """Whether the result goes to blobs, whatever the job's `output` says."""

    def decode(self, data: Raw | bytes) -> Any:
        """Return the job's `input`, checked. Raises InvalidJob."""

    async def run(self, request: Any, ctx: Context) -> Outcome:
        """
        Return the outcome for a decoded input.

        Raises JobError if nothing was done, such as InvalidJob; RetryLater if the job has to wait; LeaseLost.
        """


@cache
def action_named(name: str) -> Action:
    """Return the module of an action. Raises InvalidJob for a name that this version does not serve."""
    if name not in _ACTIONS and name not in WITHOUT_CONNECTION:
        raise InvalidJob(f"`action` {name} is not supported. This version supports {', '.join(_ACTIONS)}.")
    return cast(Action, import_module(f"shared.actions.{name}"))
