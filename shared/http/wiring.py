"""The door's own composition root: which room answers which route. Loaded with the first request."""

from __future__ import annotations

from typing import Protocol

from shared.billing.statements import Statements
from shared.connections.key_vault import KeyVaultCredentials
from shared.connections.probe import Trials
from shared.http.app import Door, Handler
from shared.http.connections import ConnectionsDoor
from shared.http.jobs import JobsDoor
from shared.http.openapi.routes import InterfaceDoor
from shared.http.usage import UsageDoor
from shared.http.webhooks import WebhooksDoor
from shared.jobs.base import JobServices
from shared.jobs.queries import Records
from shared.jobs.submission import Submissions
from shared.storage.base import Blobs, Table
from shared.webhooks.signing import Signing


class HttpServices(JobServices, Protocol):
    """The part of `shared.services.Services` that HTTP needs."""

    @property
    def table(self) -> Table:
        """The table of jobs and usage records."""

    @property
    def blobs(self) -> Blobs:
        """The blobs."""

    @property
    def vault(self) -> KeyVaultCredentials | None:
        """The key vault, if there is one."""

    @property
    def signing(self) -> Signing:
        """The customers' signing secrets."""


def open_door(services: HttpServices) -> Door:
    """Return the HTTP app on these services."""
    settings, table = services.settings, services.table
    submissions = Submissions(settings, services.ledger, services.queues, services.outputs, services.telemetry)
    jobs = JobsDoor(services.ledger, Records(table), services.inputs, services.outputs, submissions)
    interface = InterfaceDoor()
    webhooks = WebhooksDoor(settings, services.signing, services.blobs, jobs)
    connections = ConnectionsDoor(
        services.connections, services.vault, Trials(services.client, services.capabilities, table)
    )
    usage = UsageDoor(Statements(table))
    handlers: dict[str, Handler] = {
        "openapi": interface.document,
        "docs": interface.page,
        "submit_job": jobs.submit,
        "read_job": jobs.read,
        "read_result": jobs.read_result,
        "cancel_job": jobs.cancel,
        "list_jobs": jobs.list,
        "read_usage": usage.read,
        "list_connections": connections.list,
        "put_connection": connections.put,
        "read_connection": connections.read,
        "delete_connection": connections.delete,
        "test_connection": connections.test,
        "receive_webhook": webhooks.receive,
    }
    return Door(settings, handlers, services.telemetry)
