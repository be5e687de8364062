"""The door's own composition root: which room answers which route. Loaded with the first request."""

from __future__ import annotations

from dataclasses import dataclass

from shared.bench import Tools
from shared.connections import Connections
from shared.http.connections import ConnectionsDoor
from shared.http.door import Door, Handler
from shared.http.interface import InterfaceDoor
from shared.http.jobs import JobsDoor
from shared.http.usage import UsageDoor
from shared.http.webhooks import WebhooksDoor
from shared.key_vault import KeyVaultCredentials
from shared.records import Records
from shared.settings import Settings
from shared.signing import Signing
from shared.statements import Statements
from shared.stores import Blobs, Queues, Table
from shared.submissions import Submissions
from shared.trials import Trials


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
