"""
Events that a provider sends by its own webhooks, signed with the secret that it made for the connection.

They only say that something may have changed at the provider. As with webhooks, what no secret has signed gets the same
response for every name; and what one has signed gets the same response whatever it says.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.batches.provider_events import ProviderEvents
from shared.http.auth import Caller
from shared.http.messages import Request, Response
from shared.http.problems import Problem
from shared.http.request_parsing import check_body
from shared.webhooks.provider_signing import owner_of
from shared.webhooks.signing import Signing

MAX_EVENT_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class ProviderEventsResource:
    """The route of providers' events."""

    signing: Signing
    events: ProviderEvents

    async def receive(self, request: Request, _: Caller) -> Response:
        """`POST /provider-events/{customer}/{connection}`: 204 after the signature is verified, else 401."""
        check_body(request, limit=MAX_EVENT_BYTES)
        customer, connection = request.params["customer"], request.params["connection"]
        if not await self.signing.verify(owner_of(customer, connection), request.body, request.headers):
            message = "The event's signature is missing, invalid or more than five minutes off."
            raise Problem(401, "unauthorized", message)
        await self.events.receive(customer, connection, request.body)
        return Response(204)
