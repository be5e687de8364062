"""
What a run of an action has at hand: calls on the job's connection, steps that are remembered, blobs.

A step is a part of a job that is paid for by itself, such as one of many prompts. Its answer and its
usage records are stored in one transaction before the next thing happens, so that a job that is taken
up again goes on where it stopped and buys nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import msgspec

from shared.actions.base import Completed, Step
from shared.billing.usage import Call, call_of_answer, total
from shared.connections.connection import Connection
from shared.contract.decoding import json_object
from shared.contract.error_codec import error_body, known_error
from shared.contract.names import BlobName
from shared.contract.result import ConnectionLabel, OutputBlob
from shared.errors import (
    AccountBlocked,
    CredentialRejected,
    LeaseLost,
    ModelNotFound,
    QuotaExhausted,
    RequestRejected,
    RetryLater,
    StorageUnavailable,
    UpstreamError,
    UpstreamFacts,
    UpstreamRetryLater,
    UpstreamTimeout,
)
from shared.jobs.admission import Lane
from shared.jobs.attempt import Run
from shared.jobs.base import JobServices
from shared.jobs.lease import ANSWER, Hold, as_lost
from shared.jobs.ledger import STEP_LIMIT
from shared.jobs.step_rows import StepRecord
from shared.telemetry.base import CallObserver, RequestInfo
from shared.upstream.capabilities import Adaptation, read_adaptation
from shared.upstream.circuit_breaker import Breaker
from shared.upstream.messages import Final, Reply, UpstreamRequest, never

# What Foundry's older route does not publish in its schema is refused there unless this header says
# otherwise (learn.microsoft.com/azure/ai-foundry/model-inference, "extra parameters").
_PASS_THROUGH = {"extra-parameters": "pass-through"}
RUN_S = 540.0
"""Seconds that one run of a job may spend upstream: well within host.json's `functionTimeout`."""
_RESUME_S = 1.0
_PLACES = 1000
"""Models and addresses of a connection whose answers are counted."""
_LONGEST_EFFORT = 20
"""Characters of a `reasoning_effort` that tell it from others. It is a caller's, and is kept in memory."""
_FATAL = (CredentialRejected, AccountBlocked, ModelNotFound, QuotaExhausted)
_replies: ContextVar[list[Reply]] = ContextVar("_replies")
"""What the step at work has been answered: paid for, and lost unless the step is stored."""


@dataclass(slots=True)
class Bench:
    """One run's own; see `actions.Bench` for what an action may do with it."""

    hold: Hold
    services: JobServices
    until: float
    """On `time.monotonic()`'s clock: when the run has to end."""
    stopped: Exception | None = None
    """
    What one call met that all others of the run would meet as well, or why none of them could be
    remembered: they are not made.
    """
    replies: list[Reply] = field(default_factory=list)
    """What the run was answered outside of any step: paid for, and lost unless the job ends with it."""
    _begun: asyncio.Semaphore | None = None
    _steps: dict[str, Step] | None = None
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def run(self) -> Run:
        """The run."""
        return self.hold.run

    @property
    def connection(self) -> Connection:
        """See `actions.Bench`."""
        assert self.run.connection is not None  # noqa: S101  # the pipeline has resolved it
        return self.run.connection

    @property
    def breaker(self) -> Breaker:
        """The breaker of the run's connection."""
        connection = self.connection
        return self.services.breakers.of(connection.customer, connection.name, connection.version)

    @property
    def model(self) -> str:
        """See `actions.Bench`."""
        if not self.run.model:  # the action needs one for some of its jobs only, and this is one of them
            self.run.model = self.connection.model_for(self.run.job.model)
        return self.run.model

    @property
    def strict(self) -> bool:
        """See `actions.Bench`."""
        return self.run.job.options.strict

    async def send(self, request: UpstreamRequest, *, final: Final = never) -> Reply:
        """See `actions.Bench`; an error that is `final` is not tried again."""
        lane, place = self._lane(), (self.run.model or "", request.url)
        async with lane.calls:
            if self.hold.taken_over is not None:
                raise self.hold.taken_over
            if self.stopped is not None:
                raise self.stopped
            self._check_time()
            with self._stopped_by(*_FATAL, UpstreamRetryLater), self._watched(request) as watch:
                reply = await self.services.client.send(
                    request,
                    self.connection.access,
                    self.run.job.options,
                    until=self.until,
                    last_try=self._last_try,
                    retries=self.run.claim.retries,
                    attempt=partial(self._attempt, watch, paid=request.method == "POST"),
                    final=final,
                    progress=lambda: lane.answered[place],
                )
                if len(lane.answered) > _PLACES:
                    lane.answered.clear()
                lane.answered[place] += 1
                watch.response_received(reply.body)
        if request.method == "POST":  # what else there is in `raw` costs nothing
            _replies.get(self.replies).append(reply)
        return reply

    async def fetch(self, url: str) -> Reply:
        """See `actions.Bench`."""
        async with self._lane().calls:
            self._check_time()
            return await self.services.client.fetch(
                url,
                self.run.job.options,
                until=self.until,
                last_try=self._last_try,
                retries=self.run.claim.retries,
            )

    async def ask(
        self,
        operation: str,
        body: dict[str, Any],
        *,
        droppable: frozenset[str] = frozenset(),
        final: Callable[[RequestRejected], bool] = never,
    ) -> tuple[Reply, list[str]]:
        """See `actions.Bench`."""
        strict = self.strict
        # Some models take sampling parameters with one effort and not with another (GPT-5.1, 5.2: with none only).
        effort = body.get("reasoning_effort")
        place = self._place(operation) + (() if effort is None else (str(effort)[:_LONGEST_EFFORT],))
        adapted: list[str] = []
        body = {"model": self.connection.endpoint.model_in_body(self.model), **body}
        for adaptation in [] if strict else self.services.capabilities.adaptations(*place):
            if adaptation.parameter in body:
                body = adaptation.apply(body)
                adapted.append(str(adaptation))

        def read(error: RequestRejected) -> Adaptation | None:
            return None if strict else read_adaptation(error, body, droppable=droppable)

        def is_answered(error: UpstreamError) -> bool:
            return isinstance(error, RequestRejected) and (final(error) or read(error) is not None)

        while True:
            try:
                return await self.send(self._request(operation, body), final=is_answered), adapted
            except RequestRejected as error:
                learned = read(error)
                if learned is None:
                    raise
            self.services.capabilities.learn(learned, *place)
            body = learned.apply(body)
            adapted.append(str(learned))

    def most(self, operation: str) -> int | None:
        """See `actions.Bench`."""
        return self.services.capabilities.batch_limit(*self._place(operation))

    def learn_most(self, operation: str, most: int) -> None:
        """See `actions.Bench`."""
        self.services.capabilities.learn_batch_limit(most, *self._place(operation))

    def stands_for(self, operation: str) -> str:
        """See `actions.Bench`."""
        return self.services.capabilities.operation_for(operation, *self._place(operation))

    def learn_stands_for(self, operation: str, other: str) -> None:
        """See `actions.Bench`."""
        self.services.capabilities.learn_operation(other, *self._place(operation))

    async def step(self, key: str, work: Callable[[], Awaitable[Step]]) -> Step:
        """See `actions.Bench`."""
        known = await self._known()
        if key not in known:
            # No more are begun than can be sent: the later ones then know what the earlier ones have learned, and
            # no more answers than that are ever at risk.
            async with self._gate():
                step = await self._do(work)
                with self._stopped_by(RetryLater, LeaseLost):
                    await self._remember(key, step)
            known[key] = step
            self.run.billed += total(step.calls)
        return known[key]

    async def _do(self, work: Callable[[], Awaitable[Step]]) -> Step:
        replies: list[Reply] = []
        outer = _replies.set(replies)
        try:
            return await work()
        except BaseException:
            self.lose(replies)
            raise
        finally:
            _replies.reset(outer)

    def lose(self, replies: list[Reply]) -> None:
        """Notes that what these answers gave is lost, though they were paid for."""
        self.hold.owe([_lost(reply) for reply in replies])
        replies.clear()

    async def recall(self, key: str) -> Step | None:
        """See `actions.Bench`."""
        return (await self._known()).get(key)

    async def save(self, name: str, data: bytes, content_type: str) -> OutputBlob:
        """See `actions.Bench`."""
        return await self.hold.patiently(lambda: self.services.outputs.write(self.run.job, name, data, content_type))

    async def read(self, blob: BlobName, *, at: str) -> bytes:
        """See `actions.Bench`."""
        return await self.services.inputs.read(self.run.job.customer, blob, at=at)

    def _gate(self) -> asyncio.Semaphore:
        if self._begun is None:
            self._begun = asyncio.Semaphore(self.connection.concurrency)
        return self._begun

    def _lane(self) -> Lane:
        connection = self.connection
        return self.services.limiter.of(connection.customer, connection.name, connection.concurrency)

    def _watched(self, request: UpstreamRequest) -> contextlib.AbstractContextManager[CallObserver]:
        connection = self.connection
        customer, provider = self.run.job.customer, connection.endpoint.provider
        url = connection.without_key(request.url)  # somebody may have pasted the key there, too
        info = RequestInfo(customer, connection.name, provider, self.run.model or "", url, request.content)
        return self.services.telemetry.call(info)

    @contextlib.contextmanager
    def _attempt(self, watch: CallObserver, retries: int, *, paid: bool) -> Iterator[None]:
        if self.hold.taken_over is not None:
            raise self.hold.taken_over
        try:
            with self.breaker.attempt(retries, self.run.job.options.max_retries), watch.observe_try():
                yield
        except UpstreamError as error:
            if error.facts.unanswered and paid:
                self.hold.owe([Call(None, outcome="unanswered")])
            raise

    @property
    def _last_try(self) -> float:
        """
        On `until`'s clock: when a try may begin at the latest. The end of the run, where it is not the job's, would
        cut a later one short and waste it. The first call of a run can always be made.
        """
        goes_on = self.run.seconds_left() > self.until - time.monotonic() + 1
        return self.until - (min(self.run.job.options.timeout_s, 0.9 * RUN_S) if goes_on else 0)

    def _check_time(self) -> None:
        if time.monotonic() >= self._last_try:
            reason = UpstreamTimeout("The run's time was up.", UpstreamFacts(transient=True))
            raise UpstreamRetryLater(reason, _RESUME_S, self.run.claim.retries)

    def _place(self, operation: str) -> tuple[str, str, str]:
        return self.connection.endpoint.base, self.model, operation

    @contextlib.contextmanager
    def _stopped_by(self, *errors: type[Exception]) -> Iterator[None]:
        try:
            yield
        except errors as error:
            self.stopped = error
            raise

    def _request(self, operation: str, body: dict[str, Any]) -> UpstreamRequest:
        extra = _PASS_THROUGH if self.connection.endpoint.style == "models" else {}
        return UpstreamRequest(
            method="POST",
            url=self.connection.endpoint.for_operation(operation).url(operation, self.model),
            content=msgspec.json.encode(body),
            headers={"content-type": "application/json", **extra, **self.connection.headers()},
        )

    async def _known(self) -> dict[str, Step]:
        if self._steps is None:
            async with self._reading:
                if self._steps is None:
                    if self.stopped is not None:
                        raise self.stopped
                    with self._stopped_by(RetryLater):
                        stored = await self.hold.steps()
                        self._steps = {record.key: Step(await self.value_of(record)) for record in stored}
        return self._steps

    async def _remember(self, key: str, step: Step) -> None:
        value = msgspec.json.encode(step.value)
        spilled = len(value) > STEP_LIMIT
        if spilled:
            try:
                await self.save(f"steps/{key}.json", value, "application/json")
            except StorageUnavailable:
                self.hold.owe(as_lost(step.calls))
                raise
        rows = self.hold.step_rows(key, step.calls)
        record = StepRecord(key, b"" if spilled else value, total(step.calls), spilled=spilled, rows=rows)
        await self.hold.remember(record, step.calls)

    async def keep(self, answer: Completed) -> None:
        """Stores the job's answer as a step of its own, so that it is not bought again if its blob can't be written."""
        error = None if answer.error is None else error_body(answer.error)
        value = {"output": answer.output, "status": answer.status, "error": error}
        await self._remember(
            ANSWER, Step({**value, "model": self.run.model, "connection": self.run.label}, answer.calls)
        )
        self.replies.clear()
        self.run.billed += total(answer.calls)

    async def kept(self) -> Completed | None:
        """The answer that an earlier run of the job has stored. Raises StorageUnavailable."""
        record = next((one for one in await self.hold.steps() if one.key == ANSWER), None)
        if record is None:
            return None
        value = await self.value_of(record)
        self.run.model, self.run.label = value["model"], msgspec.convert(value["connection"], ConnectionLabel | None)
        error = None if value["error"] is None else known_error(value["error"])
        return Completed(value["output"], (), value["status"], error)

    async def value_of(self, record: StepRecord) -> Any:
        """What a stored step gave. Raises StorageUnavailable."""
        value = record.value
        if record.spilled:
            value = await self.services.outputs.read_back(self.run.job, f"steps/{record.key}.json")
        return msgspec.json.decode(value)


def _lost(reply: Reply) -> Call:
    return replace(call_of_answer(json_object(reply.body), reply.request_id), outcome="lost")
