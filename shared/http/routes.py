"""
The HTTP routes as a table: what the triggers register, which role each needs, and what the OpenAPI document lists.

Imported when the app is loaded, so it does not import the code that handles requests: each resource has a module with
its handlers, and `wiring` says which handler each route has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal[
    "Jobs.Submit", "Jobs.Read", "Billing.Read", "Connections.Write", "Budgets.Write", "Prices.Write", "Customers.All"
]
"""The roles of Entra tokens. None includes another."""


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. `role` is None if the route is open to everybody or checks a signature."""

    name: str
    method: str
    path: str
    role: Role | None
    summary: str
    is_operators: bool = False
    """Whether it is the operator's alone: a caller that is tied to a customer is refused, whatever its roles."""
    other_role: Role | None = None
    """A role that is enough in place of `role`. What each of the two gives access to, the handler checks."""
    refused_methods: tuple[str, ...] = ()
    """Methods that it responds 405 to, as its protocol wants it. To all others, the host responds 404."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of which a caller needs one; none if the route is open to everybody."""
        return tuple(filter(None, (self.role, self.other_role)))

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of its trigger: HEAD too if it takes GET. Azure's host sends no body in response to HEAD."""
        return ("GET", "HEAD") if self.method == "GET" else (self.method, *self.refused_methods)


_CONNECTIONS = "customers/{customer}/connections"
_CONNECTION = "customers/{customer}/connections/{name}"
_STATEMENTS = "customers/{customer}/statements"
_PROFILE = "customers/{customer}/profile"
_STATE = "customers/{customer}/state"
_ADJUSTMENTS = "customers/{customer}/adjustments"
_PROVIDER_EVENTS = "provider-events/{customer}/{connection}"
_BUDGETS = "customers/{customer}/budgets"
_BUDGET = f"{_BUDGETS}/{{name}}"

# Azure's host tries functions in the order of their names; no two of these match one request. `GET /health` is
# defined in function_app: it must respond even if the settings are invalid.
ROUTES = (
    Route("submit_job", "POST", "jobs", "Jobs.Submit", "Submit a job"),
    Route("read_job", "GET", "jobs/{customer}/{job_id}", "Jobs.Read", "Get a job's status"),
    Route("read_result", "GET", "jobs/{customer}/{job_id}/result", "Jobs.Read", "Get a job's result"),
    Route("cancel_job", "DELETE", "jobs/{customer}/{job_id}", "Jobs.Submit", "Cancel a job that has not started"),
    Route("list_customers", "GET", "customers", "Billing.Read", "List the customers"),
    Route("list_jobs", "GET", "customers/{customer}/jobs", "Jobs.Read", "List a customer's jobs"),
    Route("list_batches", "GET", "customers/{customer}/batches", "Jobs.Read", "List a customer's batches"),
    Route("receive_webhook", "POST", "webhooks/{customer}", None, "Submit a job by a signed webhook"),
    Route("receive_provider_event", "POST", _PROVIDER_EVENTS, None, "Take an event of a provider's own webhooks"),
    Route("read_usage", "GET", "customers/{customer}/usage", "Billing.Read", "Get a customer's statement"),
    Route("read_all_usage", "GET", "usage", "Billing.Read", "Get what each customer used"),
    Route("list_statements", "GET", _STATEMENTS, "Billing.Read", "List a customer's closed months"),
    Route("read_statement", "GET", f"{_STATEMENTS}/{{statement}}", "Billing.Read", "Get a closed month"),
    Route("read_profile", "GET", _PROFILE, "Billing.Read", "Get a customer's profile"),
    Route("put_profile", "PUT", _PROFILE, "Prices.Write", "Replace a customer's profile", is_operators=True),
    Route("read_state", "GET", _STATE, "Billing.Read", "Get whether a customer's jobs are run"),
    Route("put_state", "PUT", _STATE, "Prices.Write", "Suspend a customer, or end its suspension", is_operators=True),
    Route(
        "list_adjustments",
        "GET",
        _ADJUSTMENTS,
        "Billing.Read",
        "List a customer's credits and debits",
        is_operators=True,
    ),
    Route("add_adjustment", "POST", _ADJUSTMENTS, "Prices.Write", "Add a credit or debit", is_operators=True),
    Route(
        "list_audit",
        "GET",
        "customers/{customer}/audit",
        "Billing.Read",
        "List what was changed for a customer",
        is_operators=True,
    ),
    Route("list_budgets", "GET", _BUDGETS, "Billing.Read", "List a customer's budgets"),
    Route("read_budget", "GET", _BUDGET, "Billing.Read", "Get a budget"),
    Route("put_budget", "PUT", _BUDGET, "Budgets.Write", "Make or replace a budget"),
    Route("delete_budget", "DELETE", _BUDGET, "Budgets.Write", "Delete a budget"),
    Route("list_connections", "GET", _CONNECTIONS, "Connections.Write", "List a customer's connections"),
    Route("put_connection", "PUT", _CONNECTION, "Connections.Write", "Create or replace a connection"),
    Route("read_connection", "GET", _CONNECTION, "Connections.Write", "Get a connection without its key"),
    Route("delete_connection", "DELETE", _CONNECTION, "Connections.Write", "Delete a connection"),
    Route("test_connection", "POST", f"{_CONNECTION}/test", "Connections.Write", "Test a connection"),
    Route(
        "use_tools",
        "POST",
        "mcp",
        "Jobs.Submit",
        "Use the tools for agents",
        other_role="Jobs.Read",
        refused_methods=("GET", "DELETE"),
    ),
    Route("openapi", "GET", "openapi.json", None, "Get this API as an OpenAPI 3.1 document"),
    Route("docs", "GET", "docs", None, "Get this API as a page"),
    Route("console", "GET", "console", None, "Get the page that shows usage, budgets, jobs and statements"),
)
