"""The door's own composition root: which room answers which route. Loaded with the first request."""

from __future__ import annotations

from dataclasses import dataclass

from shared.bench import Tools
from shared.connections import Connections
from shared.http.door import Door, Handler
from shared.http.jobs import JobsDoor
from shared.key_vault import KeyVaultCredentials
from shared.records import Records
from shared.settings import Settings
from shared.stores import Blobs, Queues, Table
from shared.submissions import Submissions


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


def open_door(parts: Parts) -> Door:
    """The door of the app that these are the parts of."""
    settings, tools, table = parts.settings, parts.tools, parts.table
    submissions = Submissions(settings, tools.ledger, parts.queues, tools.outputs)
    jobs = JobsDoor(tools.ledger, Records(table), tools.inputs, tools.outputs, submissions)
    handlers: dict[str, Handler] = {
        "submit_job": jobs.submit,
        "read_job": jobs.read,
        "read_result": jobs.read_result,
        "cancel_job": jobs.cancel,
        "list_jobs": jobs.list,
    }
    return Door(settings, handlers)
