"""Jobs over HTTP, for tests."""

from __future__ import annotations

import json
from typing import Any

from tests.support.harness import Customer
from tests.support.http_client import HttpResponse, send


async def post(customer: Customer, /, **members: Any) -> HttpResponse:
    """The response to submitting a job of the customer."""
    headers = members.pop("headers", {})
    return await send(customer.harness, "POST", "jobs", json_body=customer.job(**members), headers=headers)


async def run_queue(customer: Customer) -> list[dict[str, Any]]:
    """Runs the customer's messages as the trigger does. Returns the results."""
    results = [await customer.harness.deliver(body) for body in await customer.queued()]
    return [json.loads(result) for result in results if result is not None]
