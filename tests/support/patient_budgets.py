"""Jobs at patient prices on a budget, whose workers die, whose messages come twice, and that anything may happen to."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, NamedTuple, cast

from local.provider.faults import BatchFault
from shared.billing.bucket_rows import period_of_key
from shared.clock import now
from shared.contract.budget import Budget
from shared.jobs.message import Delivery
from tests.support.budget_jobs import Killed, MortalTable
from tests.support.counted_records import counted
from tests.support.endpoint import Endpoint
from tests.support.fakes import MemoryTable
from tests.support.patience import MINUTE, PatientApp
from tests.support.workers import open_worker

_AGAIN_S = 180
"""After which a message comes again whose worker has died: longer than a lease."""


async def put(at: PatientApp, customer: str, **budgets: Budget) -> None:
    """Write a customer's budgets, and have the worker read them."""
    records = at.worker.services.customer_records
    await records.change(customer, lambda record: record.with_budgets(budgets), by="ann", subject="budgets")


def monthly(limit: str, unit: str = "tokens", **members: Any) -> Budget:
    """Return a monthly budget."""
    return Budget(limit=Decimal(limit), unit=unit, period="month", **members)


class Total(NamedTuple):
    """What is spent and reserved of a budget."""

    spent: Decimal
    reserved: Decimal


def periods(table: MemoryTable, customer: str, name: str) -> list[Total]:
    """Return what is spent and reserved of a budget in each period that was begun."""
    sums: dict[str, Total] = {}
    for (partition, key), row in table.rows.items():
        if partition == customer and key.startswith(f"b_{name}_"):
            period, before = period_of_key(key), sums.get(period_of_key(key), Total(Decimal(0), Decimal(0)))
            spent, reserved = Decimal(row.values["spent"]), Decimal(row.values["reserved"])
            assert reserved >= 0
            sums[period] = Total(before.spent + spent, before.reserved + reserved)
    return list(sums.values())


def total(table: MemoryTable, customer: str, name: str) -> Total:
    """Return what is spent and reserved of a budget in all periods."""
    each = periods(table, customer, name)
    return Total(sum((total.spent for total in each), Decimal(0)), sum((total.reserved for total in each), Decimal(0)))


def used(table: MemoryTable, customer: str) -> int:
    """Return the tokens of the customer's usage records that count."""
    rows = [row for (partition, _), row in sorted(table.rows.items()) if partition == customer]
    return sum(row.values.get("input_tokens", 0) + row.values.get("output_tokens", 0) for row in counted(rows))


@dataclass
class RestlessApp:
    """A patient app to which anything may happen, by chance. The limit of its customer's budget holds all the time."""

    app: PatientApp
    chance: random.Random
    limit: Budget
    customer: str = ""
    table: MemoryTable = field(init=False)
    jobs: dict[str, bytes] = field(default_factory=dict)
    """The first messages of jobs, by their ids."""
    mortal: MortalTable | None = None
    statuses: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.table = self.app.memory.table
        self.customer = self.app.customer()

    async def live(self, steps: int) -> None:
        """Let so many things happen, and then what is necessary for all jobs to end."""
        await put(self.app, self.customer, main=self.limit)
        actions: list[Callable[[], Coroutine[Any, Any, None]]] = [
            *([self.send] * 4),
            *([self.pass_minutes] * 4),
            *([self.die_soon] * 3),
            *([self.cancel, self.repeat] * 2),
            *(self.spoil, self.suspend, self.disconnect),
        ]
        await self.send()
        for _ in range(steps):
            await self.chance.choice(actions)()
            await self.deliver()
            self.check()
        self.mortal = None
        self._open_worker(self.table)
        await self._set_state("active")
        self._connect()
        for _ in range(60 * 27):
            await self.pass_time(MINUTE)
            if all(row["state"] == "done" for row in self.app.rows(self.customer, "j_")) and not self.app.hidden:
                break
        self.check()

    def check(self) -> None:
        """Check what holds at any time."""
        for spent, reserved in periods(self.table, self.customer, "main"):
            assert spent + reserved <= self.limit.limit

    async def send(self) -> None:
        """Send a job."""
        prompts = [f"Count to {self.chance.randrange(100)}." for _ in range(self.chance.choice([1, 3, 45]))]
        members: dict[str, Any] = {"parameters": {"max_tokens": 50}}
        if len(prompts) == 1:
            job_id = await self.app.send(self.customer, input={"prompt": prompts[0], **members})
        else:
            job_id = await self.app.send(self.customer, "multi_chat", input={"prompts": prompts, **members})
        self.jobs[job_id] = self.app.memory.queues.sent["jobs"][-1][0]

    async def repeat(self) -> None:
        """Deliver a job's message again."""
        await self.app.memory.queues.send("jobs", self.chance.choice(list(self.jobs.values())))

    async def cancel(self) -> None:
        """Cancel a job."""
        with suppress(Killed):
            await self.app.cancel(self.customer, self.chance.choice(list(self.jobs)))

    async def spoil(self) -> None:
        """Let the next batch end in an odd way."""
        fault = self.chance.choice([BatchFault(expire_share=0.5), BatchFault(in_progress_s=9000), BatchFault(bom=True)])
        self.app.accounts[self.customer].faults.batches.add(fault)

    async def suspend(self) -> None:
        """Suspend the customer, or end that."""
        await self._set_state(self.chance.choice(["active", "suspended"]))

    async def disconnect(self) -> None:
        """Delete the customer's connection, or make it again."""
        if self.chance.random() < 1 / 2:
            self._connect()
        else:
            self.app.memory.credentials.secrets.pop((self.customer, "default"), None)
        self._open_worker(self.table)

    async def die_soon(self) -> None:
        """Let the worker die at one of its next operations, before it is made or after."""
        self.mortal = MortalTable(self.table, self.chance.randrange(1, 25), made=self.chance.random() < 1 / 2)
        self._open_worker(cast(MemoryTable, self.mortal))

    async def pass_minutes(self) -> None:
        """Let time pass."""
        await self.pass_time(self.chance.choice([1, 5, 10, 60]) * MINUTE)

    async def pass_time(self, seconds: float) -> None:
        """As PatientApp's."""
        app, end = self.app, self.app.clock() + seconds
        while app.clock() < end:
            app.clock.advance(MINUTE)
            if app.provider_is_busy():
                await app.provider.settle()
            if self.mortal:  # it may die in a minute in which nothing is due
                await self._survive([app.worker.services.schedule.send_due(now())])
            elif app.has_due_entries():
                await app.send_due()
            if app.has_due_messages():
                await self.deliver()

    async def deliver(self) -> None:
        """Process all messages that are in the queues, and those that follow from them."""
        while messages := self.app.take():
            unfinished = await self._survive([self._process(queue, body) for queue, body in messages])
            self.app.hidden += [(self.app.clock() + _AGAIN_S, *messages[number]) for number in unfinished]

    async def _process(self, queue: str, body: bytes) -> None:
        services = self.app.worker.services
        if queue == "batches":
            await services.batch_worker.process(body)
            return
        result_body = await services.worker.process(Delivery(body, str(uuid.uuid4()), now()))
        if result_body is not None:
            result = json.loads(result_body)
            self.statuses.setdefault(result["job_id"], set()).add(result["status"])

    async def _survive(self, work: list[Coroutine[Any, Any, None]]) -> list[int]:
        """Do all of it, or as much as the worker lives for; return the numbers of what it did not finish."""
        tasks = [asyncio.create_task(each) for each in work]
        pending = set(tasks)
        while pending and not (self.mortal and self.mortal.dead):
            _, pending = await asyncio.wait(pending, timeout=0.02)
        for task in pending:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        if self.mortal and self.mortal.dead:
            self.mortal = None
            self._open_worker(self.table)
        for each in ended:
            if isinstance(each, BaseException) and not isinstance(each, Killed | asyncio.CancelledError):
                raise each
        return [number for number, each in enumerate(ended) if isinstance(each, BaseException)]

    def _open_worker(self, table: MemoryTable) -> None:
        memory = replace(self.app.memory, table=table)
        client = self.app.worker.services.client
        self.app.worker = open_worker(cast(Endpoint, None), client, memory=memory)

    def _connect(self) -> None:
        self.app.connect(self.customer, self.app.accounts[self.customer])

    async def _set_state(self, state: str) -> None:
        records = open_worker(
            cast(Endpoint, None), self.app.worker.services.client, memory=replace(self.app.memory, table=self.table)
        ).services.customer_records
        changed = cast(Any, state)
        await records.change(self.customer, lambda record: replace(record, state=changed), by="ann", subject="state")
        self._open_worker(self.table)  # which has nothing in memory
