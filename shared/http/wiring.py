"""The door's own composition root: which room answers which route. Loaded with the first request."""

from __future__ import annotations

from dataclasses import dataclass

from shared.billing.statements import Statements
from shared.connections.key_vault import KeyVaultCredentials
from shared.connections.probe import Trials
from shared.connections.resolver import Connections
from shared.http.app import Door, Handler
from shared.http.connections import ConnectionsDoor
from shared.http.jobs import JobsDoor
from shared.http.openapi.routes import InterfaceDoor
from shared.http.usage import UsageDoor
from shared.http.webhooks import WebhooksDoor
from shared.jobs.context import Tools
from shared.jobs.queries import Records
from shared.jobs.submission import Submissions
from shared.settings import Settings
from shared.storage.base import Blobs, Queues, Table
from shared.webhooks.signing import Signing


@dataclass(frozen=True, slots=True)
class Parts:
    """What the door's rooms are made of."""

    settings: Settings
    tools: Tools
    connections: Connections
    table: Table
    blobs: Blobs
    queues: Queues
    secrets: KeyVaultCredentials | None
    signing: Signing


def open_door(parts: Parts) -> Door:
    """The door of the app that these are the parts of."""
    settings, tools, table = parts.settings, parts.tools, parts.table
    submissions = Submissions(settings, tools.ledger, parts.queues, tools.outputs, tools.telemetry)
    jobs = JobsDoor(tools.ledger, Records(table), tools.inputs, tools.outputs, submissions)
    interface = InterfaceDoor()
    webhooks = WebhooksDoor(settings, parts.signing, parts.blobs, jobs)
    connections = ConnectionsDoor(parts.connections, parts.secrets, Trials(tools.transport, tools.adaptations, table))
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
    return Door(settings, handlers, tools.telemetry)
