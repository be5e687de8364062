"""A worker of one test's own, on a ledger in memory whose faults meet the very change that is meant."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from shared.billing.usage_records import counted
from shared.clock import now
from shared.errors import AlreadyRunning
from shared.jobs.admission import Limiter
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.services import Services
from shared.storage.base import RowChanged
from shared.upstream.circuit_breaker import Breakers
from tests.support.fakes import MemoryQueues, MemoryTable
from tests.support.harness import Customer, World, delivery


@dataclass
class Worker:
    """A worker of one test's own: its lanes, breakers and queues, and a ledger in memory."""

    services: Services
    table: MemoryTable
    queues: MemoryQueues

    @property
    def ledger(self) -> Ledger:
        """Its ledger."""
        return self.services.ledger

    async def deliver(
        self,
        customer: Customer,
        body: bytes | None = None,
        *,
        message_id: str = "",
        submitted_at: datetime | None = None,
        **members: Any,
    ) -> dict[str, Any] | None:
        """Hands the pipeline one message, as the trigger does, and gives the result that it tells."""
        data = json.dumps(customer.job(**members)).encode() if body is None else body
        message = delivery(data, message_id)
        told = await self.services.worker.process(replace(message, submitted_at=submitted_at or message.submitted_at))
        return None if told is None else json.loads(told)

    async def run(self, customer: Customer, body: bytes | None = None, **members: Any) -> dict[str, Any]:
        """As `deliver`; fails where nothing is told."""
        told = await self.deliver(customer, body, **members)
        assert told is not None
        return told

    def requeued(self) -> list[tuple[bytes, float]]:
        """The messages that it has put back into the jobs queue, each with its delay; they are taken out."""
        return self.queues.sent.pop(self.services.settings.jobs_queue, [])

    def row(self, customer: Customer, job_id: str) -> dict[str, Any]:
        """A job's row."""
        return dict(self.table.rows[customer.name, f"j_{job_id}"].values)

    def usage(self, customer: Customer) -> list[dict[str, Any]]:
        """The customer's usage records that count, by their keys."""
        found = sorted(self.table.rows.items())
        rows = [row for (partition, key), row in found if partition == customer.name and key[:2] == "u_"]
        return [dict(row.values) for row in counted(rows)]

    def outcomes(self, customer: Customer) -> list[tuple[str, int, int]]:
        """Of each usage record the outcome, the calls and the tokens."""
        return sorted(
            (row["outcome"], row["calls"], row["input_tokens"] + row["output_tokens"]) for row in self.usage(customer)
        )

    async def end_lease(self, customer: Customer, job_id: str) -> None:
        """Lets as much time pass for a job as its lease takes to end."""
        row = await self.table.read(customer.name, f"j_{job_id}")
        assert row is not None
        await self.table.merge(replace(row, values={"lease_until": now() - timedelta(seconds=1)}))

    async def take_over(self, customer: Customer, job_id: str) -> Lease:
        """Another worker's claim on a job, whose lease has ended unnoticed."""
        asked = self.row(customer, job_id)["fingerprint"]
        while True:
            try:
                await self.end_lease(customer, job_id)
                claim = await Ledger(self.table).claim(customer.name, job_id, fingerprint=asked, submitted_at=now())
            except (RowChanged, AlreadyRunning):  # it was renewed meanwhile
                continue
            assert isinstance(claim, Lease)
            return claim


def worker_of(world: World, *, table: MemoryTable | None = None, lease_s: float = 90, **parts: Any) -> Worker:
    """A worker in the world's vault, blobs and endpoint; `tools` are its own in place of the usual."""
    table, queues = table or MemoryTable(), MemoryQueues()
    own = {"ledger": Ledger(table, lease_s=lease_s), "limiter": Limiter(), "breakers": Breakers()} | parts
    return Worker(replace(world.services, table=table, queues=queues, **own), table, queues)
