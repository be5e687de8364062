"""Jobs at patient prices: workers with Storage in memory, the local provider over HTTP, a clock that a test moves."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

import pytest

from local.provider import server as provider
from local.provider.account import Account
from local.provider.clock import ManualClock
from local.provider.server import Endpoint as Provider
from shared import clock, single_flight
from shared.clock import now
from shared.jobs import schedule
from shared.jobs.cancellation import cancel_job
from shared.jobs.message import Delivery
from shared.jobs.schedule_entries import ALL, key_at
from shared.settings import Settings
from shared.upstream.client import UpstreamClient
from tests.support.endpoint import Endpoint
from tests.support.workers import SETTINGS, Memory, Worker, open_worker

MINUTE = 60.0
_PROVIDERS = {
    "openai": ("openai", "gpt-6-luna"),
    "azure": ("azure_openai", "gpt-6-luna"),
    "anthropic": ("anthropic", "claude-sonnet-4-5"),
}
"""The provider of a connection to an account, and its model."""


@dataclass
class PatientApp:
    """The patient_app. Results are kept as they are published."""

    provider: Provider
    worker: Worker
    clock: ManualClock
    results: list[dict[str, Any]] = field(default_factory=list)
    hidden: list[tuple[float, str, bytes]] = field(default_factory=list)
    """Messages that can't be received yet."""
    accounts: dict[str, Account] = field(default_factory=dict)
    """By customer."""

    @property
    def memory(self) -> Memory:
        """Storage and credentials."""
        return self.worker.memory

    def customer(self, *, style: str = "openai", **secret: Any) -> str:
        """Return a new customer with an account at the provider."""
        name = f"c-{uuid.uuid4().hex[:12]}"
        account = self.provider.account(style=cast(Any, style))
        self.accounts[name] = account
        self.connect(name, account, **secret)
        return name

    def connect(self, customer: str, account: Account, connection: str = "default", **secret: Any) -> None:
        """Store a connection of the customer to an account."""
        kind, model = _PROVIDERS[account.style]
        members = {"endpoint": account.url, "api_key": account.key, "provider": kind, "default_model": model}
        self.memory.credentials.put(customer, connection, json.dumps(members | secret))

    async def send(self, customer: str, action: str = "chat", **members: Any) -> str:
        """Send a job with `processing: batch` to the queue; return its id."""
        job_id = members.pop("job_id", None) or uuid.uuid4().hex[:12]
        options = {"processing": "batch", **members.pop("options", {})}
        body = {"customer": customer, "action": action, "job_id": job_id, "options": options, **members}
        body.setdefault("input", {"prompt": f"Say {job_id}."})
        await self.memory.queues.send("jobs", json.dumps(body).encode())
        return job_id

    async def deliver(self) -> None:
        """Process all messages that are in the queues, and those that follow from them."""
        while messages := self.take():
            run = {"jobs": self._run_job, "batches": self._run_batch}
            await asyncio.gather(*(run[queue](body) for queue, body in messages))

    def take(self) -> list[tuple[str, bytes]]:
        """Take the messages that can be received now out of the queues, each with its queue."""
        queues, at = self.memory.queues.sent, self.clock()
        sent = [(at + delay_s, queue, body) for queue in ("jobs", "batches") for body, delay_s in queues.pop(queue, [])]
        messages = [*self.hidden, *sent]
        self.hidden = [each for each in messages if each[0] > at]
        return [(queue, body) for due_at, queue, body in messages if due_at <= at]

    async def pass_time(self, seconds: float, *, step_s: float = MINUTE) -> None:
        """Let time pass: each minute the timer sends what is due, and messages are processed."""
        end = self.clock() + seconds
        while self.clock() < end:
            self.clock.advance(min(step_s, end - self.clock()))
            await asyncio.sleep(0)  # for what runs beside
            if self.provider_is_busy():
                await self.provider.settle()
            if self.has_due_entries():
                await self.send_due()
            if self.has_due_messages():
                await self.deliver()

    async def send_due(self) -> None:
        """Send what is due, as the timer's function does, which looks at all partitions of the schedule."""
        every, schedule.ALL = schedule.ALL, tuple(each for each in schedule.ALL if self.has_due_entries(each))
        try:
            await self.worker.services.schedule.send_due(clock.now())
        finally:
            schedule.ALL = every

    # In most minutes of a long wait nothing is due. To see that here takes a fraction of what the app takes to find it.

    def provider_is_busy(self) -> bool:
        """Whether something is due at the provider, or is being sent by it."""
        return self.provider.timers._is_due() or bool(self.provider.webhooks._sending)

    def has_due_entries(self, *partitions: str) -> bool:
        """Whether the schedule, or one of these partitions of it, has something that is due, or can't be read."""
        table, due = self.memory.table, key_at(clock.now() + timedelta(milliseconds=1))
        return table.down or table.has_any(partitions or ALL, due)

    def has_due_messages(self) -> bool:
        """Whether a message can be received."""
        is_sent = any(self.memory.queues.sent.get(queue) for queue in ("jobs", "batches"))
        return is_sent or any(due_at <= self.clock() for due_at, _, _ in self.hidden)

    async def finish(self, jobs: Sequence[str], *, within_s: float = 26 * 3600) -> None:
        """Let time pass until all these jobs have a result."""
        end = self.clock() + within_s
        while not {each["job_id"] for each in self.results}.issuperset(jobs):
            assert self.clock() < end, self.memory.table.rows
            await self.pass_time(MINUTE)

    async def cancel(self, customer: str, job_id: str) -> str | None:
        """Cancel a job, as DELETE does."""
        services = self.worker.services
        return await cancel_job(services.updates, services.schedule, customer, job_id)

    def result(self, job_id: str) -> dict[str, Any]:
        """Return the only result of a job."""
        (result,) = [each for each in self.results if each["job_id"] == job_id]
        return result

    def rows(self, customer: str, prefix: str) -> list[dict[str, Any]]:
        """Return the values of the customer's rows whose keys begin so."""
        rows = self.memory.table.rows
        return [dict(rows[id_].values) for id_ in rows.between(customer, prefix, f"{prefix}\U0010ffff")]

    async def _run_job(self, body: bytes) -> None:
        delivery = Delivery(body, str(uuid.uuid4()), clock.now())
        published = await self.worker.services.worker.process(delivery)
        if published is not None:
            self.results.append(json.loads(published))

    async def _run_batch(self, body: bytes) -> None:
        await self.worker.services.batch_worker.process(body)


@asynccontextmanager
async def patient_app(
    client: UpstreamClient, monkeypatch: pytest.MonkeyPatch, *, settings: Settings = SETTINGS
) -> AsyncIterator[PatientApp]:
    """A patient_app whose time begins now, and passes only if the test says so."""
    moved = ManualClock()
    moved.advance(now().timestamp() - moved())

    class MovedTime(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.fromtimestamp(moved(), tz)

    monkeypatch.setattr(clock, "datetime", MovedTime)
    monkeypatch.setattr(single_flight, "PAUSE_S", 0)
    async with provider.start(clock=moved) as running:
        yield PatientApp(running, open_worker(cast(Endpoint, None), client, settings=settings), moved)
