"""
The HTTP routes, as a table: what the triggers register, who may, and what the OpenAPI document tells.

Imported when the app is loaded, so it knows nothing of what answers them (`shared.http`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["Jobs.Submit", "Jobs.Read", "Billing.Read", "Connections.Write"]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `role` is None for those that are open to everybody, or have a check of their own."""

    name: str
    method: str
    path: str
    role: Role | None
    summary: str


# Azure's host tries functions in the order of their names; no two of these fit one request. `GET /health`
# stands in function_app: it must answer even where the settings are wrong.
ROUTES = (
    Route("submit_job", "POST", "jobs", "Jobs.Submit", "Submits a job"),
    Route("read_job", "GET", "jobs/{customer}/{job_id}", "Jobs.Read", "What has become of a job"),
    Route("read_result", "GET", "jobs/{customer}/{job_id}/result", "Jobs.Read", "A job's result"),
    Route("cancel_job", "DELETE", "jobs/{customer}/{job_id}", "Jobs.Submit", "Calls off a job that has not started"),
    Route("list_jobs", "GET", "customers/{customer}/jobs", "Jobs.Read", "A customer's jobs, newest first"),
    Route("receive_webhook", "POST", "webhooks/{customer}", None, "A job, or an event that makes one, signed"),
    Route("read_usage", "GET", "customers/{customer}/usage", "Billing.Read", "A customer's statement of one month"),
    Route(
        "list_connections",
        "GET",
        "customers/{customer}/connections",
        "Connections.Write",
        "A customer's connections, without their keys",
    ),
    Route(
        "put_connection",
        "PUT",
        "customers/{customer}/connections/{name}",
        "Connections.Write",
        "Keeps a connection in Key Vault",
    ),
    Route(
        "read_connection",
        "GET",
        "customers/{customer}/connections/{name}",
        "Connections.Write",
        "A connection, without its key",
    ),
    Route(
        "delete_connection",
        "DELETE",
        "customers/{customer}/connections/{name}",
        "Connections.Write",
        "Removes a connection",
    ),
    Route(
        "test_connection",
        "POST",
        "customers/{customer}/connections/{name}/test",
        "Connections.Write",
        "Tries a connection with a small call",
    ),
    Route("openapi", "GET", "openapi.json", None, "This interface as OpenAPI 3.1"),
    Route("docs", "GET", "docs", None, "This interface as a page"),
)
