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
from dataclasses import dataclass, field
from typing import Any

import msgspec

from shared.actions import Step
from shared.adaptations import Adaptation, Adaptations, read_adaptation
from shared.clock import now
from shared.connections import Connection
from shared.contract.job import BlobName
from shared.contract.result import OutputBlob
from shared.errors import (
    AccountBlocked,
    CredentialRejected,
    LeaseLost,
    ModelNotFound,
    NotNow,
    Postponed,
    QuotaExhausted,
    RequestRejected,
    UpstreamFacts,
    UpstreamTimeout,
)
from shared.inputs import Inputs
from shared.lanes import WIDTH, Lanes
from shared.ledger import LEASE_S, STEP_LIMIT, Ledger, StepRecord, fitting
from shared.outputs import Outputs
from shared.runs import Run
from shared.transport import Reply, Transport, UpstreamRequest
from shared.usage import total, usage_rows

# What Foundry's older route does not publish in its schema is refused there unless this header says
# otherwise (learn.microsoft.com/azure/ai-foundry/model-inference, "extra parameters").
_PASS_THROUGH = {"extra-parameters": "pass-through"}
RUN_S = LEASE_S - 60.0
"""Seconds that one run of a job may spend upstream: it ends well before its lease."""
_RESUME_S = 1.0
_FATAL = (CredentialRejected, AccountBlocked, ModelNotFound, QuotaExhausted)


@dataclass(frozen=True, slots=True)
class Tools:
    """What all runs of a worker share."""

    ledger: Ledger
    transport: Transport
    lanes: Lanes
    adaptations: Adaptations
    inputs: Inputs
    outputs: Outputs


@dataclass(slots=True)
class Bench:
    """One run's own; see `actions.Bench` for what an action may do with it."""

    run: Run
    tools: Tools
    until: float
    """On `time.monotonic()`'s clock: when the run has to end."""
    stopped: Exception | None = None
    """
    What one call met that all others of the run would meet as well, or why none of them could be
    remembered: they are not made.
    """
    _begun: asyncio.Semaphore | None = None
    _steps: dict[str, Step] | None = None
    _waiting: list[StepRecord] = field(default_factory=list)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def connection(self) -> Connection:
        """See `actions.Bench`."""
        assert self.run.connection is not None  # noqa: S101  # the pipeline has resolved it
        return self.run.connection

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

    async def send(self, request: UpstreamRequest) -> Reply:
        """See `actions.Bench`."""
        async with self._lane():
            if self.stopped is not None:
                raise self.stopped
            self._check_time()
            with self._stopped_by(*_FATAL, Postponed):
                return await self.tools.transport.send(
                    request,
                    self.connection.access,
                    self.run.job.options,
                    until=self.until,
                    retries=self.run.claim.retries,
                )

    async def fetch(self, url: str) -> Reply:
        """See `actions.Bench`."""
        async with self._lane():
            self._check_time()
            return await self.tools.transport.fetch(url, self.run.job.options, until=self.until)

    async def ask(
        self, operation: str, body: dict[str, Any], *, droppable: frozenset[str] = frozenset()
    ) -> tuple[Reply, list[str]]:
        """See `actions.Bench`."""
        place, strict = self._place(operation), self.strict
        adapted: list[str] = []
        body = {"model": self.connection.endpoint.model_in_body(self.model), **body}
        for adaptation in [] if strict else self.tools.adaptations.known(*place):
            if adaptation.parameter in body:
                body = adaptation.change(body)
                adapted.append(str(adaptation))
        while True:
            try:
                return await self.send(self._request(operation, body)), adapted
            except RequestRejected as error:
                learned = None if strict else read_adaptation(error, body, droppable=droppable)
                if learned is None:
                    raise
            self.tools.adaptations.learn(learned, *place)
            body = learned.change(body)
            adapted.append(str(learned))

    def most(self, operation: str) -> int | None:
        """See `actions.Bench`."""
        return self.tools.adaptations.most(*self._place(operation))

    def learn_most(self, operation: str, most: int) -> None:
        """See `actions.Bench`."""
        self.tools.adaptations.learn_most(most, *self._place(operation))

    def stands_for(self, operation: str) -> str:
        """See `actions.Bench`."""
        place = self._place(f"instead of {operation}")
        return next((one.renamed for one in self.tools.adaptations.known(*place) if one.renamed), operation)

    def learn_stands_for(self, operation: str, other: str) -> None:
        """See `actions.Bench`."""
        self.tools.adaptations.learn(Adaptation(operation, other), *self._place(f"instead of {operation}"))

    async def step(self, key: str, work: Callable[[], Awaitable[Step]]) -> Step:
        """See `actions.Bench`."""
        known = await self._known()
        if key not in known:
            # No more are begun than can be sent: the later ones then know what the earlier ones have learned.
            async with self._gate():
                step = await work()
            with self._stopped_by(NotNow, LeaseLost):
                await self._remember(key, step)
            known[key] = step
            self.run.billed += total(step.calls)
        return known[key]

    async def recall(self, key: str) -> Step | None:
        """See `actions.Bench`."""
        return (await self._known()).get(key)

    async def save(self, name: str, data: bytes, content_type: str) -> OutputBlob:
        """See `actions.Bench`."""
        return await self.tools.outputs.write(self.run.job, name, data, content_type)

    async def read(self, blob: BlobName, *, at: str) -> bytes:
        """See `actions.Bench`."""
        return await self.tools.inputs.read(self.run.job.customer, blob, at=at)

    def _gate(self) -> asyncio.Semaphore:
        if self._begun is None:
            self._begun = asyncio.Semaphore(self.connection.max_concurrency or WIDTH)
        return self._begun

    def _lane(self) -> asyncio.Semaphore:
        connection = self.connection
        return self.tools.lanes.of(connection.customer, connection.name, connection.max_concurrency)

    def _check_time(self) -> None:
        """Begins no call that the end of the run, which is not the job's, would cut short and waste."""
        left = self.until - time.monotonic()
        goes_on = self.run.seconds_left() > left + 1
        if left <= (min(self.run.job.options.timeout_s, 0.9 * RUN_S) if goes_on else 0):
            reason = UpstreamTimeout("The run's time was up.", UpstreamFacts(transient=True))
            raise Postponed(reason, _RESUME_S, self.run.claim.retries)

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
            url=self.connection.endpoint.suited(operation).url(operation, self.model),
            content=msgspec.json.encode(body),
            headers={"content-type": "application/json", **extra, **self.connection.headers()},
        )

    async def _known(self) -> dict[str, Step]:
        if self._steps is None:
            async with self._writing:
                if self._steps is None:
                    if self.stopped is not None:
                        raise self.stopped
                    with self._stopped_by(NotNow):
                        stored = await self.tools.ledger.steps(self.run.claim)
                        self._steps = {record.key: Step(await self._recall(record)) for record in stored}
                    self.run.count(stored)
        return self._steps

    async def _remember(self, key: str, step: Step) -> None:
        """Writes the step, together with what else waits to be written: many finish side by side."""
        label, at = self.connection.label(), now()
        rows = usage_rows(
            self.run.job.customer, self.run.job.id, self.run.job.action, self.model, label, step.calls, at, step=key
        )
        value = msgspec.json.encode(step.value)
        spilled = len(value) > STEP_LIMIT
        if spilled:
            await self.tools.outputs.write(self.run.job, f"steps/{key}.json", value, "application/json")
        record = StepRecord(key, b"" if spilled else value, total(step.calls), spilled=spilled, rows=rows)
        self._waiting.append(record)
        async with self._writing:
            while any(record is one for one in self._waiting):
                batch = fitting(self._waiting)
                self.run.claim = await self.tools.ledger.remember(self.run.claim, batch)
                del self._waiting[: len(batch)]

    async def _recall(self, record: StepRecord) -> Any:
        value = record.value
        if record.spilled:
            value = await self.tools.outputs.read_back(self.run.job, f"steps/{record.key}.json")
        return msgspec.json.decode(value)
