"""Connections over HTTP, for tests."""

from __future__ import annotations

from typing import Any

from shared.http.connections import ConnectionsResource
from tests.support.harness import Customer, Harness
from tests.support.http_client import HttpResponse, send


def members(customer: Customer, **others: Any) -> dict[str, Any]:
    """The members of a connection to the customer's account."""
    return {
        "endpoint": f"{customer.harness.endpoint.url}/openai/v1",
        "provider": "azure_openai",
        "api_key": customer.account.key,
        "default_model": "gpt-4o",
    } | others


async def call(
    customer: Customer, method: str, name: str = "default", *, action: str = "", **more: Any
) -> HttpResponse:
    """The response to a request for one connection."""
    return await send(customer.harness, method, f"customers/{customer.name}/connections/{name}{action}", **more)


async def put(
    customer: Customer, name: str = "default", /, *, headers: dict[str, str] | None = None, **others: Any
) -> HttpResponse:
    """The response to storing a connection to the customer's account."""
    return await call(customer, "PUT", name, json_body=members(customer, **others), headers=headers)


async def run_test(customer: Customer, name: str = "default", **request: Any) -> dict[str, Any]:
    """The outcome of testing a connection."""
    response = await call(customer, "POST", name, action="/test", json_body=request)
    assert 200 == response.status, response.body
    assert response.json["ok"] == ("code" not in response.json)
    outcome: dict[str, Any] = response.json
    return outcome


def resource(harness: Harness) -> ConnectionsResource:
    """The resource that handles the routes of connections."""
    handler: Any = harness.services.http.handlers["put_connection"]
    return handler.__wrapped__.__self__
