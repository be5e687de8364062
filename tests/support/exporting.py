"""
The delivery of exports in simulated time: a table in memory, billing systems in memory, and a worker that can be killed
at any of its requests.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared import clock
from shared.billing.customer_records import CustomerRecords
from shared.billing.outbox import Outbox
from shared.billing.price_books import PriceBooks
from shared.billing.usage import Call, CallOutcome
from shared.billing.usage_records import RecordLabels, usage_rows
from shared.connections.store import StoredCredential
from shared.contract.customer import CustomerProfile
from shared.contract.result import ConnectionLabel
from shared.contract.usage import Usage
from shared.errors import ProviderUnavailable, UpstreamFacts
from shared.export_settings import Export
from shared.exports.budget_delivery import BudgetEvents
from shared.exports.delivery import Delivery
from shared.exports.keys import ExportKeys, SigningExports
from shared.exports.outbox_rows import read_tally
from shared.exports.resolution import Outboxes
from shared.exports.wiring import make_receiver
from shared.secret import Secret
from shared.storage.base import Row, RowPage
from shared.telemetry.base import SILENT
from shared.upstream.messages import DeliveryReceipt, Response, UpstreamRequest
from shared.webhooks.signing import Signing
from tests.support.billing_receivers import (
    KEY,
    BillingSystem,
    CloudEventsConsumer,
    Lago,
    OpenMeter,
    Orb,
    Stripe,
)
from tests.support.fake_blobs import MemoryBlobs
from tests.support.fakes import MemoryQueues, MemoryTable

START = datetime(2026, 11, 10, 12, tzinfo=UTC)
WHSEC = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
EXPORTS = {
    "stripe": Export("stripe", "stripe", "ai_tokens", "https://api.stripe.com", value="total_tokens"),
    "openmeter": Export("openmeter", "openmeter", "ai.usage", "https://openmeter.cloud", value="total_tokens"),
    "lago": Export("lago", "lago", "ai_tokens", "https://api.getlago.com", value="total_tokens"),
    "orb": Export("orb", "orb", "ai usage", "https://api.withorb.com", value="total_tokens"),
    "queue": Export("queue", "cloudevents", "ai.usage", queue="usage-events", value="total_tokens"),
    "webhook": Export("webhook", "cloudevents", "ai.usage", "https://hooks.contoso.com/u", value="total_tokens"),
}


class Killed(BaseException):
    """The worker process ends here."""


@dataclass
class KillableTable(MemoryTable):
    """A table that ends the worker at one of its requests: before it is made, or after."""

    countdown: int | None = None
    """Requests until then, two for each: before and after it."""

    def step(self) -> None:
        """Count one step. At the last one the worker ends, and with it everything that it does at the same time."""
        if self.countdown is None:
            return
        self.countdown -= 1
        if self.countdown < 0:
            raise Killed

    async def insert(self, row: Row, *, beside: Sequence[Row] = (), operation_id: str = "") -> str:
        """See Table."""
        self.step()
        etag = await super().insert(row, beside=beside, operation_id=operation_id)
        self.step()
        return etag

    async def merge(self, row: Row, *, operation_id: str = "") -> str:
        """See Table."""
        self.step()
        etag = await super().merge(row, operation_id=operation_id)
        self.step()
        return etag

    async def merge_and_insert(self, changed: Row, added: Sequence[Row], *, operation_id: str = "") -> Sequence[str]:
        """See Table."""
        assert len(added) < 100
        self.step()
        etags = await super().merge_and_insert(changed, added, operation_id=operation_id)
        self.step()
        return etags

    async def page(self, partition: str, first: str, last: str, **options: Any) -> RowPage:
        """See Table."""
        self.step()
        return await super().page(partition, first, last, **options)

    async def delete(self, rows: Sequence[Row]) -> Sequence[str]:
        """See Table."""
        self.step()
        changed = await super().delete(rows)
        self.step()
        return changed


@dataclass
class MemoryClient:
    """The HTTP client of exports, which passes requests to systems in memory."""

    harness: ExportHarness

    async def exchange(self, request: UpstreamRequest, key: Secret | None, *, name: str, timeout_s: float) -> Response:
        """See UpstreamClient."""
        del name
        assert 0 < timeout_s <= 30
        self.harness.table.step()
        status, headers, body = await self.harness.answer(request, key)
        self.harness.table.step()
        if self.harness.lost > 0:
            self.harness.lost -= 1
            raise ProviderUnavailable("The connection broke.", UpstreamFacts(transient=True, unanswered=True))
        return Response(status, headers, body, None)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], **_: Any) -> DeliveryReceipt:
        """See UpstreamClient."""
        self.harness.table.step()
        self.harness.posts.append((url, dict(headers), body))
        self.harness.table.step()
        status = self.harness.statuses.pop(0) if self.harness.statuses else 204
        return DeliveryReceipt(status)


@dataclass
class KillableQueues(MemoryQueues):
    """Queues at whose requests the worker can be ended, too."""

    table: KillableTable = field(default_factory=KillableTable)

    async def send(self, queue: str, body: bytes, *, delay_s: float = 0) -> None:
        """See Queues."""
        self.table.step()
        await super().send(queue, body, delay_s=delay_s)
        self.table.step()


@dataclass
class MemoryVault:
    """The secrets of exports and the signing secrets of customers."""

    secrets: dict[str, str] = field(default_factory=dict)

    async def export_secret(self, export: str) -> StoredCredential | None:
        """See ExportStore."""
        text = self.secrets.get(export)
        return None if text is None else StoredCredential(Secret(text), "1")

    async def signing_secret(self, customer: str) -> StoredCredential | None:
        """See SigningStore."""
        return StoredCredential(Secret(WHSEC), "1") if customer != "unsigned" else None

    async def signing_customers(self) -> list[str]:
        """See SigningStore."""
        return []


@dataclass
class ExportHarness:
    """One export, its receiver, and customers with usage records."""

    patch: pytest.MonkeyPatch
    exports: Sequence[Export]
    time: datetime = START
    table: KillableTable = field(default_factory=KillableTable)
    queues: KillableQueues = field(init=False)
    vault: MemoryVault = field(init=False)
    systems: dict[str, BillingSystem] = field(init=False)
    consumer: CloudEventsConsumer = field(default_factory=CloudEventsConsumer)
    lost: int = 0
    """Answers that get lost, the next ones."""
    posts: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    recorded: dict[str, Decimal] = field(default_factory=dict)
    """What was recorded of each customer that is to be billed."""
    jobs: int = 0

    def __post_init__(self) -> None:
        harness = self

        class HarnessTime(datetime):
            @classmethod
            def now(cls, tz: Any = None) -> datetime:
                return harness.time.astimezone(tz)

        self.patch.setattr(clock, "datetime", HarnessTime)
        self.queues = KillableQueues(table=self.table)
        self.vault = MemoryVault({each.name: WHSEC if each.kind == "cloudevents" else KEY for each in self.exports})
        kinds = {"stripe": Stripe, "openmeter": OpenMeter, "lago": Lago, "orb": Orb}
        self.systems = {
            each.name: kinds[each.kind](clock=lambda: self.time) for each in self.exports if each.kind in kinds
        }
        self.records = CustomerRecords(self.table)
        self.outbox = Outbox(self.table, [each.name for each in self.exports], self.seconds)
        self.price_books = PriceBooks(self.table, MemoryBlobs(), "statements")

    def seconds(self) -> float:
        """Return the time, for what counts seconds."""
        return self.time.timestamp()

    async def answer(self, request: UpstreamRequest, key: Secret | None) -> tuple[int, dict[str, str], bytes]:
        """Have the system answer whose address it is."""
        export = next(each for each in self.exports if each.url and request.url.startswith(each.url))
        headers = {**request.headers, **({"authorization": f"Bearer {key.reveal()}"} if key else {})}
        body = request.content
        if request.form:
            from urllib.parse import urlencode  # noqa: PLC0415

            body = urlencode([(name, text) for name, texts in request.form.items() for text in texts]).encode()
        if export.kind == "cloudevents":
            self.posts.append((request.url, headers, body))
            self.consumer.read(body)
            return 204, {}, b""
        path = request.url.removeprefix(export.url)
        return await self.systems[export.name].handle_alone(path, headers, body)

    async def add_customer(self, customer: str, **profile: Any) -> None:
        """Add a customer with a profile; by default it has an external id for each export."""
        ids = {each.name: f"ext-{customer}" for each in self.exports}
        new = CustomerProfile(**{"external_ids": ids, **profile})
        await self.records.change(customer, lambda record: record.with_profile(new), by="test", subject="profile")

    async def record(
        self,
        customer: str,
        *tokens: int,
        outcome: CallOutcome = "answered",
        billed: bool = True,
        suffix: str = "",
        **values: Any,
    ) -> list[Row]:
        """Write the usage records of one job, as its last transaction does."""
        self.jobs += 1
        label = ConnectionLabel(name="default", source="key_vault", provider="openai", billed_to="customer")
        labels = RecordLabels(customer, f"job-{self.jobs}", "chat", "gpt", label, incarnation=f"{self.jobs:08x}")
        calls = [
            Call(Usage(calls=1, input_tokens=each, output_tokens=0, total_tokens=each), outcome=outcome)
            for each in tokens
        ]
        rows = [
            replace(row, values={**row.values, **values}) for row in usage_rows(labels, calls, self.time, suffix=suffix)
        ]
        first, *rest = await self.outbox.with_outbox(rows)
        await MemoryTable.insert(self.table, first, beside=rest)
        if billed:
            self.recorded[f"ext-{customer}"] = self.recorded.get(f"ext-{customer}", Decimal(0)) + sum(tokens)
        return rows

    def delivery(self) -> Delivery:
        """Return the delivery of a new worker."""
        client: Any = MemoryClient(self)
        vault: Any = self.vault
        signing = Signing(SigningExports(vault), owner="export")
        return Delivery(
            self.table,
            self.records,
            self.price_books,
            {each.name: make_receiver(each, client, self.queues, signing) for each in self.exports},
            self.exports,
            ExportKeys(vault),
            BudgetEvents(self.table, client, Signing(vault)),
            SILENT,
            random.Random(1),
        )

    async def run(self, times: int = 1) -> None:
        """Let workers run, one after the other, six minutes apart."""
        for _ in range(times):
            await self.delivery().run()
            self.time += timedelta(minutes=6)
        for body, _ in self.queues.sent.pop("usage-events", []):
            self.consumer.read(body)

    async def run_until_killed(self, step: int) -> bool:
        """Let a worker run that is killed at a step; return whether it has come so far."""
        self.table.countdown = step
        try:
            await self.delivery().run()
        except Killed:
            return True
        finally:
            self.table.countdown = None
        return False

    @property
    def outboxes(self) -> Outboxes:
        """What a person sees of them."""
        return Outboxes(self.table, self.records)

    async def in_doubt(self, customer: str) -> Decimal:
        """Return the sum of a customer's values that are in doubt, of all exports."""
        return sum(
            [
                Decimal(event.state.value)
                async for event in self.outboxes.events(customer, self.exports)
                if event.state.state == "in_doubt"
            ],
            Decimal(0),
        )

    def tally(self, export: str) -> Decimal:
        """Return what an export has been sent, by our own count."""
        rows = (row for (_, key), row in self.table.rows.items() if key.startswith("y_") and key.endswith(f"_{export}"))
        return sum((read_tally(row).value for row in rows), Decimal(0))

    def rows_of(self, prefix: str) -> list[Row]:
        """Return the rows whose keys begin so."""
        return [row for (_, key), row in sorted(self.table.rows.items()) if key.startswith(prefix)]
