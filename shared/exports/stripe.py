"""Stripe's meter events (docs.stripe.com/api/billing/meter-event/create): one a request, known for a day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

from shared.exports.events import Event
from shared.exports.receivers import KNOWN, ApiReceiver, Verdict, json_body, reason_of
from shared.upstream.messages import Response, UpstreamRequest

_DUPLICATE = "already exists with identifier"
"""Of Stripe's sentence about an `identifier` that it has: the response need not have a code."""
_DUPLICATE_CODE = "duplicate_meter_event"


@dataclass(frozen=True, slots=True)
class StripeReceiver(ApiReceiver):
    """
    Sends no `Idempotency-Key`: Stripe would repeat its first answer under it, even an error of its own.

    Stripe takes an event before it has looked for its customer and meter. What it lacks, it reports to webhooks there.
    """

    at_once: int = 1
    """Stripe's own limit, for each customer and meter."""
    window: timedelta | None = timedelta(hours=24)

    def request(self, events: Sequence[Event]) -> UpstreamRequest:
        """See ApiReceiver."""
        (event,) = events
        form = {
            "event_name": self.export.event,
            "identifier": event.id,
            "timestamp": str(int(event.at.timestamp())),
            "payload[stripe_customer_id]": event.subject,
            "payload[value]": event.value,
        }
        url = f"{self.export.url}/v1/billing/meter_events"
        return UpstreamRequest("POST", url, form={name: [text] for name, text in form.items()})

    def read(self, events: Sequence[Event], response: Response) -> Sequence[Verdict] | None:
        """See HttpReceiver."""
        if response.status != HTTPStatus.BAD_REQUEST:
            return None
        error = json_body(response).get("error")
        code = error.get("code") if isinstance(error, dict) else None
        is_duplicate = code == _DUPLICATE_CODE or _DUPLICATE in reason_of(response)
        return [KNOWN] * len(events) if is_duplicate else None
