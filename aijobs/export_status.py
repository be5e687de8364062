"""How one export is doing: what it was sent, and what is left of all customers, or of one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from aijobs.scope import customers_of
from shared.billing.money import EXACT
from shared.billing.outbox import PARTITION
from shared.clock import rfc3339
from shared.export_settings import Export
from shared.exports.export_status import ExportStatus, read_status
from shared.exports.outbox_rows import read_tally
from shared.exports.resolution import Outboxes
from shared.services import Services


@dataclass
class ExportOverview:
    """An export, and what became of its events."""

    export: Export
    status: ExportStatus
    sent: int = 0
    value: Decimal = Decimal(0)
    oldest: datetime | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        status = self.status
        times = {"oldest": self.oldest, "failing_since": status.failing_since, "blocked_until": status.blocked_until}
        return {
            "export": self.export.name,
            "kind": self.export.kind,
            "sent": self.sent,
            **({"value": f"{self.value:f}"} if self.export.value else {}),
            **{name: self.counts[name] for name in ("waiting", "refused", "in_doubt")},
            **{name: rfc3339(time) for name, time in times.items() if time is not None},
            **({"error": status.error} if status.error else {}),
        }


async def read_overview(services: Services, export: Export, month: str, customer: str | None) -> ExportOverview:
    """Return the overview of an export: what it was sent of a month, and what is left. Raises StorageUnavailable."""
    row = await services.table.read(PARTITION, f"~{export.name}")
    overview = ExportOverview(export, ExportStatus(export.name) if row is None else read_status(row))
    outboxes = Outboxes(services.table, services.customer_records)
    for each in [customer] if customer else await outboxes.customers():
        async for event in outboxes.events(each, [export]):
            state = "waiting" if event.state.state == "sending" else event.state.state
            overview.counts[state] += 1
            if state == "waiting":
                overview.oldest = min(event.at, overview.oldest or event.at)
    for each in await customers_of(services.table, customer):
        async for row in services.table.scan(each, f"y_{month}", f"y_{month}~"):
            if row.key.partition("_")[2].partition("_")[2] == export.name:
                tally = read_tally(row)
                overview.sent += tally.events
                overview.value = EXACT.add(overview.value, tally.value)
    return overview
