"""The composition root of the HTTP app: which handler each route has. Imported with the first request."""

from __future__ import annotations

from typing import Protocol

from shared.batches.provider_events import ProviderEvents
from shared.batches.queries import BatchQueries
from shared.billing.adjustments import Adjustments
from shared.billing.audit import AuditTrail
from shared.billing.budget_views import BudgetViews
from shared.billing.customer_pricing import CustomerPricing
from shared.billing.outbox import Outbox
from shared.billing.price_books import PriceBooks
from shared.billing.statements import Statements
from shared.connections.key_vault import KeyVaultCredentials
from shared.connections.probe import ConnectionProbe
from shared.http.adjustments import AdjustmentsResource
from shared.http.app import Handler, HttpApp
from shared.http.audit import AuditResource
from shared.http.batches import BatchesResource
from shared.http.budgets import BudgetsResource
from shared.http.connections import ConnectionsResource
from shared.http.console import ConsoleResource
from shared.http.customer_profile import CustomerProfileResource
from shared.http.customers import CustomersResource
from shared.http.documentation import DocumentationResource
from shared.http.jobs import JobsResource
from shared.http.mcp import McpResource
from shared.http.provider_events import ProviderEventsResource
from shared.http.shares import (
    LIST_WEIGHT,
    MAX_CONNECTION_TESTS,
    MAX_STATEMENTS,
    MAX_VAULT_REQUESTS,
    OVERVIEW_WEIGHT,
    within_share,
)
from shared.http.statements import StatementsResource
from shared.http.usage import UsageResource
from shared.http.webhooks import WebhooksResource
from shared.jobs.base import JobServices
from shared.shares import Shares
from shared.storage.base import Blobs, Table
from shared.webhooks.signing import Signing
from shared.webhooks.template_store import TemplateStore


class HttpServices(JobServices, Protocol):
    """The part of `shared.services.Services` that HTTP needs."""

    @property
    def table(self) -> Table:
        """The table of jobs and usage records."""

    @property
    def blobs(self) -> Blobs:
        """The blobs."""

    @property
    def price_books(self) -> PriceBooks:
        """What calls cost."""

    @property
    def outbox(self) -> Outbox:
        """What has usage records exported."""

    @property
    def vault(self) -> KeyVaultCredentials | None:
        """The key vault, if there is one."""

    @property
    def signing(self) -> Signing:
        """The customers' signing secrets."""

    @property
    def provider_signing(self) -> Signing:
        """The secrets of providers' events."""

    @property
    def provider_events(self) -> ProviderEvents:
        """What those events wake."""


def make_http_app(services: HttpServices) -> HttpApp:
    """Return the HTTP app on these services."""
    settings, table = services.settings, services.table
    jobs = JobsResource(
        services.updates,
        services.queries,
        services.inputs,
        services.outputs,
        services.submissions,
        services.schedule,
        services.drain,
    )
    templates = TemplateStore(services.blobs, settings.templates_container)
    webhooks = WebhooksResource(settings, services.signing, templates, jobs)
    probe = ConnectionProbe(services.client, services.capabilities, services.outbox)
    connections = ConnectionsResource(services.connections, services.vault, probe, AuditTrail(table))
    customers = CustomersResource(table, services.vault)
    profile = CustomerProfileResource(settings, services.customer_records)
    adjustments = AdjustmentsResource(Adjustments(table), services.closing.facts)
    audit = AuditResource(AuditTrail(table))
    budgets = BudgetsResource(settings, BudgetViews(services.budgets))
    usage = UsageResource(table, Statements(table), CustomerPricing(services.price_books, services.customer_records))
    statement_shares = Shares(MAX_STATEMENTS)
    statements = StatementsResource(services.closing)
    documentation = DocumentationResource()
    vault_requests = Shares(MAX_VAULT_REQUESTS)
    handlers: dict[str, Handler] = {
        "submit_job": jobs.submit,
        "read_job": jobs.read,
        "read_result": jobs.read_result,
        "cancel_job": jobs.cancel,
        "list_jobs": jobs.list,
        "list_batches": BatchesResource(BatchQueries(table)).list,
        "list_customers": within_share(customers.list, vault_requests, LIST_WEIGHT),
        "receive_webhook": webhooks.receive,
        "receive_provider_event": ProviderEventsResource(services.provider_signing, services.provider_events).receive,
        "read_usage": within_share(usage.read, statement_shares),
        "read_all_usage": within_share(usage.read_all, statement_shares, OVERVIEW_WEIGHT),
        "read_profile": profile.read_profile,
        "put_profile": profile.put_profile,
        "read_state": profile.read_state,
        "put_state": profile.put_state,
        "list_adjustments": adjustments.list,
        "add_adjustment": adjustments.add,
        "list_audit": audit.list,
        "list_statements": statements.list,
        "read_statement": statements.read,
        "list_budgets": budgets.list,
        "read_budget": budgets.read,
        "put_budget": budgets.put,
        "delete_budget": budgets.delete,
        "list_connections": within_share(connections.list, vault_requests, LIST_WEIGHT),
        "put_connection": within_share(connections.put, vault_requests),
        "read_connection": within_share(connections.read, vault_requests),
        "delete_connection": within_share(connections.delete, vault_requests),
        "test_connection": within_share(connections.test, Shares(MAX_CONNECTION_TESTS)),
        "use_tools": McpResource(settings, jobs).respond,
        "openapi": documentation.openapi,
        "docs": documentation.page,
        "console": ConsoleResource().page,
    }
    return HttpApp(settings, handlers, services.telemetry)
