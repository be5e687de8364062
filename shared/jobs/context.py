"""What an action has while it runs: calls on the job's connection with retries, steps, blobs, documents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from shared.actions.base import Document, InputBlobs, InputFile, Step, T
from shared.actions.operation import JsonOperation, not_final
from shared.connections.connection import Connection
from shared.contract.names import BlobName, NamedBlob
from shared.contract.result import OutputBlob
from shared.errors import LeaseLost, ProviderUnavailable, RequestRejected, RetryLater, UpstreamError, UpstreamRetryLater
from shared.jobs.admission import ConnectionLimit
from shared.jobs.attempt import Attempt
from shared.jobs.base import JobServices
from shared.jobs.drain import Call, CallCutOff
from shared.jobs.fallback import OF_CALL, OF_CONNECTION
from shared.jobs.lines import is_line
from shared.jobs.steps import Steps, current_step, do_work, part_key, unsaved_responses
from shared.telemetry.base import CallObserver, RequestInfo
from shared.upstream.capabilities import ModelCapabilities
from shared.upstream.messages import Operation, Response, UpstreamRequest
from shared.upstream.retry import RetryState

_FATAL = (*OF_CONNECTION, UpstreamRetryLater)
"""What one call meets that all others of the attempt would meet as well."""


@dataclass(slots=True)
class ActionContext:
    """See `actions.base.Context`. It is of one attempt and one connection: after a key rotation, there is another."""

    operation_type: ClassVar[type[JsonOperation]] = JsonOperation
    services: JobServices
    attempt: Attempt
    steps: Steps
    connection: Connection
    output_limit: int | None = None
    stopped: Exception | None = None
    """Why no further call is made: see _FATAL; or why no further step could be stored."""
    failed: UpstreamError | None = None
    """What one call has met, for which another connection may be used: see OF_CALL."""
    _gate: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._gate = asyncio.Semaphore(self.connection.concurrency)

    @property
    def capabilities(self) -> ModelCapabilities:
        """See Context."""
        return self.services.capabilities.of(*self.connection.identity, self.model)

    @property
    def model(self) -> str:
        """See Context."""
        usage = self.attempt.usage
        if not usage.model:  # the action needs one only for some of its jobs, and this is one of them
            usage.model = self.connection.model_for(self.attempt.job.model)
        return usage.model

    def name_model(self, model: str) -> None:
        """See Context."""
        self.attempt.usage.model = model

    @property
    def strict(self) -> bool:
        """See Context."""
        return self.attempt.job.options.strict

    def operation(
        self,
        name: str,
        body: dict[str, Any],
        *,
        droppable: frozenset[str] = frozenset(),
        is_final: Callable[[RequestRejected], bool] = not_final,
    ) -> JsonOperation:
        """See Context."""
        return self.operation_type(
            name,
            {**body, "service_tier": "flex"} if self.attempt.job.options.processing == "flex" else body,
            connection=self.connection,
            model=self.model,
            capabilities=self.services.capabilities,
            droppable=droppable,
            is_final=is_final,
            strict=self.strict,
        )

    async def call(self, operation: Operation) -> Response:
        """See Context."""
        limit, retries = self._limit(), self._retries()
        customer, auth, time = self.connection.customer, self.connection.access, self.attempt.time
        async with self.services.drain.call() as call, limit.calls:
            self._check_may_call(retries)
            counter = (self.attempt.usage.model or "", operation.request.url)
            with time.calling(), self._stopped_by(*_FATAL), self._observed(operation.request) as observer:
                answered = limit.answered[counter]
                while True:
                    try:
                        with call.one_try(), self._guarded(retries), observer.observe_try():
                            response = await self.services.client.send(
                                operation.request, auth, customer=customer, timeout_s=time.timeout_s(), begin=call.begin
                            )
                        break
                    except (CallCutOff, UpstreamError) as error:
                        self.attempt.usage.add_refusal(operation, error.facts)
                        if isinstance(error, CallCutOff):
                            raise
                        if operation.adapt(error):
                            self._check_may_call(retries)
                            continue
                        if operation.is_final(error):
                            raise
                        before, answered = answered, limit.answered[counter]
                        await self._wait(call, error, retries, progress=answered > before)
                limit.count_answer(counter)
                observer.response_received(b"" if response.is_large else response.body)
        if operation.is_billed:
            unsaved_responses.get(self.attempt.usage.responses).append(response)
        return response

    async def fetch(self, url: str) -> Response:
        """See Context."""
        retries = self._retries()
        async with self.services.drain.call() as call, self._limit().calls:  # unbilled: the stop ends it at once
            self.attempt.time.check(self.attempt.lease.retries)
            with self.attempt.time.calling():
                while True:
                    try:
                        return await self.services.client.fetch(
                            url, customer=self.connection.customer, timeout_s=self.attempt.time.timeout_s()
                        )
                    except UpstreamError as error:
                        await self._wait(call, error, retries)

    async def is_metered(self, metered_as: str) -> bool:
        """See Context."""
        return await self.attempt.ledger.is_metered(self.attempt.job.customer, metered_as)

    async def compute(self, function: Callable[..., T], *args: Any, large: bool) -> T:
        """See Context."""
        customer = self.connection.customer
        return await self.services.client.side_process.call(customer, function, *args) if large else function(*args)

    async def step(self, key: str, work: Callable[[], Awaitable[Step]]) -> Step:
        """See Context."""
        stored = await self.get_step(key)
        if stored is not None:
            return stored
        # No more are begun than calls can be made: later ones then know what earlier ones have learned, and no more
        # responses than that are ever at risk.
        async with self._gate:
            return await self._save_step(key, await do_work(work, key, self.attempt.usage))

    async def step_part(self, number: int, work: Callable[[], Awaitable[Step]]) -> Step:
        """See Context."""
        key = part_key(current_step.get(), number)
        step = await self.get_step(key)
        if step is None:
            step = await do_work(work, current_step.get(), self.attempt.usage)
            if any(map(is_line, step.calls)):
                return step  # the line keeps it
            await self._save_step(key, step)
        return Step(step.value)

    async def step_keys(self) -> Collection[str]:
        """See Context."""
        with self._stopped_by(RetryLater):
            return await self.steps.keys()

    async def get_step(self, key: str) -> Step | None:
        """See Context."""
        with self._stopped_by(RetryLater):
            return await self.steps.get(key)

    async def save_blob(self, name: str, data: bytes, content_type: str) -> OutputBlob:
        """See Context."""
        write = partial(self.services.outputs.write, self.attempt.job, name, data, content_type)
        return await self.attempt.with_retries(write)

    async def read_blobs(self, blobs: Sequence[NamedBlob], *, max_bytes: int) -> InputBlobs:
        """See Context."""
        return await self.services.inputs.read_all(self.attempt.job.customer, blobs, max_bytes=max_bytes)

    async def open_blob(self, blob: BlobName, *, at: str, max_bytes: int) -> InputFile:
        """See Context."""
        return await self.services.inputs.open(self.attempt.job.customer, blob, at=at, max_bytes=max_bytes)

    async def read_document(self, named: NamedBlob, *, draws: bool) -> Document:
        """See Context."""
        documents = self.services.inputs.documents
        return await documents.read_in_time(self.attempt, self.services.drain, named, draws=draws)

    async def _save_step(self, key: str, step: Step) -> Step:
        with self._stopped_by(RetryLater, LeaseLost, ProviderUnavailable):
            await self.steps.save(key, step)
        return step

    async def _wait(self, call: Call, error: UpstreamError, retries: RetryState, *, progress: bool = False) -> None:
        """Wait before the next try. Raises `error` if there is none, UpstreamRetryLater if it has to be requeued."""
        error = self.attempt.time.explain(error)
        retry = retries.decide(error, progress=progress)
        if retry is None:
            raise error
        if not retry.inline or not self.attempt.time.allows_try(retry.wait_s):
            raise UpstreamRetryLater(error, retry.wait_s, retries.used) from error
        if left_s := await call.wait(retry.wait_s):
            raise UpstreamRetryLater(error, left_s, retries.used) from error

    def _observed(self, request: UpstreamRequest) -> AbstractContextManager[CallObserver]:
        connection = self.connection
        url = connection.without_key(request.url)  # somebody may have pasted the key there, too
        customer, model = self.attempt.job.customer, self.attempt.usage.model or ""
        info = RequestInfo(customer, connection.name, connection.endpoint.provider, model, url, request.content)
        return self.services.telemetry.call(info)

    @contextmanager
    def _stopped_by(self, *errors: type[Exception]) -> Iterator[None]:
        try:
            yield
        except errors as error:
            self.stopped = error
            raise
        except OF_CALL as error:
            self.failed = error
            raise

    def _guarded(self, retries: RetryState) -> AbstractContextManager[None]:
        if self.attempt.lease_lost is not None:
            raise self.attempt.lease_lost
        breaker = self.services.breakers.of(self.connection.customer, self.connection.name, self.connection.version)
        return breaker.attempt(retries.used, retries.options.max_retries)

    def _limit(self) -> ConnectionLimit:
        return self.services.limiter.of(self.connection.customer, self.connection.name, self.connection.concurrency)

    def _retries(self) -> RetryState:
        return RetryState(self.attempt.job.options, self.attempt.lease.retries)

    def _check_may_call(self, retries: RetryState) -> None:
        if self.stopped is not None:
            raise self.stopped
        self.attempt.time.check(retries.used)
