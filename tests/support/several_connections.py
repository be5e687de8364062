"""Jobs that name several connections: what they name, and what their results say about them."""

from __future__ import annotations

from typing import Any

from tests.support.customers import Customer
from tests.support.endpoint import Account, error
from tests.support.workers import Worker

BOTH = ["default", "second"]
NO_QUOTA = error(429, code="insufficient_quota")
NO_MODEL = error(404, code="DeploymentNotFound")


def connect_second(worker: Worker, customer: Customer) -> Account:
    """Store another connection of the customer, to an account of its own; return that."""
    other = Customer(customer.name, worker.endpoint.account())
    worker.connect(other, "second")
    return other.account


def served(result: dict[str, Any]) -> tuple[str, str, list[tuple[str, str]]]:
    """Return the job's status, the connection that served it, and which were skipped and why."""
    connection = result["connection"]
    return (
        result["status"],
        connection["name"],
        [(each["name"], each["code"]) for each in connection.get("skipped", [])],
    )
