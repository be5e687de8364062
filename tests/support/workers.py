"""A worker with Storage and credentials in memory. Its HTTP client is real, and so is the endpoint that it calls."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, cast

from shared.billing.customer_records import CustomerRecords
from shared.billing.price_books import PriceBooks
from shared.clock import now
from shared.connections.identity import Identity
from shared.connections.resolver import Connections
from shared.errors import AlreadyRunning
from shared.jobs.admission import Limiter
from shared.jobs.envelope import decode_queued_job
from shared.jobs.fingerprint import fingerprint
from shared.jobs.inputs import Inputs
from shared.jobs.job_prices import JobPrices
from shared.jobs.lease import Lease
from shared.jobs.ledger import Ledger
from shared.jobs.message import Delivery
from shared.jobs.outputs import Outputs
from shared.network.sdk import SdkConnections
from shared.services import Services
from shared.settings import Settings, read_settings
from shared.storage.base import RowChanged
from shared.telemetry.base import SILENT
from shared.upstream.capabilities import Capabilities
from shared.upstream.circuit_breaker import Breakers
from shared.upstream.client import UpstreamClient
from tests.support.counted_records import counted
from tests.support.credential_store import MemoryCredentials
from tests.support.customers import Customer
from tests.support.endpoint import Endpoint, error
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import MemoryQueues, MemoryTable
from tests.support.storage_pools import ClosedPool

SETTINGS = read_settings(
    {
        "JobStorage": "UseDevelopmentStorage=true",
        "ALLOW_LOCAL_ENDPOINTS": "true",
        "ALLOWED_RESULT_QUEUES": "special",
        "INPUT_CONTAINERS": "inputs",
    }
)
"""What every worker of a test has unless the test says otherwise. Nothing connects to that Storage."""


@dataclass
class Memory:
    """What the workers of an app share: Storage and credentials, here in memory."""

    table: MemoryTable = field(default_factory=MemoryTable)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    queues: MemoryQueues = field(default_factory=MemoryQueues)
    credentials: MemoryCredentials = field(default_factory=MemoryCredentials)


@dataclass(repr=False)  # asyncio logs the arguments of fixtures
class Worker:
    """A worker of one test's own: its services, and how a test uses them."""

    services: Services
    memory: Memory
    endpoint: Endpoint

    @property
    def table(self) -> MemoryTable:
        """Its table."""
        return self.memory.table

    @property
    def queues(self) -> MemoryQueues:
        """Its queues."""
        return self.memory.queues

    @property
    def ledger(self) -> Ledger:
        """Its ledger."""
        return self.services.ledger

    def customer(self, *, connection: str | None = "default", **secret: Any) -> Customer:
        """Return a new customer; `secret` are members of its connection beyond endpoint, key and provider."""
        customer = Customer(f"c-{uuid.uuid4().hex[:12]}", self.endpoint.account())
        if connection is not None:
            self.connect(customer, connection, **secret)
        return customer

    def connect(self, customer: Customer, connection: str = "default", **secret: Any) -> None:
        """Store a connection of the customer, or a new version of one."""
        self.memory.credentials.put(customer.name, connection, customer.secret(**secret))

    def another(self, **parts: Any) -> Worker:
        """Return another worker process on the same Storage."""
        return open_worker(self.endpoint, self.services.client, memory=self.memory, **parts)

    async def deliver(
        self,
        customer: Customer,
        body: bytes | None = None,
        *,
        message_id: str = "",
        submitted_at: datetime | None = None,
        **members: Any,
    ) -> dict[str, Any] | None:
        """Process one message as the trigger does, and return the result that is published."""
        message = delivery(customer.body(**members) if body is None else body, message_id, submitted_at)
        return _decoded(await self.services.worker.process(message))

    async def run(self, customer: Customer, body: bytes | None = None, **members: Any) -> dict[str, Any]:
        """As `deliver`; fails if nothing is published."""
        result = await self.deliver(customer, body, **members)
        assert result is not None
        return result

    async def dead_letter(
        self, body: bytes, message_id: str = "", submitted_at: datetime | None = None
    ) -> dict[str, Any] | None:
        """Process a message of the poison queue as its trigger does, and return the result that is published."""
        return _decoded(await self.services.worker.dead_letter(delivery(body, message_id, submitted_at)))

    async def defer(self, customer: Customer, job_id: str) -> bytes:
        """Have the endpoint ask a job for a long wait; return the job's message, which is requeued."""
        customer.account.will_answer(error(429, message="Slow down.", retry_after="3600"))
        assert await self.deliver(customer, job_id=job_id) is None
        return self.wakeup(customer, job_id)

    def wakeup(self, customer: Customer, job_id: str) -> bytes:
        """Return the message that continues a job that waits in the schedule."""
        body: bytes = self.row(customer, job_id)["wakeup"]
        assert body
        return body

    def requeued(self) -> list[tuple[bytes, float]]:
        """Take the messages that it has requeued out of the jobs queue, each with its delay."""
        return self.queues.sent.pop(self.services.settings.jobs_queue, [])

    def row(self, customer: Customer, job_id: str) -> dict[str, Any]:
        """Return the values of a job's row."""
        return dict(self.table.rows[customer.name, f"j_{job_id}"].values)

    async def change_row(self, customer: Customer, job_id: str, **values: Any) -> None:
        """Change a job's row behind the worker's back."""
        row = self.table.rows[customer.name, f"j_{job_id}"]
        await self.table.merge(replace(row, values=values))

    def usage(self, customer: Customer) -> list[dict[str, Any]]:
        """Return the customer's usage records that count, in the order of their keys."""
        rows = sorted(self.table.rows.items())
        return [dict(row.values) for row in counted(row for (partition, _), row in rows if partition == customer.name)]

    def outcomes(self, customer: Customer) -> list[tuple[str, int, int]]:
        """Return the outcome, the calls and the tokens of each usage record that counts."""
        return sorted(
            (row["outcome"], row["calls"], row.get("input_tokens", 0) + row.get("output_tokens", 0))
            for row in self.usage(customer)
        )

    async def claim(self, customer: Customer, job_id: str, body: bytes) -> Lease:
        """Return the lease of a worker that does nothing more."""
        job = decode_queued_job(body, default_id=job_id)
        lease = await self.ledger.claim(
            customer.name, job_id, fingerprint=fingerprint(job), submitted_at=now(), action=job.action
        )
        assert isinstance(lease, Lease)
        return lease

    async def expire_lease(self, customer: Customer, job_id: str) -> None:
        """Let as much time pass for a job as its lease lasts."""
        await self.change_row(customer, job_id, lease_until=now() - timedelta(seconds=1))

    async def crash(self, customer: Customer, job_id: str, body: bytes) -> None:
        """Leave what a worker leaves that died before it did anything: a lease that has expired."""
        await self.claim(customer, job_id, body)
        await self.expire_lease(customer, job_id)

    async def take_over(self, customer: Customer, job_id: str) -> Lease:
        """Return another worker's lease on a job whose lease has expired unnoticed."""
        fingerprint = self.row(customer, job_id)["fingerprint"]
        while True:
            try:
                await self.expire_lease(customer, job_id)
                lease = await Ledger(self.table).claim(
                    customer.name, job_id, fingerprint=fingerprint, submitted_at=now()
                )
            except (RowChanged, AlreadyRunning):  # it was renewed meanwhile
                continue
            assert isinstance(lease, Lease)
            return lease


OpenWorker = Callable[..., Worker]
"""`open_worker` with the test's endpoint and client."""


def open_worker(
    endpoint: Endpoint,
    client: UpstreamClient,
    *,
    memory: Memory | None = None,
    settings: Settings = SETTINGS,
    lease_s: float = 90,
    **parts: Any,
) -> Worker:
    """Return a worker. `parts` replace services; whoever passes a client closes it."""
    memory = memory or Memory()
    records = CustomerRecords(memory.table)
    services = Services(
        settings=settings,
        table=memory.table,
        blobs=memory.blobs,
        queues=memory.queues,
        ledger=Ledger(memory.table, lease_s=lease_s),
        customer_records=records,
        job_prices=JobPrices(PriceBooks(memory.table, memory.blobs, settings.statements_container), records),
        connections=Connections(settings, memory.credentials),
        client=client,
        limiter=Limiter(),
        breakers=Breakers(),
        capabilities=Capabilities(),
        inputs=Inputs(settings, memory.blobs),
        outputs=Outputs(settings, memory.blobs),
        telemetry=SILENT,
        identity=cast(Identity, None),  # the client has its own source of tokens
        sdk=cast(SdkConnections, None),  # only Azure's SDKs use it
        pool=ClosedPool(),
        vault=None,
    )
    return Worker(replace(services, **parts), memory, endpoint)


def without_storage(services: Services, endpoint: Endpoint, **parts: Any) -> Worker:
    """Return a worker with the settings, connections and client of these services, and with Storage in memory."""
    parts = {"connections": services.connections, **parts}
    return open_worker(endpoint, services.client, settings=services.settings, **parts)


def delivery(body: bytes, message_id: str = "", submitted_at: datetime | None = None) -> Delivery:
    """Return a message as the queue delivers it; by default it was submitted just now."""
    return Delivery(body, message_id or str(uuid.uuid4()), submitted_at or now())


def _decoded(body: bytes | None) -> dict[str, Any] | None:
    return None if body is None else json.loads(body)
