"""The HTTP app behind App Service authentication, with Storage in memory and without a vault."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from shared.services import Services
from shared.settings import Settings, read_settings
from shared.upstream.client import UpstreamClient
from tests.support.endpoint import Endpoint
from tests.support.fakes import MemoryTable
from tests.support.http_client import HttpResponse, send
from tests.support.principals import token
from tests.support.workers import Memory, open_worker

ROLES = ("Billing.Read", "Budgets.Write", "Prices.Write", "Connections.Write", "Jobs.Submit", "Jobs.Read")
OPERATOR = token(*ROLES, "Customers.All")
SETTINGS = read_settings(
    {"JobStorage": "UseDevelopmentStorage=true", "HTTP_AUTH": "entra", "WEBSITE_AUTH_ENABLED": "True"}
)


def tied(customer: str = "contoso") -> dict[str, str]:
    """Return the headers of a caller that is tied to a customer and has every role, Customers.All included."""
    return token(*ROLES, "Customers.All", customer=customer)


@dataclass
class MemoryApp:
    """The app. Requests are the operator's unless their headers say otherwise."""

    memory: Memory = field(default_factory=Memory)
    settings: Settings = SETTINGS

    def __post_init__(self) -> None:
        # Nothing calls an endpoint.
        endpoint, client = cast(Endpoint, None), cast(UpstreamClient, None)
        self.services: Services = open_worker(endpoint, client, memory=self.memory, settings=self.settings).services

    @property
    def table(self) -> MemoryTable:
        """The table."""
        return self.memory.table

    async def send(
        self, method: str, path: str, json_body: Any = None, headers: dict[str, str] = OPERATOR, **parts: Any
    ) -> HttpResponse:
        """Return the response to a request below `/api`."""
        return await send(self, method, path, json_body=json_body, headers=headers, **parts)
