"""
The actions: what a job can ask a model for.

An action is a module with `decode(data)`, which gives its checked input or raises InvalidJob, and
`async run(asked, bench)`, which gives an Completed: pure ends, awaits in the middle; see Action. Only an action knows
a provider's JSON. A module is imported when the first job asks for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol, cast

from msgspec import Raw

from shared.billing.usage import Call
from shared.connections.connection import Connection
from shared.contract.names import BlobName
from shared.contract.result import OutputBlob, Status
from shared.errors import InvalidJob, JobError, RequestRejected
from shared.upstream.messages import Reply, UpstreamRequest

_SERVED = ("chat", "multi_chat", "image", "summarize", "embed", "raw")


@dataclass(frozen=True, slots=True)
class Completed:
    """What an action came to: its output, the calls that were paid for, and an error where it failed."""

    output: dict[str, Any] | None
    calls: Sequence[Call] = ()
    """Those that no step has recorded."""
    status: Status = "succeeded"
    error: JobError | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What a part of a job came to: a value that JSON can hold, and the calls that were paid for."""

    value: Any
    calls: Sequence[Call] = ()


class Bench(Protocol):
    """What a run of an action has at hand."""

    @property
    def connection(self) -> Connection:
        """The job's connection."""

    @property
    def model(self) -> str:
        """The model that the job runs on. Raises InvalidJob where there is none: `Action` says when."""

    @property
    def strict(self) -> bool:
        """Whether parameters are to be sent just as given."""

    async def send(self, request: UpstreamRequest) -> Reply:
        """
        The 2xx answer to a request on the job's connection, under its options and within its lane.

        Raises UpstreamError, UpstreamRetryLater.
        """

    async def ask(
        self,
        operation: str,
        body: dict[str, Any],
        *,
        droppable: frozenset[str] = frozenset(),
        final: Callable[[RequestRejected], bool] = ...,
    ) -> tuple[Reply, list[str]]:
        """
        The answer to a JSON operation such as `chat/completions`, and how its parameters were adapted.

        The model is added to `body`. A parameter that the provider refuses by name is renamed, or left
        out where it is `droppable`, unless the job is strict. `final`: the refusals that the action itself will make
        something of; they are not tried again, whatever the job's options say. Raises as `send`.
        """

    async def fetch(self, url: str) -> Reply:
        """
        What lies at an address that an answer has named, asked for without any credential.

        Raises ProviderUnavailable, UpstreamTimeout, UpstreamRetryLater.
        """

    def most(self, operation: str) -> int | None:
        """How many things one call of an operation takes, as far as refusals have taught; None: not known."""

    def learn_most(self, operation: str, most: int) -> None:
        """Remembers that one call takes so many at most, for jobs on the same endpoint and model."""

    def stands_for(self, operation: str) -> str:
        """The operation that the model takes in place of this one, as far as refusals have taught; else this one."""

    def learn_stands_for(self, operation: str, other: str) -> None:
        """Remembers that the model takes `other` instead, for jobs on the same endpoint and model."""

    async def step(self, key: str, work: Callable[[], Awaitable[Step]]) -> Step:
        """
        What `work` gives, done once for the job however often it is run: the step is stored with its
        usage records before this returns, and a later run gets the stored value (without the calls).

        `key`: letters and digits, one for each step of the job. Raises what `work` raises, which is not
        stored; LeaseLost, StorageUnavailable.
        """

    async def recall(self, key: str) -> Step | None:
        """The step, if it has been done already, in this run of the job or before. Raises StorageUnavailable."""

    async def save(self, name: str, data: bytes, content_type: str) -> OutputBlob:
        """Writes a blob of the job's: `{customer}/{job_id}/{name}`. Raises StorageUnavailable."""

    async def read(self, blob: BlobName, *, at: str) -> bytes:
        """A blob that the input names in its member `at`. Raises InvalidJob, StorageUnavailable."""


class Action(Protocol):
    """What a module of this package offers."""

    NEEDS_MODEL: bool
    """Whether each job needs a model; else it fails for the lack of one only where `Bench.model` is asked for."""

    def keeps_blobs(self, asked: Any) -> bool:
        """Whether the answer to this input goes to blobs, whatever the job's `output` says."""

    def decode(self, data: Raw | bytes) -> Any:
        """The job's `input`, checked. Raises InvalidJob."""

    async def run(self, asked: Any, bench: Bench) -> Completed:
        """The answer to what `decode` gave. Raises UpstreamError where no call was answered, UpstreamRetryLater."""


def action_named(name: str) -> Action:
    """The action's module. Raises InvalidJob for one that this version does not serve."""
    if name not in _SERVED:
        raise InvalidJob(f"`action` {name} is not served by this version; {', '.join(_SERVED)} are.")
    return cast(Action, import_module(f"shared.actions.{name}"))
