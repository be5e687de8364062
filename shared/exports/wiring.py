"""Makes the delivery of what the services have: a receiver for each export."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from shared.exports.budget_delivery import BudgetEvents
from shared.exports.cloudevents import QueueReceiver, WebhookReceiver
from shared.exports.delivery import Delivery
from shared.exports.keys import ExportKeys, SigningExports
from shared.exports.lago import LagoReceiver
from shared.exports.openmeter import OpenMeterReceiver
from shared.exports.orb import OrbReceiver
from shared.exports.receivers import ApiReceiver, Receiver
from shared.exports.stripe import StripeReceiver
from shared.webhooks.signing import Signing

if TYPE_CHECKING:
    from shared.billing.customer_records import CustomerRecords
    from shared.billing.price_books import PriceBooks
    from shared.connections.key_vault import KeyVaultCredentials
    from shared.export_settings import Export
    from shared.settings import Settings
    from shared.storage.base import Queues, Table
    from shared.telemetry.base import Telemetry
    from shared.upstream.client import UpstreamClient

_API_RECEIVERS: dict[str, Callable[[Export, UpstreamClient], ApiReceiver]] = {
    "stripe": StripeReceiver,
    "openmeter": OpenMeterReceiver,
    "lago": LagoReceiver,
    "orb": OrbReceiver,
}


def make_delivery(
    settings: Settings,
    table: Table,
    queues: Queues,
    client: UpstreamClient,
    vault: KeyVaultCredentials | None,
    signing: Signing,
    records: CustomerRecords,
    price_books: PriceBooks,
    telemetry: Telemetry,
) -> Delivery:
    """Return the delivery. `signing` has the customers' signing secrets."""
    exports = settings.usage_exports
    signing_exports = Signing(SigningExports(vault) if vault else None, owner="export")
    return Delivery(
        table=table,
        records=records,
        price_books=price_books,
        receivers={export.name: make_receiver(export, client, queues, signing_exports) for export in exports},
        exports=exports,
        keys=ExportKeys(vault),
        budget_events=BudgetEvents(table, client, signing),
        telemetry=telemetry,
    )


def make_receiver(export: Export, client: UpstreamClient, queues: Queues, signing: Signing) -> Receiver:
    """Return where an export's events go."""
    if export.queue:
        return QueueReceiver(export, queues)
    if export.kind == "cloudevents":
        return WebhookReceiver(export, client, signing=signing)
    return _API_RECEIVERS[export.kind](export, client)
