"""What the work on batches needs of a worker process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.lru import LRU

if TYPE_CHECKING:
    from shared.billing.customer_records import CustomerRecords
    from shared.connections.resolver import Connections
    from shared.jobs.drain import Drain
    from shared.jobs.ledger import Ledger
    from shared.jobs.schedule import Schedule
    from shared.settings import Settings
    from shared.storage.base import Blobs, Queues, Table
    from shared.telemetry.base import Telemetry
    from shared.upstream.capabilities import Capabilities
    from shared.upstream.client import UpstreamClient

_MAX_OWNERS = 10_000


@dataclass(frozen=True, slots=True)
class BatchParts:
    """These parts of `shared.services.Services`, and what its batches have in common."""

    settings: Settings
    table: Table
    blobs: Blobs
    queues: Queues
    schedule: Schedule
    connections: Connections
    client: UpstreamClient
    ledger: Ledger
    customer_records: CustomerRecords
    drain: Drain
    capabilities: Capabilities
    telemetry: Telemetry
    owners: LRU[tuple[str, str], str] = field(default_factory=lambda: LRU(_MAX_OWNERS))
    """Whose batches are, by customer and the provider's id, where only their results say so."""
