"""
The parts of `Services` that few jobs need: each is imported and made on first use.

Only the composition root imports this.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.batches.batch_worker import BatchWorker
    from shared.batches.job_lines import JobBatches
    from shared.batches.provider_events import ProviderEvents
    from shared.billing.budgets import Budgets
    from shared.billing.closing import Closing
    from shared.billing.customer_records import CustomerRecords
    from shared.billing.outbox import Outbox
    from shared.billing.price_books import PriceBooks
    from shared.connections.key_vault import KeyVaultCredentials
    from shared.connections.resolver import Connections
    from shared.exports.delivery import Delivery
    from shared.exports.export_health import ExportHealth
    from shared.http.app import HttpApp
    from shared.jobs.admission import Limiter
    from shared.jobs.drain import Drain
    from shared.jobs.inputs import Inputs
    from shared.jobs.job_prices import JobPrices
    from shared.jobs.job_updates import JobUpdates
    from shared.jobs.ledger import Ledger
    from shared.jobs.outputs import Outputs
    from shared.jobs.queries import JobQueries
    from shared.jobs.schedule import Schedule
    from shared.jobs.statement_jobs import StatementJobs
    from shared.jobs.submission import Submissions
    from shared.settings import Settings
    from shared.storage.base import Blobs, Queues, Table
    from shared.telemetry.base import Telemetry
    from shared.upstream.capabilities import Capabilities
    from shared.upstream.circuit_breaker import Breakers
    from shared.upstream.client import UpstreamClient
    from shared.webhooks.delivery import Callbacks
    from shared.webhooks.signing import Signing


class ServiceParts:
    """What is made of the fields of `Services`."""

    settings: Settings
    table: Table
    blobs: Blobs
    queues: Queues
    ledger: Ledger
    customer_records: CustomerRecords
    job_prices: JobPrices
    connections: Connections
    client: UpstreamClient
    limiter: Limiter
    breakers: Breakers
    capabilities: Capabilities
    inputs: Inputs
    outputs: Outputs
    telemetry: Telemetry
    drain: Drain
    vault: KeyVaultCredentials | None

    @cached_property
    def queries(self) -> JobQueries:
        """Reads of the jobs' rows."""
        from shared.jobs.queries import JobQueries  # noqa: PLC0415

        return JobQueries(self.table)

    @cached_property
    def updates(self) -> JobUpdates:
        """Changes to the rows of jobs that nobody runs."""
        from shared.jobs.job_updates import JobUpdates  # noqa: PLC0415

        return JobUpdates(self.table)

    @cached_property
    def schedule(self) -> Schedule:
        """When waiting jobs continue."""
        from shared.jobs.schedule import Schedule  # noqa: PLC0415

        settings = self.settings
        queues = settings.jobs_queue, settings.callbacks_queue, settings.batches_queue
        return Schedule(self.table, self.queues, *queues)

    @cached_property
    def batches(self) -> JobBatches:
        """The batches that jobs' calls wait for. Only the jobs that are bought at patient prices need them."""
        from shared.batches.gathering import Gathering  # noqa: PLC0415
        from shared.batches.job_lines import JobBatches  # noqa: PLC0415
        from shared.batches.line_reads import LineReads  # noqa: PLC0415
        from shared.jobs.ledger import Ledger  # noqa: PLC0415
        from shared.jobs.shared_writes import SharedWrites  # noqa: PLC0415

        settings = self.settings
        gathering = Gathering(self.table, self.queues, self.schedule, settings.batches_queue, settings.batch_window_s)
        container, queue = settings.results_container, settings.jobs_queue
        write, of_app = SharedWrites(self.table).write, self.ledger
        ledger = Ledger(self.table, lease_s=of_app.lease_s, outbox=of_app.outbox, write=write)
        reads = LineReads(self.table)
        return JobBatches(self.table, self.blobs, self.queues, self.outputs, gathering, container, queue, ledger, reads)

    @cached_property
    def batch_worker(self) -> BatchWorker:
        """Sends batches to their providers, and reads their answers."""
        from shared.batches.batch_worker import BatchWorker  # noqa: PLC0415
        from shared.batches.parts import BatchParts  # noqa: PLC0415

        parts = self.settings, self.table, self.blobs, self.queues, self.schedule, self.connections, self.client
        others = self.ledger, self.customer_records, self.drain, self.capabilities, self.telemetry
        return BatchWorker(BatchParts(*parts, *others))

    @cached_property
    def submissions(self) -> Submissions:
        """Puts jobs on record that have no attempt yet. No job from the queue needs it, unless it is to run later."""
        from shared.jobs.submission import Submissions  # noqa: PLC0415

        return Submissions(self.ledger, self.queries, self.schedule, self.outputs, self.telemetry)

    @cached_property
    def outbox(self) -> Outbox:
        """What has other systems be sent something."""
        from shared.billing.outbox import Outbox  # noqa: PLC0415  # no job needs it without exports

        return self.ledger.outbox or Outbox(self.table)

    @cached_property
    def budgets(self) -> Budgets:
        """What jobs reserve and settle. Only the jobs of customers with budgets need it."""
        from shared.billing.budgets import Budgets  # noqa: PLC0415

        return Budgets(self.table, self.customer_records, self.outbox)

    @cached_property
    def delivery(self) -> Delivery:
        """Sends usage records to billing systems, and delivers budgets' events. No job needs it."""
        from shared.exports.wiring import make_delivery  # noqa: PLC0415

        return make_delivery(
            *(self.settings, self.table, self.queues, self.client, self.vault, self.signing),
            *(self.customer_records, self.price_books, self.telemetry),
        )

    @cached_property
    def export_health(self) -> ExportHealth | None:
        """How exports are doing, if there are any. No job needs it."""
        if not self.settings.usage_exports:
            return None
        from shared.exports.export_health import ExportHealth  # noqa: PLC0415

        return ExportHealth(self.table, [export.name for export in self.settings.usage_exports])

    @property
    def price_books(self) -> PriceBooks:
        """What calls cost."""
        return self.job_prices.price_books

    @cached_property
    def closing(self) -> Closing:
        """Closes months. Only the jobs that do so need it."""
        from shared.billing.closing import Closing  # noqa: PLC0415

        container, months = self.settings.statements_container, self.settings.retain_usage_months
        return Closing(self.table, self.blobs, container, self.price_books, self.customer_records, months)

    @cached_property
    def statement_jobs(self) -> StatementJobs:
        """Submits the jobs that close months."""
        from shared.jobs.statement_jobs import StatementJobs  # noqa: PLC0415

        queue, customers = self.settings.jobs_queue, self.customer_records
        return StatementJobs(self.table, self.ledger, self.queries, self.outputs, self.queues, queue, customers)

    @cached_property
    def http(self) -> HttpApp:
        """Answers HTTP requests. No job from a queue needs it."""
        from shared.http.wiring import make_http_app  # noqa: PLC0415

        return make_http_app(self)

    @cached_property
    def callbacks(self) -> Callbacks:
        """Delivers callbacks. A job only sends the message that asks for one."""
        from shared.webhooks.delivery import Callbacks  # noqa: PLC0415

        return Callbacks(
            self.settings,
            self.queries,
            self.updates,
            self.queues,
            self.schedule,
            self.signing,
            self.client,
            self.drain,
        )

    @cached_property
    def signing(self) -> Signing:
        """The customers' signing secrets, for webhooks and callbacks."""
        from shared.webhooks.signing import Signing  # noqa: PLC0415

        return Signing(self.vault)

    @cached_property
    def provider_signing(self) -> Signing:
        """The secrets of providers' own webhooks. Made-up names read no more than those of webhooks alone."""
        from shared.webhooks.provider_signing import SigningConnections, is_owner  # noqa: PLC0415
        from shared.webhooks.signing import Signing  # noqa: PLC0415

        store = SigningConnections(self.vault) if self.vault else None
        return Signing(store, owner="connection", is_owner=is_owner, limits=self.signing.limits)

    @cached_property
    def provider_events(self) -> ProviderEvents:
        """Wakes what providers' own webhooks name."""
        from shared.batches.provider_events import ProviderEvents  # noqa: PLC0415

        return ProviderEvents(self.table, self.queues, self.settings.batches_queue, self.schedule)
