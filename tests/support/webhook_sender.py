"""A sender of webhooks, for tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.harness import Customer, Harness
from tests.support.http_client import HttpResponse, send
from tests.support.signatures import signed


@dataclass
class Sender:
    """Somebody who has a customer's signing secret."""

    customer: Customer
    secret: str

    async def send(
        self, body: Any, *, webhook_id: str = "msg_1", headers: Mapping[str, str] | None = None
    ) -> HttpResponse:
        """The response to a signed body."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        signature = signed(self.secret, data, webhook_id=webhook_id)
        return await post_webhook(self.customer.harness, self.customer.name, data, {**signature, **(headers or {})})

    def job(self, **members: Any) -> dict[str, Any]:
        """A job without its customer, whom the path names."""
        return {name: value for name, value in self.customer.job(**members).items() if name != "customer"}

    async def save_template(self, template: Any) -> None:
        """Stores the customer's template."""
        data = template if isinstance(template, bytes) else json.dumps(template).encode()
        harness = self.customer.harness
        container, name = harness.environment["TEMPLATES_CONTAINER"], f"{self.customer.name}/webhook.json"
        await harness.write_blob(container, name, data)


async def post_webhook(harness: Harness, customer: str, body: bytes, headers: Mapping[str, str]) -> HttpResponse:
    """The response to a webhook with this body and these headers."""
    return await send(harness, "POST", f"webhooks/{customer}", body=body, headers=headers)


def cloud_event(data: Any, **more: Any) -> dict[str, Any]:
    """A CloudEvent in structured JSON."""
    return {"specversion": "1.0", "id": "4711", "source": "/shop", "type": "com.example.order", "data": data} | more
