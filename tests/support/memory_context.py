"""An action's context in memory, for unit tests of one action: no Storage, no ledger and no network."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

import msgspec

from shared.actions.base import Outcome, Step
from shared.actions.operation import JsonOperation
from shared.billing.usage import Call
from shared.connections.connection import Connection
from shared.connections.endpoint import parse_endpoint
from shared.contract.names import BlobName
from shared.contract.result import OutputBlob
from shared.errors import RateLimited, UpstreamRetryLater
from shared.secret import Secret
from shared.upstream.capabilities import Capabilities, ModelCapabilities
from shared.upstream.messages import ApiKey, Operation, Response

Respond = Callable[[Operation], Response]
_step: ContextVar[str] = ContextVar("_step", default="")
"""The key of the step that is being done."""


def response(body: Any, *, status: int = 200, **headers: str) -> Response:
    """Return a response with this JSON, or with bytes as they are; `content_type="a/b"` becomes a header."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, data, "req-1")


def completion(text: str | None = "Hello.", *, finish_reason: str = "stop", **members: Any) -> Response:
    """Return a chat completion."""
    choices = [{"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}}]
    return response({"choices": choices, "usage": {"prompt_tokens": 11, "completion_tokens": 7}} | members)


def in_turn(*responses: Response | Exception) -> Respond:
    """Give these responses one after the other, and raise those that are exceptions."""
    rest = list(responses)

    def respond(_: Operation) -> Response:
        current = rest.pop(0)
        if isinstance(current, Exception):
            raise current
        return current

    return respond


@dataclass(frozen=True)
class MemoryFile:
    """See `actions.base.InputFile`."""

    data: bytes
    version: str = "1"

    @property
    def size(self) -> int:
        """See InputFile."""
        return len(self.data)

    async def read(self, start: int, size: int) -> bytes:
        """See InputFile."""
        return self.data[start : start + size]

    async def chunks(self, start: int, size: int) -> AsyncIterator[bytes]:
        """See InputFile."""
        yield self.data[start : start + size]


@dataclass
class MemoryContext:
    """
    See `actions.base.Context`. `respond` stands for the endpoint: it returns a call's response or raises.

    Steps last as long as the context, so that running an action on it again is a later attempt of the same job.
    """

    respond: Respond
    endpoint: str = "https://r.openai.azure.com/openai/v1"
    customer: str = "contoso"
    connection_name: str = "default"
    source: Literal["key_vault", "static"] = "key_vault"
    strict: bool = False
    output_limit: int | None = None
    max_concurrency: int | None = None
    calls_left: float = math.inf
    """After so many calls the endpoint wants the job to wait."""
    pages: Mapping[str, Response] = field(default_factory=dict)
    """What `fetch` gets, by URL."""
    model: str = "m"
    steps: dict[str, Step] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    version: str = "1"
    """Of the blobs that the input names."""
    called: list[Operation] = field(default_factory=list)
    """The operations that were called, in order."""
    learned: Capabilities = field(default_factory=Capabilities)
    metered: set[str] = field(default_factory=set)
    """Stored responses that have a usage record."""

    @property
    def capabilities(self) -> ModelCapabilities:
        """See Context."""
        return self.learned.of(*self.connection.identity, self.model)

    def name_model(self, model: str) -> None:
        """See Context."""
        self.model = model

    @property
    def connection(self) -> Connection:
        """See Context."""
        access = ApiKey("api-key", Secret("k"))
        endpoint = parse_endpoint(self.endpoint)
        return Connection(
            self.customer,
            self.connection_name,
            self.source,
            "v1",
            endpoint,
            access,
            max_concurrency=self.max_concurrency,
        )

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """The JSON of the calls, in order."""
        return [json.loads(operation.request.content) for operation in self.called]

    @property
    def billed(self) -> list[Call]:
        """The calls that steps have recorded."""
        return [call for step in self.steps.values() for call in step.calls]

    def operation(self, name: str, body: dict[str, Any], **options: Any) -> JsonOperation:
        """See Context."""
        return JsonOperation(
            name,
            body,
            connection=self.connection,
            model=self.model,
            capabilities=self.learned,
            strict=self.strict,
            **options,
        )

    async def call(self, operation: Operation) -> Response:
        """See Context."""
        await asyncio.sleep(0)  # other calls run meanwhile
        if self.calls_left <= 0:
            raise UpstreamRetryLater(RateLimited("Slow down."), 60)
        self.calls_left -= 1
        self.called.append(operation)
        return self.respond(operation)

    async def fetch(self, url: str) -> Response:
        """See Context."""
        return self.pages[url]

    async def is_metered(self, metered_as: str) -> bool:
        """See Context."""
        return metered_as in self.metered

    async def compute(self, function: Callable[..., Any], *args: Any, large: bool) -> Any:
        """See Context."""
        del large
        return function(*args)

    async def step(self, key: str, work: Callable[[], Awaitable[Step]]) -> Step:
        """See Context."""
        if key not in self.steps:
            token = _step.set(key)
            try:
                self.steps[key] = await work()
            finally:
                _step.reset(token)
        return self.steps[key]

    async def step_part(self, number: int, work: Callable[[], Awaitable[Step]]) -> Step:
        """See Context."""
        key = f"{_step.get()}-{number}"
        if key not in self.steps:
            self.steps[key] = await work()
        return Step(json.loads(msgspec.json.encode(self.steps[key].value)))

    async def step_keys(self) -> Collection[str]:
        """See Context."""
        return self.steps.keys()

    async def get_step(self, key: str) -> Step | None:
        """See Context."""
        return self.steps.get(key)

    async def create(self, make: Callable[[], Awaitable[JsonOperation]]) -> tuple[Response, Sequence[str]]:
        """See `actions.respond.ResponseCreator`. The response has ended at once."""
        operation = await make()
        return await self.call(operation), operation.adapted

    async def open_blob(self, blob: BlobName, *, at: str, max_bytes: int) -> MemoryFile:
        """See Context."""
        assert at.startswith("input.")
        file = MemoryFile(self.blobs[blob.name], self.version)
        assert file.size <= max_bytes
        return file

    async def save_blob(self, name: str, data: bytes, content_type: str) -> OutputBlob:
        """See Context."""
        self.blobs[name] = data
        sha256 = hashlib.sha256(data).hexdigest()
        return OutputBlob(
            container="results", name=f"contoso/job-1/{name}", size=len(data), sha256=sha256, content_type=content_type
        )


async def run_action(action: ModuleType, request: Mapping[str, Any], ctx: MemoryContext) -> Outcome:
    """Run an action on a job's `input`."""
    return await action.run(action.decode(json.dumps(request).encode()), ctx)
