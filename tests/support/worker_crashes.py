"""
Patient jobs on worker processes that are killed, under a queue that delivers again what they had in their hands.

What a process asks of Storage, the queues and the provider is numbered. It dies at one of these operations, made or
not; another process goes on, with what Storage holds. Time is the app's moved clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, cast

import pytest

from shared import clock
from shared.errors import StorageUnavailable
from shared.jobs.batch_message import PREFIX
from shared.jobs.drain import Drain
from shared.jobs.message import Delivery
from shared.upstream.client import UpstreamClient
from tests.support.counted_records import counted
from tests.support.crashing_storage import WorkerDied
from tests.support.endpoint import Endpoint
from tests.support.patience import MINUTE, PatientApp, patient_app
from tests.support.workers import Memory, Worker, open_worker

MAX_DEQUEUE_COUNT, VISIBLE_AGAIN_S = 12, 30.0
"""As in host.json."""
_WRITES = frozenset(
    {"insert", "merge", "merge_and_insert", "delete", "send", "write", "write_once", "upload", "download"}
)
_CALL_LIMIT_S = 20.0
"""Real seconds that a message may take."""


@dataclass
class Process:
    """
    A worker process. It dies at its operation `dies_at`, counted from 1, `after` that was made or before.

    At `stops_at`, it gets SIGTERM: what runs goes on to its end, another process takes what follows, and the messages
    that it had come again, as if the host had cut it off. `chance` lets others run before an operation.
    """

    dies_at: int = 0
    after: bool = False
    stops_at: int = 0
    chance: random.Random | None = None
    drain: Drain = field(default_factory=Drain)
    operations: list[str] = field(default_factory=list)
    died: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def will_die(self) -> bool:
        """Whether it dies at one of the next operations, or is dead."""
        return self.dies_at > len(self.operations) or self.died.is_set()

    def begin(self, name: str) -> bool:
        """Begin an operation. Return whether the process dies once it is made."""
        if self.died.is_set():
            raise WorkerDied
        self.operations.append(name)
        self.drain.is_stopping |= len(self.operations) == self.stops_at
        is_last = len(self.operations) == self.dies_at
        if is_last and not self.after:
            self.die()
        return is_last

    async def wait(self) -> None:
        """Let others run, as chance has it."""
        for _ in range(self.chance.randrange(4) if self.chance is not None else 0):
            await asyncio.sleep(0)

    def die(self) -> None:
        """Nothing more is done. Raises WorkerDied."""
        self.died.set()
        raise WorkerDied


@functools.cache  # a process looks operations up more often than it has any
def _is_async(operation: Any) -> bool:
    return asyncio.iscoroutinefunction(operation)


class Part:
    """A store, queue or client as a process has it: what changes something is one of its operations."""

    def __init__(self, kind: str, part: Any, process: Process) -> None:
        self._kind, self._part, self._process = kind, part, process

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._part, name)
        if name == "transfers":
            return Part(self._kind, value, self._process)
        if name == "download":
            return self._downloading(value)
        if callable(value) and _is_async(getattr(value, "__func__", value)):
            value = self.__dict__[name] = self._operation(name, value)  # found without this function from now on
        return value

    def _operation(self, name: str, value: Any) -> Any:
        async def run(*args: Any, **options: Any) -> Any:
            if self._process.died.is_set():
                raise WorkerDied
            if self._process.chance is not None:
                await self._process.wait()
            is_last = self._process.begin(self._name(name, args)) if name in _WRITES else False
            is_collected = False
            try:
                return await value(*args, **options)
            except GeneratorExit:  # as garbage, after the death: nobody would hear of it
                is_collected = True
                raise
            finally:
                if not is_collected and (is_last or self._process.died.is_set()):
                    self._process.die()

        return run

    def _downloading(self, value: Any) -> Any:
        async def run(*args: Any, **options: Any) -> AsyncGenerator[bytes, None]:
            is_last = self._process.begin(self._name("download", args))
            try:
                async with contextlib.aclosing(value(*args, **options)) as content:
                    async for chunk in content:
                        yield chunk
            finally:
                if is_last:
                    self._process.die()

        return run

    def _name(self, name: str, args: tuple[Any, ...]) -> str:
        first = args[0] if args else ""
        if hasattr(first, "method"):
            return f"{first.method} {'/'.join(part for part in first.url.split('/')[3:] if '_' not in part)}"
        if hasattr(first, "key"):
            return f"{self._kind}.{name} {first.key.partition('_')[0]}"
        return f"{self._kind}.{name} {first if isinstance(first, str) else ''}"


@dataclass
class Message:
    """A message of a queue."""

    queue: str
    body: bytes
    visible_at: float
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    inserted_at: datetime = field(default_factory=clock.now)
    dequeued: int = 0


@dataclass
class CrashingApp(PatientApp):
    """A PatientApp whose worker is `process`, until it dies."""

    process: Process = field(default_factory=Process)
    stored: Memory = field(default_factory=Memory)
    messages: list[Message] = field(default_factory=list)
    delivers_twice: bool = False
    """Each message also comes to another worker process, at the same time."""
    held: set[str] = field(default_factory=set)
    """Queues whose messages come to nobody for now."""
    client: UpstreamClient | None = None
    crashes: int = 0

    def begin(self, process: Process) -> None:
        """Start another process."""
        self.process, self.worker = process, self._open(process)

    def _open(self, process: Process) -> Worker:
        stored = self.stored
        memory = Memory(*(cast(Any, Part(n, getattr(stored, n), process)) for n in ("table", "blobs", "queues")))
        memory.credentials = stored.credentials
        client = cast(UpstreamClient, Part("client", self.client, process))
        settings = self.worker.services.settings
        return open_worker(cast(Endpoint, None), client, memory=memory, settings=settings, drain=process.drain)

    async def send(self, customer: str, action: str = "chat", **members: Any) -> str:
        """See PatientApp. It is no process of the app that sends it."""
        worker, self.worker = self.worker, open_worker(cast(Endpoint, None), cast(Any, self.client), memory=self.stored)
        try:
            return await PatientApp.send(self, customer, action, **members)
        finally:
            self.worker = worker

    async def deliver(self) -> None:
        """Process all messages that are due, side by side, and those that follow; a killed one comes again later."""
        while due := self._take_due():
            tasks = {asyncio.create_task(self._process(each, self.worker)): each for each in due}
            if self.delivers_twice:
                twin = self._open(Process(chance=self.process.chance))
                tasks |= {asyncio.create_task(self._process(each, twin)): replace(each) for each in due}
            await self._run(tasks)

    async def pass_time(self, seconds: float, *, step_s: float = MINUTE) -> None:
        """See PatientApp. The timer's function is one of the process, too."""
        end = self.clock() + seconds
        while self.clock() < end:
            self.clock.advance(min(step_s, end - self.clock()))
            await asyncio.sleep(0)
            if self.provider_is_busy():
                await self.provider.settle()
            if self.has_due_entries():
                await self._run({asyncio.create_task(self.send_due()): None})
            if self.has_due_messages():
                await self.deliver()

    def has_due_messages(self) -> bool:
        """See PatientApp."""
        is_sent = any(sent and queue.startswith(("jobs", "batches")) for queue, sent in self.stored.queues.sent.items())
        return is_sent or any(each.visible_at <= self.clock() and each.queue not in self.held for each in self.messages)

    def _take_due(self) -> list[Message]:
        for queue, sent in list(self.stored.queues.sent.items()):
            if queue.startswith(("jobs", "batches")):
                self.messages += [Message(queue, body, self.clock() + delay_s) for body, delay_s in sent]
                sent.clear()
        due = [each for each in self.messages if each.visible_at <= self.clock() and each.queue not in self.held]
        self.messages = [each for each in self.messages if each not in due]
        return due

    async def _run(self, tasks: dict[asyncio.Task[None], Message | None]) -> None:
        waiting = await self._until_death(tasks) if self.process.will_die else await self._to_the_end(tasks)
        for task, message in tasks.items():
            failure = None if task.cancelled() else task.exception()
            if message is None:
                assert failure is None or isinstance(failure, WorkerDied | StorageUnavailable), failure
            elif task in waiting or failure is not None or self.process.drain.is_stopping:
                self._requeue(message)
        if self.process.died.is_set() or self.process.drain.is_stopping:
            self.crashes += 1
            await asyncio.sleep(0)
            self.begin(Process())

    async def _to_the_end(self, tasks: Iterable[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        async with asyncio.timeout(_CALL_LIMIT_S):
            await asyncio.wait(tasks)
        return set()

    async def _until_death(self, tasks: Iterable[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
        """Return those that had not ended."""
        death = asyncio.create_task(self.process.died.wait())
        waiting: set[asyncio.Task[Any]] = set(tasks)
        async with asyncio.timeout(_CALL_LIMIT_S):
            while waiting and not self.process.died.is_set():
                await asyncio.wait([*waiting, death], return_when=asyncio.FIRST_COMPLETED)
                waiting = {each for each in waiting if not each.done()}
        for task in [*waiting, death]:
            task.cancel()
        await asyncio.gather(*tasks, death, return_exceptions=True)
        return waiting

    def _requeue(self, message: Message) -> None:
        message.dequeued += 1
        message.visible_at = self.clock() + VISIBLE_AGAIN_S
        if message.dequeued >= MAX_DEQUEUE_COUNT:
            message = Message(f"{message.queue.removesuffix('-poison')}-poison", message.body, self.clock())
        self.messages.append(message)

    async def _process(self, message: Message, worker: Worker) -> None:
        services, is_poison = worker.services, message.queue.endswith("-poison")
        if message.queue.startswith("batches"):
            batch_worker = services.batch_worker
            await (batch_worker.dead_letter if is_poison else batch_worker.process)(message.body)
            return
        delivery = Delivery(message.body, message.id, message.inserted_at, message.dequeued > 0)
        run: Awaitable[bytes | None] = (services.worker.dead_letter if is_poison else services.worker.process)(delivery)
        published = await run
        if self.process.died.is_set():
            raise WorkerDied  # the host has heard nothing of what it published
        if published is not None:
            self.results.append(json.loads(published))

    def result(self, job_id: str) -> dict[str, Any]:
        """Return the result of a job, which may have been published again, but is always the same."""
        first, *others = [each for each in self.results if each["job_id"] == job_id]
        assert all(each == first for each in others)
        return first

    def check(self, customer: str, jobs: list[str], *, succeeded: bool = True, unanswered: int = 0) -> None:
        """
        Fail if a job has no result, a line was bought twice or not recorded, or something goes on.

        `unanswered`: the calls that may have been billed, and that no answer came to.
        """
        journal = self.accounts[customer].journal
        assert journal.bought_twice() == {}
        usage = [
            row.values
            for row in counted(row for (partition, _), row in self.stored.table.rows.items() if partition == customer)
        ]
        answered = sorted(row["request_id"] for row in usage if row["outcome"] == "answered")
        billed = sorted(entry.request_id for entry in journal.billed())
        assert set(answered) <= set(billed)
        assert len(answered) == len(set(answered)) >= len(billed) - unanswered
        assert len(usage) - len(answered) == unanswered
        results = [self.result(job) for job in jobs]
        assert not succeeded or {result["status"] for result in results} == {"succeeded"}
        assert sum(result["usage"]["calls"] for result in results if result.get("usage")) == len(answered)
        assert {row["state"] for row in self.rows(customer, PREFIX)} <= {"done"}
        assert {row["state"] for row in self.rows(customer, "j_")} == {"done"}
        assert self.messages == []


@asynccontextmanager
async def crashing_app(
    client: UpstreamClient, monkeypatch: pytest.MonkeyPatch, process: Process
) -> AsyncIterator[CrashingApp]:
    """A patient_app whose first worker is `process`."""
    async with patient_app(client, monkeypatch) as plain:
        app = CrashingApp(plain.provider, plain.worker, plain.clock, stored=plain.memory, client=client)
        app.begin(process)
        yield app
