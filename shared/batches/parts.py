"""What the work on batches needs of a worker process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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


@dataclass(frozen=True, slots=True)
class BatchParts:
    """These parts of `shared.services.Services`."""

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
